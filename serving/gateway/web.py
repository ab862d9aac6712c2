"""The gateway's HTTP interface: health, metrics and DICOMweb, on a thread of its own."""

import contextlib
import logging
import threading
import time

import prometheus_client
import uvicorn
from fastapi import Depends, FastAPI, Request, Response

from echoplane import __version__
from echoplane.errors import ConfigError
from serving.api.failures import log_failure
from serving.gateway import retention
from serving.gateway.access import Access
from serving.gateway.dicomweb.routes import routes
from serving.gateway.settings import GatewaySettings
from serving.gateway.store import Store
from serving.http_protocol import HttpProtocol

STOP_S = 30
"""Maximum time for requests in progress when the gateway stops."""


def build(store: Store, settings: GatewaySettings) -> FastAPI:
    """Builds the app; every route needs a token but the health checks."""
    access = Access(settings)
    app = FastAPI(title="echoplane gateway", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/livez")
    def livez() -> dict[str, bool]:
        return {"alive": True}

    @app.get("/readyz")
    def readyz(response: Response) -> dict[str, bool]:
        """Says whether instances can be stored."""
        ready = store.has_space()
        response.status_code = 200 if ready else 503
        return {"ready": ready}

    @app.get("/metrics", dependencies=[Depends(access.needs("operate"))])
    def exposition() -> Response:
        retention.set_gauges(store)
        return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_PLAIN_0_0_4)

    app.include_router(routes(store, settings, access))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        log_failure("an HTTP request", error)
        return Response('{"detail":"unexpected failure; see the log"}', 500, media_type="application/json")

    return app


class WebServer:
    """Serves an app on a thread until `close`."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # it logs tracebacks, which may quote a file
        config = uvicorn.Config(app, host, port, http=HttpProtocol, access_log=False, log_config=None)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="gateway-http", daemon=True)

    def start(self) -> None:
        """Starts to listen. Raises ConfigError if the port cannot be listened on."""
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise ConfigError(f"port {self._server.config.port} cannot be listened on; is it taken?")
            time.sleep(0.02)

    def _run(self) -> None:
        with contextlib.suppress(SystemExit):  # uvicorn's way of saying that the port is taken
            self._server.run()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(STOP_S)
