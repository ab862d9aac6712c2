"""A key of an installation's own over its manifests: whoever edits a file on the volume can't make a valid one.

Without a key, as on a laptop, manifests are neither keyed nor checked. Every step that reads manifests has the key, so
it does not hold against a step that was taken over.
"""

import hmac
import os
from collections.abc import Mapping

from echoplane.errors import ConfigError

VARIABLE = "ECHOPLANE_MANIFEST_KEY"
MIN_CHARACTERS = 32


def manifest_key(environment: Mapping[str, str] = os.environ) -> bytes | None:
    """Returns the key in ECHOPLANE_MANIFEST_KEY, None if it is unset. Raises ConfigError if it is short."""
    key = environment.get(VARIABLE, "")
    if key and len(key) < MIN_CHARACTERS:
        raise ConfigError(f"{VARIABLE} has {len(key)} characters; {MIN_CHARACTERS} at least are needed.")
    return key.encode() or None


def code_of(content: bytes, key: bytes) -> str:
    """Returns the HMAC-SHA256 of a manifest's content."""
    return hmac.digest(key, content, "sha256").hex()


def is_valid(code: object, content: bytes, key: bytes) -> bool:
    return isinstance(code, str) and hmac.compare_digest(code.encode(), code_of(content, key).encode())
