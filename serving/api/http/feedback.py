"""`POST /v1/feedback`: the label that a person finds right, kept beside the prediction log. There is no free text."""

from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from echoplane.monitoring.feedback import REQUEST_ID, FeedbackFull, FeedbackRow
from echoplane.monitoring.prediction_log import now
from serving.api.failures import log_failure
from serving.api.http import audit, problems
from serving.api.http.openapi import problem_response
from serving.api.http.schemas import Body
from serving.api.http.service import Service, json_response

MAX_BODY_BYTES = 4096
MEDIA_TYPE = "application/json"
STATUSES = (400, 413, 415)


class FeedbackRequest(BaseModel):
    """Label that a person found right."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"request_id": "9f2c4e5a7b1d3c60", "task": "echo-view-video", "label": "a2c"}]},
    )

    request_id: str = Field(pattern=REQUEST_ID)
    """Id of the request that was answered, of one file."""
    task: str
    """Task that answered."""
    label: str
    """Right label, of those that /v1/models lists for the task."""


class FeedbackBody(Body):
    """Feedback that was kept."""

    request_id: str
    """Id of the request that was answered."""
    task: str
    """Task that answered."""
    label: str
    """Label that was kept."""
    author: str
    """Name of the caller, as it was kept with the label."""


def add_feedback(app: FastAPI, service: Service, path: str) -> None:
    """Adds the route."""
    content = {MEDIA_TYPE: {"schema": FeedbackRequest.model_json_schema()}}
    extra: dict[str, Any] = {"requestBody": {"required": True, "content": content}}

    @app.post(
        path,
        response_model=FeedbackBody,
        responses={status: problem_response() for status in STATUSES},
        openapi_extra=extra,
        summary="Say which label is right",
    )
    async def feedback(request: Request) -> Response:
        given = await _given(request)
        request.state.task = given.task if given.task in service.slots else None
        _check_label(service, given)
        if service.feedback_log is None:
            raise problems.feedback_unavailable("the service keeps no feedback; set ECHOPLANE_PREDICTION_LOG.")
        caller = request.state.caller
        row = FeedbackRow(time=now(), author=caller.name, site=caller.site, **given.model_dump())
        try:
            await run_in_threadpool(service.feedback_log.add, row)
        except FeedbackFull as error:
            log_failure(f"request {request.state.request_id}", error)
            raise problems.feedback_unavailable("the feedback could not be kept; the service's log says why.") from None
        audit.note(request.scope["state"], given.task, None, "feedback")
        return json_response(FeedbackBody(author=row.author, **given.model_dump()))


async def _given(request: Request) -> FeedbackRequest:
    """Reads the body. Raises Problem if it is not as expected. Its media type makes a browser ask first, so no other
    site's page can send feedback."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != MEDIA_TYPE:
        raise problems.unsupported_media_type(f"send a body of {MEDIA_TYPE}.")
    body = b""
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise problems.too_large_text(MAX_BODY_BYTES)
    except ClientDisconnect:
        raise problems.bad_request("the client disconnected before the body was complete.") from None
    try:
        return FeedbackRequest.model_validate_json(body)
    except ValidationError:
        raise problems.bad_request(
            "send JSON with request_id (16 hexadecimal digits, from the answer), task and label, and nothing else."
        ) from None


def _check_label(service: Service, given: FeedbackRequest) -> None:
    slot = service.slots.get(given.task)
    if slot is None:
        raise problems.bad_request("the task is none of those that /v1/models lists.")
    if slot.model is None:
        raise problems.no_model(given.task)
    if given.label not in {label.name for label in slot.model.bundle.spec.labels}:
        raise problems.bad_request("the label is none of those that /v1/models lists for the task.")
