"""The monitor's HTTP routes: /metrics, the page at /, /livez, Alertmanager's webhook at /v1/alerts, and decisions on
retraining at /v1/retraining."""

import secrets
from importlib import resources

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from serving.bodies import TooLarge, read_body
from serving.loopback import came_by_loopback
from serving.monitor.decisions import Decisions
from serving.monitor.page import page
from serving.monitor.trigger import Notification
from serving.monitor.watcher import Watcher

MAX_BODY_BYTES = 1 << 20
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'self'; connect-src 'self'"
HEADERS = {"Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'"}


def build(watcher: Watcher, token: str, token_file: str = "") -> Starlette:
    """Returns the app. With a `token`, the webhook demands it as bearer token; without, only this machine's programs
    may call it. `token_file` says who may decide."""
    decisions = Decisions(watcher.trigger.audit, token_file)
    script = resources.files(__package__).joinpath("page.js").read_text()

    def metrics(_: Request) -> Response:
        return Response(watcher.gauges.exposition(), headers={"content-type": EXPOSITION})

    def livez(_: Request) -> Response:
        return PlainTextResponse("ok") if watcher.is_alive() else PlainTextResponse("the loop ended", 503)

    def report(_: Request) -> Response:
        return HTMLResponse(page(watcher, decides=bool(token_file)), headers=HEADERS)

    def page_script(_: Request) -> Response:
        return Response(script, headers={"content-type": "text/javascript; charset=utf-8"})

    async def alerts(request: Request) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        allowed = secrets.compare_digest(given.encode(), token.encode()) if token else came_by_loopback(request.scope)
        if not allowed:
            return JSONResponse({"problem": "send the token of ECHOPLANE_WEBHOOK_TOKEN_FILE."}, 401)
        try:
            notification = Notification.model_validate_json(await read_body(request, MAX_BODY_BYTES))
        except TooLarge as error:
            return JSONResponse({"problem": str(error)}, 413)
        except ValidationError:
            return JSONResponse({"problem": "the body is no notification of Alertmanager, version 4."}, 400)
        concerned = await run_in_threadpool(watcher.trigger.notify, notification)
        return JSONResponse({"alerts": concerned})

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/livez", livez),
            Route("/", report),
            Route("/page.js", page_script),
            Route("/v1/alerts", alerts, methods=["POST"]),
            Route("/v1/retraining", decisions.post, methods=["POST"]),
        ]
    )
