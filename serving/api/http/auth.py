"""Access control of the routes: bearer tokens from a file or of an OpenID Connect provider; denied by default.

Without either, only clients on this machine's loopback interface are answered, unless the operator allows others.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from starlette.requests import Request

from echoplane.errors import ConfigError
from echoplane.settings import ServingSettings
from echoplane.tokens import ROLES, Role, TokenEntry, find_token, read_tokens
from serving.api.http import problems
from serving.api.http.oidc import KeysUnavailable, Oidc, is_safe
from serving.api.http.pages import OPEN_PATHS
from serving.loopback import came_by_loopback

log = logging.getLogger("echoplane.serving")

OPEN = frozenset({"/livez", "/readyz"}) | OPEN_PATHS
ANY_ROLE = ("/v1/models", "/docs", "/openapi.json")
MAX_CALLERS = 10_000
"""Maximum number of callers whose request rate is remembered."""


@dataclass(frozen=True)
class Caller:
    """Authenticated caller and its address."""

    name: str
    site: str
    roles: frozenset[Role]


ANONYMOUS = Caller("anonymous", "none", frozenset(ROLES))
NOBODY = Caller("unknown", "none", frozenset())


def caller_key(request: Request) -> str:
    """Returns what a caller is known by among those who share the service: its name, or without authentication its
    address."""
    caller: Caller = request.state.caller
    address = request.client.host if request.client else ""
    return address if caller is ANONYMOUS else caller.name


class Access:
    """Access check that every route depends on; `roles` gives a path's role, any other path requires `operate`."""

    def __init__(self, settings: ServingSettings, roles: Mapping[str, Role]) -> None:
        self._settings, self._roles = settings, roles
        self._file = _TokenFile(Path(settings.token_file)) if settings.token_file else None
        self._oidc = _oidc(settings)
        self._rates = _Rates(settings.requests_per_minute)

    async def __call__(self, request: Request) -> None:
        """Lets the request pass. Raises Problem: 401, 403, 429, or 503 if no caller can be authenticated now."""
        path = request.scope["path"]
        if path in OPEN:
            return
        caller = await self._caller(request)
        request.state.caller = caller
        if not caller.roles & self._roles_for(path):
            raise problems.forbidden(caller.roles)
        if caller is not ANONYMOUS and (wait_s := self._rates.wait_s(caller.name)):
            raise problems.rate_limit(wait_s)

    def _roles_for(self, path: str) -> frozenset[Role]:
        if path in ANY_ROLE:
            return frozenset(ROLES)
        return frozenset({self._roles.get(path, "operate")})

    async def _caller(self, request: Request) -> Caller:
        if not (self._file or self._oidc):
            if self._settings.allow_unauthenticated or came_by_loopback(request.scope):
                return ANONYMOUS
            raise problems.needs_authentication()
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise problems.unauthenticated()
        caller = self._by_file(token) or await self._by_provider(token)
        if caller is None:
            raise problems.unauthenticated()
        return caller

    def _by_file(self, token: str) -> Caller | None:
        if self._file is None:
            return None
        try:
            entry = find_token(token, self._file.entries())
        except ConfigError as error:
            log.error("%s Nobody is let in.", error)  # noqa: TRY400  the message says it all
            raise problems.access_unavailable() from None
        return Caller(entry.name, entry.site, frozenset(entry.roles)) if entry else None

    async def _by_provider(self, token: str) -> Caller | None:
        if self._oidc is None:
            return None
        try:
            claims = await self._oidc.claims(token)
        except KeysUnavailable:
            raise problems.access_unavailable() from None
        return _caller_of(claims, self._settings) if claims else None


def _caller_of(claims: dict[str, Any], settings: ServingSettings) -> Caller:
    listed = claims.get(settings.oidc_roles_claim) or []
    given = listed.split() if isinstance(listed, str) else listed if isinstance(listed, list) else []
    roles = frozenset(role for role in get_args(Role) if role in given)
    return Caller(str(claims.get("sub", "unknown"))[:64], str(claims.get(settings.oidc_site_claim, "none"))[:64], roles)


def _oidc(settings: ServingSettings) -> Oidc | None:
    if not settings.oidc_issuer:
        return None
    if not settings.oidc_audience:
        raise ConfigError("ECHOPLANE_OIDC_ISSUER needs ECHOPLANE_OIDC_AUDIENCE: else any token of the issuer would do.")
    for name, url in (("ISSUER", settings.oidc_issuer), ("KEYS_URL", settings.oidc_keys_url)):
        if url and not is_safe(url):
            raise ConfigError(
                f"ECHOPLANE_OIDC_{name}: expected https://HOST/PATH. Over http, whoever is on the way could give other "
                "keys, and sign tokens with any role."
            )
    return Oidc(settings.oidc_issuer, settings.oidc_audience, settings.oidc_keys_url)


class _TokenFile:
    """Entries of a token file, read again if the file has changed; an unreadable file admits no caller."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, TokenEntry] = {}
        self._read: tuple[int, int, int] | None = None

    def entries(self) -> dict[str, TokenEntry]:
        try:
            stat = self._path.stat()
        except OSError:
            self._read = None
            raise ConfigError("the token file cannot be read.") from None
        state = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if state != self._read:
            self._read = None
            self._entries = read_tokens(self._path)
            self._read = state
        return self._entries


class _Rates:
    """Token bucket per caller: `per_minute` requests at once, refilled evenly."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str) -> float:
        """Counts one request; returns 0 if it may pass, else the time until one may."""
        now_s, rate = time.monotonic(), self._per_minute / 60
        left, seen_s = self._left.pop(caller, (float(self._per_minute), now_s))
        left = min(self._per_minute, left + (now_s - seen_s) * rate)
        wait_s = 0.0 if left >= 1 else (1 - left) / rate
        self._left[caller] = (left - 1 if left >= 1 else left, now_s)
        if len(self._left) > MAX_CALLERS:
            self._left.popitem(last=False)
        return wait_s
