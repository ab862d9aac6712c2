"""The monitor's HTTP routes: /metrics, the page at /, /livez, and Alertmanager's webhook at /v1/alerts."""

import secrets

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from serving.monitor.page import page
from serving.monitor.trigger import Notification
from serving.monitor.watcher import Watcher

MAX_BODY_BYTES = 1 << 20
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:"}


def build(watcher: Watcher, token: str) -> Starlette:
    """Returns the app. With a `token`, the webhook demands it as bearer token."""

    def metrics(_: Request) -> Response:
        return Response(watcher.gauges.exposition(), headers={"content-type": EXPOSITION})

    def livez(_: Request) -> Response:
        return PlainTextResponse("ok") if watcher.is_alive() else PlainTextResponse("the loop ended", 503)

    def report(_: Request) -> Response:
        return HTMLResponse(page(watcher), headers=HEADERS)

    async def alerts(request: Request) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and not secrets.compare_digest(given.encode(), token.encode()):
            return JSONResponse({"problem": "send the token of ECHOPLANE_WEBHOOK_TOKEN_FILE."}, 401)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                return JSONResponse({"problem": f"the body is larger than {MAX_BODY_BYTES} bytes."}, 413)
        try:
            notification = Notification.model_validate_json(bytes(body))
        except ValidationError:
            return JSONResponse({"problem": "the body is no notification of Alertmanager, version 4."}, 400)
        concerned = await run_in_threadpool(watcher.trigger.notify, notification)
        return JSONResponse({"alerts": concerned})

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/livez", livez),
            Route("/", report),
            Route("/v1/alerts", alerts, methods=["POST"]),
        ]
    )
