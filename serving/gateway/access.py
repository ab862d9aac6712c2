"""Access to the gateway's HTTP interface: tokens of `echoplane token`; without a token file, this machine alone."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException, Request

from echoplane.errors import ConfigError
from echoplane.tokens import Role, find_bearer
from serving.gateway.settings import GatewaySettings
from serving.loopback import came_by_loopback

log = logging.getLogger("echoplane.gateway")


@dataclass(frozen=True)
class Caller:
    """A caller, and the site whose studies it may store and read; None for every site, on this machine."""

    name: str
    site: str | None


class Access:
    """Decides who may call a route."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._token_file = settings.http_token_file

    def needs(self, role: Role) -> Callable[[Request], Caller]:
        """Returns the dependency of a route that needs `role`; it raises HTTPException 401 or 403."""

        def check(request: Request) -> Caller:
            return self._caller(request, role)

        return check

    def _caller(self, request: Request, role: Role) -> Caller:
        if not self._token_file:
            if came_by_loopback(request.scope):
                return Caller("this machine", None)
            raise HTTPException(403, "set ECHOPLANE_GATEWAY_HTTP_TOKEN_FILE to admit other machines, names and pages")
        try:
            entry = find_bearer(request.headers.get("authorization", ""), Path(self._token_file))
        except ConfigError as error:
            log.error("%s Nobody is let in.", error)  # noqa: TRY400  the message says it all
            raise HTTPException(503, "tokens cannot be checked now") from None
        if entry is None:
            raise HTTPException(401, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"})
        if role not in entry.roles:
            raise HTTPException(403, f"the token lacks the role {role}")
        return Caller(entry.name, entry.site)
