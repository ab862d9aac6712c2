"""Access tokens of an OpenID Connect provider: signed JWTs, checked against its published keys (RFC 7519, RFC 7517)."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
"""Accepted signature algorithms, all asymmetric: with a symmetric one, anyone who knows the public key could sign;
`none` does not sign at all."""
LEEWAY_S = 30
KEYS_VALID_S = 3600.0
REFETCH_S = 30.0
"""Minimum time between two fetches of the keys: tokens with an invented key id cannot cause more requests to the
provider."""
TIMEOUT_S = 5.0
MAX_KEYS_BYTES = 1 << 20
LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")


def is_safe(url: str) -> bool:
    """Returns True if nobody on the way to `url` can change what it answers: https, or an address of this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOCAL_HOSTS)


class KeysUnavailable(Exception):
    """Raised if the provider's keys cannot be fetched and none are cached."""


@dataclass
class Oidc:
    """Cached keys of the issuer, and the requirements on its tokens."""

    issuer: str
    audience: str
    keys_url: str
    """URL of the keys. Empty: taken from the issuer's discovery document (OpenID Connect Discovery 1.0, 4)."""
    _keys: KeySet | None = None
    _fetched_s: float = -KEYS_VALID_S
    _tried_s: float = -KEYS_VALID_S
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def claims(self, token: str) -> dict[str, Any] | None:
        """Returns the claims of a valid token, or None. Raises KeysUnavailable."""
        keys = await self._current(time.monotonic() - self._fetched_s > KEYS_VALID_S)
        try:
            return self._decode(token, keys)
        except (JoseError, ValueError):
            keys_then, keys = keys, await self._current(must_fetch=True)
        if keys is keys_then:
            return None
        try:
            return self._decode(token, keys)  # the provider has changed its keys
        except (JoseError, ValueError):
            return None

    def _decode(self, token: str, keys: KeySet) -> dict[str, Any]:
        decoded = jwt.decode(token, keys, algorithms=ALGORITHMS)
        demanded = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self.audience},
            exp={"essential": True},
        )
        demanded.validate(decoded.claims)
        return dict(decoded.claims)

    async def _current(self, must_fetch: bool) -> KeySet:
        async with self._lock:
            if must_fetch and time.monotonic() - self._tried_s > REFETCH_S:
                self._tried_s = time.monotonic()
                try:
                    self._keys = await self._fetch()
                    self._fetched_s = time.monotonic()
                except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError):
                    pass  # the old keys, if there are any, stay valid
            if self._keys is None:
                raise KeysUnavailable
            return self._keys

    async def _fetch(self) -> KeySet:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client:
            url = self.keys_url
            if not url:
                found = await client.get(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
                url = str(found.raise_for_status().json()["jwks_uri"])
            if not is_safe(url):
                raise ValueError("the address of the provider's keys is not https")
            answer = (await client.get(url)).raise_for_status()
        if len(answer.content) > MAX_KEYS_BYTES:
            raise ValueError("the provider's key set is too large")
        return KeySet.import_key_set(answer.json())
