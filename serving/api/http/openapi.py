"""The OpenAPI document, at `/openapi.json` and as a page at `/docs`.

FastAPI derives it from the routes; what is the same for all of them is added here: access, problems and headers.
"""

import functools
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.responses import Response

from echoplane import html
from echoplane.settings import ServingSettings
from serving.api.http.auth import OPEN
from serving.api.http.pages import WEB
from serving.api.http.problems import MEDIA_TYPE, ProblemBody
from serving.api.http.schemas import RESEARCH_USE

ACCESS_STATUSES = (401, 403, 429, 503)
"""Problems of every route that is not open."""
UNEXPECTED = 500

PROBLEM = {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}
REQUEST_ID = {
    "description": "Id of the request, as in the body and the service's log.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
}
CHALLENGE = {"description": "Scheme of authentication.", "required": True, "schema": {"type": "string"}}
RETRY_AFTER = {"description": "Seconds to wait before trying again.", "schema": {"type": "integer", "minimum": 1}}
HEADERS: dict[str, dict[str, Any]] = {
    "401": {"WWW-Authenticate": CHALLENGE},
    "429": {"Retry-After": RETRY_AFTER | {"required": True}},
    "503": {"Retry-After": RETRY_AFTER},
}
"""Headers of a response by its status."""


def problem_response() -> dict[str, Any]:
    return {"description": "Problem", "content": {MEDIA_TYPE: {"schema": PROBLEM}}}


def add_documents(app: FastAPI, settings: ServingSettings) -> None:
    """Adds the routes that describe the interface."""
    described = functools.cache(lambda: _document(app, settings))
    content = {"application/json": {"schema": {"type": "object"}}}
    in_json: dict[int | str, dict[str, Any]] = {200: {"description": "The document", "content": content}}

    @app.get("/openapi.json", responses=in_json, summary="Describes the interface in OpenAPI")
    def openapi() -> Response:
        return JSONResponse(described())

    @app.get("/docs", response_class=HTMLResponse, summary="Describes the interface as a page")
    def docs() -> Response:
        template = WEB.joinpath("docs.html").read_text()
        return HTMLResponse(html.render(template, api=described(), research_use=RESEARCH_USE))


def _document(app: FastAPI, settings: ServingSettings) -> dict[str, Any]:
    """Returns the document of all routes that are no part of a page."""
    found = app.openapi()
    schemas = found["components"]["schemas"]
    schemas.setdefault(ProblemBody.__name__, ProblemBody.model_json_schema())
    if settings.token_file or settings.oidc_issuer:
        found["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"bearer": []}]
    for path, operations in found["paths"].items():
        for operation in operations.values():
            _complete(operation, is_open=path in OPEN)
    return found


def _complete(operation: dict[str, Any], *, is_open: bool) -> None:
    responses = operation["responses"]
    for status in (UNEXPECTED,) if is_open else (*ACCESS_STATUSES, UNEXPECTED):
        responses.setdefault(str(status), problem_response())
    for status, response in responses.items():
        response["headers"] = {"X-Request-Id": REQUEST_ID, **HEADERS.get(status, {}), **response.get("headers", {})}
    operation["responses"] = dict(sorted(responses.items()))
    if is_open:
        operation["security"] = []
