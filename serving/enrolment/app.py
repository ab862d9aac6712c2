"""Routes of the enrolment: /v1/enrol by an invitation, /v1/renew by the present certificate, /livez."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from echoplane.edge.enrolment import Enrolment, Refused
from serving.bodies import TooLarge, read_body

MAX_BODY_BYTES = 16 << 10

log = logging.getLogger("echoplane.enrolment")


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    request: str
    """Certificate request in PEM."""


class Enrol(_Asked):
    """Body of /v1/enrol."""

    secret: str
    """Secret of the invitation."""


class Renew(_Asked):
    """Body of /v1/renew."""

    certificate: str
    """The device's present certificate in PEM."""


Asked = TypeVar("Asked", Enrol, Renew)


def build(enrolment: Enrolment, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Starlette:
    """Returns the app. `clock` gives the present time."""

    async def enrol(request: Request) -> Response:
        return await _answered(request, Enrol, lambda asked: enrolment.enrol(asked.secret, asked.request, clock()))

    async def renew(request: Request) -> Response:
        return await _answered(request, Renew, lambda asked: enrolment.renew(asked.certificate, asked.request, clock()))

    async def _answered(request: Request, body: type[Asked], issue: Callable[[Asked], str]) -> Response:
        try:
            asked = body.model_validate_json(await read_body(request, MAX_BODY_BYTES))
            certificate = await run_in_threadpool(issue, asked)
        except TooLarge as error:
            return JSONResponse({"problem": str(error)}, 413)
        except ValidationError:
            return JSONResponse({"problem": "the body is not what a device sends."}, 400)
        except Refused as error:
            log.warning("%s refused: %s", request.url.path, error)
            return JSONResponse({"problem": str(error)}, 403)
        log.info("%s: a certificate was issued", request.url.path)
        authority, root = enrolment.authority.decode(), enrolment.root.decode()
        return JSONResponse({"certificate": certificate, "authority": authority, "root": root})

    def livez(_: Request) -> Response:
        return PlainTextResponse("ok")

    posts = [Route("/v1/enrol", enrol, methods=["POST"]), Route("/v1/renew", renew, methods=["POST"])]
    return Starlette(routes=[*posts, Route("/livez", livez)])
