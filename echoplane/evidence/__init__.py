"""Evidence of a release: why a model serves or served (`echoplane why`), and the pack that proves it later."""

from echoplane.evidence.pack import make_pack, verify_pack
from echoplane.evidence.release import Release

__all__ = ["Release", "make_pack", "verify_pack"]
