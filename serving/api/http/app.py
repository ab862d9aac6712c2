"""HTTP interface: routes, problem bodies and OpenAPI of one FastAPI app."""

import functools
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from echoplane import __version__
from echoplane.monitoring import metrics
from echoplane.tasks import by_name, classify
from echoplane.tokens import Role
from serving.api.http import audit, problems
from serving.api.http.auth import Access
from serving.api.http.dicom import LEFT_OUT, ZIP_TYPE, dicom_objects
from serving.api.http.explain import Explainer, ExplanationBody
from serving.api.http.feedback import add_feedback
from serving.api.http.history import add_history
from serving.api.http.middleware import RequestMiddleware
from serving.api.http.openapi import add_documents
from serving.api.http.pages import add_pages
from serving.api.http.problems import Problem
from serving.api.http.routes import BINARY, add_upload
from serving.api.http.schemas import (
    RESEARCH_USE,
    AliveBody,
    AnswerBody,
    FileBody,
    ModelsBody,
    ReadyBody,
    StudyBody,
    StudyEndBody,
)
from serving.api.http.service import FRAMES_TYPE, NDJSON, Service, json_response

__all__ = ["Service", "build"]

DESCRIPTION = f"Answers cardiac imaging studies. {RESEARCH_USE}"
STUDY, DICOM, FRAMES, FEEDBACK = "/v1/study", "/v1/dicom", "/v1/frames", "/v1/feedback"
HISTORY = "/v1/history"
LEFT_OUT_HEADER = {
    "description": "Number of answers and problems that are not among the DICOM objects.",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


def build(service: Service) -> ASGIApp:
    """Builds the app, with routes for each task that has a slot."""
    app = FastAPI(
        title="echoplane",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # our own route, which requires a token as all routes do
        redirect_slashes=False,
        dependencies=[Depends(Access(service.settings, _roles(service)))],
    )
    _add_tasks(app, service)
    files = {"type": "array", "items": BINARY}
    line = {"anyOf": [{"$ref": f"#/components/schemas/{FileBody.__name__}"}, StudyEndBody.model_json_schema()]}
    lines = {NDJSON: line}
    add_upload(app, STUDY, service.study, "Answer any files", files, body=StudyBody, content=lines)
    objects, in_zip = functools.partial(dicom_objects, service), {ZIP_TYPE: BINARY}
    left_out = {LEFT_OUT: LEFT_OUT_HEADER}
    add_upload(
        app, DICOM, objects, "The answers to any files as DICOM objects", files, content=in_zip, headers=left_out
    )
    frames = {FRAMES_TYPE: BINARY}
    add_upload(app, FRAMES, service.frames, "The frames of a clip for display", BINARY, content=frames)
    add_feedback(app, service, FEEDBACK)
    add_history(app, HISTORY, service.settings)
    _add_descriptions(app, service)
    add_documents(app, service.settings)
    add_pages(app, service.settings)
    _add_problems(app)
    return RequestMiddleware(app, (route.path for route in app.routes if hasattr(route, "path")))


def _roles(service: Service) -> dict[str, Role]:
    """Returns the role that each route of files or feedback requires."""
    of_tasks = [path for task in service.slots for path in (f"/v1/{task}", f"/v1/explain/{task}")]
    required: dict[str, Role] = dict.fromkeys((*of_tasks, STUDY, DICOM, FRAMES), "predict")
    return required | {FEEDBACK: "feedback"}


def _add_tasks(app: FastAPI, service: Service) -> None:
    explainer = Explainer(service)
    for task in service.slots:
        answer = functools.partial(service.answer, task=task)
        add_upload(app, f"/v1/{task}", answer, f"Answer the study by {task}", BINARY, body=AnswerBody)
        explain = functools.partial(explainer.explain, task=task)
        summary = f"Explain the answer of {task}"
        classifies = issubclass(by_name(task).Thresholds, classify.Thresholds)  # no other answer is explained
        add_upload(app, f"/v1/explain/{task}", explain, summary, BINARY, body=ExplanationBody, described=classifies)


def _add_descriptions(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", response_model=ModelsBody, summary="The models that answer, and why a newer one does not")
    async def models() -> Response:
        return service.models()

    @app.get("/livez", response_model=AliveBody, summary="Says that the process answers")
    async def livez() -> Response:
        return json_response(AliveBody())

    not_ready: dict[int | str, dict[str, Any]] = {503: {"description": "A task has no model", "model": ReadyBody}}

    @app.get("/readyz", response_model=ReadyBody, responses=not_ready, summary="Says if every task has a model")
    async def readyz() -> Response:
        return service.readiness()

    content = {"text/plain": {"schema": {"type": "string"}}}
    in_text: dict[int | str, dict[str, Any]] = {200: {"description": "Metrics", "content": content}}

    @app.get("/metrics", response_class=Response, responses=in_text, summary="Metrics for Prometheus")
    def exposition() -> Response:
        return Response(metrics.exposition(), media_type=EXPOSITION)


def _add_problems(app: FastAPI) -> None:
    async def on_problem(request: Request, problem: Any) -> Response:
        task = problem.task or getattr(request.state, "task", None)
        metrics.refused(task, problem.kind)
        audit.note(request.scope["state"], task, None, problem.kind)
        return problem.response(request.state.request_id)

    async def on_status(request: Request, error: Exception) -> Response:
        status, headers = getattr(error, "status_code", 400), dict(getattr(error, "headers", None) or {})
        if headers.get("Allow") == "GET":
            headers["Allow"] = "GET, HEAD"
        return problems.of_status(status, headers).response(request.state.request_id)

    async def on_failure(request: Request, error: Exception) -> Response:
        return await on_problem(request, problems.unexpected())

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(Exception, on_failure)  # raised again after the response: RequestMiddleware logs it
    app.add_exception_handler(HTTPException, on_status)
    app.add_exception_handler(RequestValidationError, on_status)
