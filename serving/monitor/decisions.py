"""Decisions on retraining over HTTP: who decides is the name of the token, which needs the role `operate`."""

import getpass
import logging
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse

from echoplane.errors import ConfigError
from echoplane.monitoring.retraining import AuditFile, Event, decision
from echoplane.tokens import find_bearer
from serving.bodies import TooLarge, read_body

ROLE = "operate"
MAX_BODY_BYTES = 10_000

log = logging.getLogger("echoplane.monitor")


class Decision(BaseModel):
    """Body of `POST /v1/retraining`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["approved", "rejected", "stopped", "resumed"]
    request: str = Field(default="", max_length=64)
    """Id of the request; empty for `stopped` and `resumed`."""
    reason: str = Field(default="", max_length=500)


class Decisions:
    """The route. Without a `token_file`, which `echoplane token` makes, every decision is refused."""

    def __init__(self, audit: AuditFile, token_file: str) -> None:
        self._audit, self._token_file = audit, token_file

    async def post(self, request: Request) -> JSONResponse:
        """Adds a decision to the audit file; the monitor carries it out within its poll."""
        status, name = await run_in_threadpool(self._caller, request.headers.get("authorization", ""))
        if status != 200:
            return JSONResponse({"problem": name}, status)
        try:
            asked = Decision.model_validate_json(await read_body(request, MAX_BODY_BYTES))
        except TooLarge as error:
            return JSONResponse({"problem": str(error)}, 413)
        except ValidationError:
            problem = "send JSON with `kind` (approved, rejected, stopped or resumed), `request` and `reason`."
            return JSONResponse({"problem": problem}, 400)
        try:
            event = await run_in_threadpool(self._decide, asked, name)
        except ConfigError as error:
            return JSONResponse({"problem": str(error)}, 409)
        log.warning("%s %s %s", name, asked.kind, asked.request)
        return JSONResponse(event.model_dump(mode="json"))

    def _caller(self, authorization: str) -> tuple[int, str]:
        """Returns 200 and the name of the caller's token, or another status and what is wrong."""
        if not self._token_file:
            return 403, "decisions over HTTP are off; set ECHOPLANE_MONITOR_TOKEN_FILE, or use `echoplane retrain`."
        try:
            entry = find_bearer(authorization, Path(self._token_file))
        except ConfigError as error:
            log.error("%s Nobody is let in.", error)  # noqa: TRY400  the message says it all
            return 503, "tokens cannot be checked now."
        if entry is None:
            return 401, "a valid bearer token is needed; `echoplane token new` makes one."
        return (200, entry.name) if ROLE in entry.roles else (403, f"the token lacks the role {ROLE}.")

    def _decide(self, asked: Decision, name: str) -> Event:
        def decide(events: list[Event]) -> Event:
            user = f"{getpass.getuser()}, over HTTP"
            return decision(events, asked.kind, asked.request, by=name, user=user, reason=asked.reason)

        event = self._audit.append(decide)
        if event is None:  # `decide` always returns one or raises
            raise AssertionError
        return event
