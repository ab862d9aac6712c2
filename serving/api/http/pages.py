"""The page at `/`, the dashboard, their assets, and the description of the interface at `/docs`.

The pages and their assets are open: they hold no data, and ask for a token if one is needed. They load nothing from
another address and have no inline script or style.
"""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import PurePosixPath

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.responses import Response

from echoplane import __version__, html
from echoplane.monitoring.dashboards import SERVICE
from serving.api.http.schemas import RESEARCH_USE

WEB = files("serving.api").joinpath("web")
PAGES = {"/": "page.html", "/dashboard": "dashboard.html"}
PANELS = "/web/panels.json"
ASSETS = (
    *("style.css", "icon.svg"),
    *("page.js", "api.js", "dom.js", "theme.js", "player.js", "answer.js", "study.js"),
    *("explain.js", "feedback.js", "files.js", "zip.js", "download.js", "signin.js"),
    *("cine.js", "bullseye.js", "masks.js"),
    *("dashboard.js", "metrics.js", "charts.js"),
)
OPEN_PATHS = frozenset({*PAGES, PANELS, *(f"/web/{name}" for name in ASSETS)})
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the page: only this service's own files and routes."""


def add_pages(app: FastAPI) -> None:
    for path, name in PAGES.items():
        app.get(path, include_in_schema=False)(_page(name))
    for name in ASSETS:
        app.get(f"/web/{name}", include_in_schema=False)(_asset(name))
    _add_panels(app)
    _add_docs(app)


def _page(name: str) -> Callable[[], Awaitable[Response]]:
    """Returns a route that answers with the page `name`."""
    template, layout = WEB.joinpath(name).read_text(), WEB.joinpath("layout.html").read_text()
    content = html.render(template, layout, version=__version__, research_use=RESEARCH_USE)

    async def page() -> Response:
        return HTMLResponse(content, headers={"content-security-policy": POLICY})

    return page


def _asset(name: str) -> Callable[[], Awaitable[Response]]:
    """Returns a route that answers with the file `name`."""
    content, media_type = WEB.joinpath(name).read_bytes(), MEDIA_TYPES[PurePosixPath(name).suffix]

    async def asset() -> Response:
        return Response(content, media_type=media_type)

    return asset


def _add_panels(app: FastAPI) -> None:
    panels = [panel.model_dump() for panel in SERVICE]

    @app.get(PANELS, include_in_schema=False)
    async def dashboard_panels() -> Response:
        return JSONResponse(panels)


def _add_docs(app: FastAPI) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    def openapi() -> Response:
        return JSONResponse(app.openapi())

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        template = WEB.joinpath("docs.html").read_text()
        return HTMLResponse(html.render(template, api=app.openapi(), research_use=RESEARCH_USE))
