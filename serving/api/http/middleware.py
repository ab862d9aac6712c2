"""Middleware around the whole app: request id, security headers, one log line and one count per request, and a response
to every error."""

import hmac
import logging
import secrets
import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from echoplane.monitoring import metrics
from serving.api.failures import log_failure
from serving.api.http import audit, problems
from serving.api.http.pages import OPEN_PATHS

log = logging.getLogger("echoplane.serving")

SAFE_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)
MAX_KEY_BYTES = 128
METHODS = ("GET", "POST", "HEAD")
OTHER = "other"
PAGE = "page"
"""Route under which the pages and their assets are counted."""
HEALTH = ("/livez", "/readyz")
"""Health check paths, neither logged nor counted: a prober asks every few seconds."""


class RequestMiddleware:
    """ASGI middleware. Only `paths` are logged or counted by name: any other path may contain anything."""

    def __init__(self, app: ASGIApp, paths: Iterable[str]) -> None:
        self._app, self._paths = app, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # closed before it is accepted: the client gets 403
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        request_id, start, status = _request_id(scope), time.perf_counter(), 0
        scope.setdefault("state", {})["request_id"] = request_id
        head = scope["method"] == "HEAD"

        async def safe_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = message.get("headers", [])
                names = {name.lower() for name, _ in given}  # a page states its own policy
                safe = (header for header in SAFE_HEADERS if header[0] not in names)
                headers = [*given, *safe, (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers}
            elif head:
                message = {**message, "body": b""}
            await send(message)

        try:
            # A HEAD request is answered as GET, without the body (RFC 9110, 9.3.2).
            await self._app({**scope, "method": "GET"} if head else scope, receive, safe_send)
        except Exception as error:
            log_failure(f"request {request_id}", error)
            if not status:
                await problems.unexpected().response(request_id)(scope, receive, safe_send)
        self._count(scope, status, request_id, 1000 * (time.perf_counter() - start))

    def _count(self, scope: Scope, status: int, request_id: str, elapsed_ms: float) -> None:
        if scope["path"] in HEALTH:
            return
        route = scope["path"] if scope["path"] in self._paths else OTHER
        route = PAGE if scope["path"] in OPEN_PATHS else route
        method = scope["method"] if scope["method"] in METHODS else OTHER
        metrics.REQUESTS.labels(route, method, str(status)).inc()
        log.info("%s %s %s %d %.1f ms", request_id, method, route, status, elapsed_ms)
        audit.write(scope["state"], method, route, status)


def _request_id(scope: Scope) -> str:
    """Returns a random id; or, if the client sends an idempotency key, one that follows from it and the access token,
    so that a request that is sent again has the same id in the logs."""
    headers = dict(scope["headers"])
    key = headers.get(b"idempotency-key", b"")
    if not 0 < len(key) <= MAX_KEY_BYTES:
        return secrets.token_hex(8)
    return hmac.digest(headers.get(b"authorization", b"") or b"none", key, "sha256").hex()[:16]
