"""The page at `/`, the dashboard and their assets.

The pages and their assets are open: they hold no data, and ask for a token if one is needed. They load nothing from
another address and have no inline script or style.
"""

import re
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.responses import Response

from echoplane import __version__, html
from echoplane.errors import ConfigError
from echoplane.monitoring.dashboards import SERVICE
from echoplane.settings import ServingSettings
from serving.api.http.oidc import is_safe
from serving.api.http.schemas import RESEARCH_USE

WEB = files("serving.api").joinpath("web")
PAGES = {"/": "page.html", "/dashboard": "dashboard.html"}
PANELS, SIGN_IN = "/web/panels.json", "/web/sign-in.json"
ASSETS = (
    *("style.css", "icon.svg"),
    *("page.js", "api.js", "dom.js", "theme.js", "player.js", "answer.js", "study.js"),
    *("explain.js", "feedback.js", "files.js", "zip.js", "download.js", "signin.js", "oidc.js"),
    *("cine.js", "bullseye.js", "masks.js"),
    *("dashboard.js", "metrics.js", "charts.js"),
)
OPEN_PATHS = frozenset({*PAGES, PANELS, SIGN_IN, *(f"/web/{name}" for name in ASSETS)})
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; connect-src 'self'"
)
"""Content-Security-Policy of the page: only this service's own files and routes, and the provider that people sign in
with if there is one."""


def add_pages(app: FastAPI, settings: ServingSettings) -> None:
    """Adds the open routes. Raises ConfigError if the settings of the sign-in are wrong."""
    provider = _provider(settings)
    policy = f"{POLICY} {_origin(settings.oidc_issuer)}" if provider else POLICY
    for path, name in PAGES.items():
        app.get(path, include_in_schema=False)(_page(name, policy))
    _add_sign_in(app, {"tokens": bool(settings.token_file) or provider is None, "provider": provider})
    for name in ASSETS:
        app.get(f"/web/{name}", include_in_schema=False)(_asset(name))
    _add_panels(app)


def _provider(settings: ServingSettings) -> dict[str, str] | None:
    """Returns what a browser needs to sign in with the OpenID Connect provider; None if it is not set up."""
    if not settings.oidc_client_id:
        return None
    if not settings.oidc_issuer:
        raise ConfigError("ECHOPLANE_OIDC_CLIENT_ID needs ECHOPLANE_OIDC_ISSUER, which people sign in with.")
    if "openid" not in settings.oidc_scope.split():
        raise ConfigError("ECHOPLANE_OIDC_SCOPE must hold openid.")
    return {
        "issuer": settings.oidc_issuer,
        "client_id": settings.oidc_client_id,
        "scope": settings.oidc_scope,
    }


def _origin(issuer: str) -> str:
    """Returns scheme, host and port of the issuer. Raises ConfigError if a browser's tokens would not be safe there."""
    url = urlsplit(issuer)
    if not is_safe(issuer) or not re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", url.netloc):
        raise ConfigError("ECHOPLANE_OIDC_ISSUER: expected https://HOST/PATH for people to sign in with.")
    return f"{url.scheme}://{url.netloc}"


def _page(name: str, policy: str) -> Callable[[], Awaitable[Response]]:
    """Returns a route that answers with the page `name`."""
    template, layout = WEB.joinpath(name).read_text(), WEB.joinpath("layout.html").read_text()
    content = html.render(template, layout, version=__version__, research_use=RESEARCH_USE)

    async def page() -> Response:
        return HTMLResponse(content, headers={"content-security-policy": policy})

    return page


def _asset(name: str) -> Callable[[], Awaitable[Response]]:
    """Returns a route that answers with the file `name`."""
    content, media_type = WEB.joinpath(name).read_bytes(), MEDIA_TYPES[PurePosixPath(name).suffix]

    async def asset() -> Response:
        return Response(content, media_type=media_type)

    return asset


def _add_sign_in(app: FastAPI, ways: dict[str, Any]) -> None:
    @app.get(SIGN_IN, include_in_schema=False)
    async def sign_in() -> Response:
        return JSONResponse(ways)


def _add_panels(app: FastAPI) -> None:
    panels = [panel.model_dump() for panel in SERVICE]

    @app.get(PANELS, include_in_schema=False)
    async def dashboard_panels() -> Response:
        return JSONResponse(panels)
