"""Trust for tests that are about something else: every registered version may be loaded."""

from echoplane.adapters.trust import ModelTrust
from echoplane.signing import TrustedKeys

ANYONE = ModelTrust(lambda: TrustedKeys(schema=1), allow_unsigned=True)
