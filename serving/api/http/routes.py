"""Routes that take files, and their description in OpenAPI: our endpoints read the body, FastAPI documents it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.responses import Response

from serving.api.http import uploads
from serving.api.http.middleware import MAX_KEY_BYTES
from serving.api.http.openapi import problem_response

PROBLEM_STATUSES = (400, 408, 413, 415, 422, 504)
"""Problems of a route that takes files, beside those of every route."""
BINARY = {"type": "string", "format": "binary"}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Gives requests with the same key and token the same id; a longer key is ignored.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES},
}


def add_upload(
    app: FastAPI,
    path: str,
    endpoint: Callable[[Request], Awaitable[Response]],
    summary: str,
    file: Mapping[str, Any],
    *,
    body: type[BaseModel] | None = None,
    content: Mapping[str, Any] | None = None,
    headers: Mapping[str, Any] | None = None,
    described: bool = True,
) -> None:
    """Adds a POST route that takes files of the schema `file`. It answers with a JSON `body`, or with other media types
    by the schemas of `content`, and `headers` of its own. Unless it is `described`, /docs and
    /openapi.json leave it out."""

    async def receive(request: Request) -> Response:
        return await endpoint(request)

    schema = {"type": "object", "properties": {uploads.FIELD: file}, "required": [uploads.FIELD]}
    taken: dict[str, Any] = {"multipart/form-data": {"schema": schema}, "application/dicom": {"schema": BINARY}}
    responses: dict[int | str, dict[str, Any]] = {status: problem_response() for status in PROBLEM_STATUSES}
    if content:
        given = {media_type: {"schema": schema} for media_type, schema in content.items()}
        responses[200] = {"description": "Successful Response", "content": given, "headers": dict(headers or {})}
    app.post(
        path,
        response_model=body,
        response_class=JSONResponse if body else Response,
        responses=responses,
        openapi_extra={"parameters": [IDEMPOTENCY_KEY], "requestBody": {"required": True, "content": taken}},
        summary=summary,
        name=path,
        include_in_schema=described,
    )(receive)
