"""The HTTP interface: routes, problem bodies and OpenAPI of one FastAPI app."""

import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any, BinaryIO

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from echoplane import __version__, html
from echoplane.errors import EchoplaneError
from echoplane.monitoring import metrics
from echoplane.settings import ServingSettings
from serving.api.failures import log_failure
from serving.api.http import problems, uploads
from serving.api.http.limits import Admission, Ticket
from serving.api.http.middleware import Guard
from serving.api.http.problems import MEDIA_TYPE, Problem, ProblemBody
from serving.api.http.schemas import (
    RESEARCH_USE,
    AnswerBody,
    FileBody,
    ModelsBody,
    StudyBody,
    answer_body,
    slot_body,
)
from serving.api.inference.answer import Received, answer_file
from serving.api.models.slots import Slot

DESCRIPTION = f"Answers cardiac imaging studies. {RESEARCH_USE} Also: GET /livez, /readyz (200 or 503) and /metrics."
PROBLEM_STATUSES = (400, 408, 413, 415, 422, 429, 503, 504)
BINARY = {"type": "string", "format": "binary"}


class Service:
    """What the routes share: slots, settings and who may come in."""

    def __init__(self, slots: Mapping[str, Slot], settings: ServingSettings) -> None:
        self.slots, self.settings = slots, settings
        self.admission = Admission(settings.max_in_flight, settings.answer_threads)

    async def answer(self, request: Request, task: str) -> Response:
        """The answer of `task` to the one file of a request."""
        request.state.task = task
        with self.admission.ticket() as ticket:
            received, held = await self._receive(request, ticket, most_files=1)
            work = functools.partial(_answered, held[0], self.slots, received, task)
            return _json(await ticket.run(work, self.settings.deadline_s))

    async def study(self, request: Request) -> Response:
        """Each file of a request answered by the task it belongs to, one after the other."""
        with self.admission.ticket() as ticket:
            received, held = await self._receive(request, ticket, most_files=self.settings.max_files)
            bodies = []
            for index, file in enumerate(held):
                work = functools.partial(_answered, file, self.slots, received, None)
                bodies.append(await self._file_body(index, ticket, work, received.request_id))
            return _json(StudyBody(request_id=received.request_id, files=bodies))

    async def _receive(self, request: Request, ticket: Ticket, most_files: int) -> tuple[Received, list[Any]]:
        start, settings = time.perf_counter(), self.settings
        held = await uploads.receive(
            request, limit_mib=settings.max_upload_mib, limit_s=settings.upload_timeout_s, most_files=most_files
        )
        ticket.hold(held)
        return Received(request.state.request_id, start, 1000 * (time.perf_counter() - start)), held

    async def _file_body(self, index: int, ticket: Ticket, work: Callable[[], AnswerBody], request_id: str) -> FileBody:
        """One file's answer; its problem never spoils the others'."""
        try:
            return FileBody(index=index, answer=await ticket.run(work, self.settings.deadline_s))
        except Problem as refused:
            problem = refused
        except Exception as error:
            log_failure(f"request {request_id}", error)
            problem = problems.unexpected()
        metrics.refused(problem.task, problem.kind)
        return FileBody(index=index, problem=problem.body(request_id))

    def models(self) -> Response:
        return _json(ModelsBody(models=[slot_body(slot) for slot in self.slots.values()]))


def _answered(file: BinaryIO, slots: Mapping[str, Slot], received: Received, task: str | None) -> AnswerBody:
    """Answer one file on a thread; raises Problem."""
    try:
        return answer_body(answer_file(file, slots, received, task))
    except EchoplaneError as error:
        raise problems.of_error(error) from None


def build(service: Service) -> ASGIApp:
    """The app with a route for each task that has a slot."""
    app = FastAPI(title="echoplane", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    for task in service.slots:
        _add_upload(app, f"/v1/{task}", functools.partial(_answer_route, service, task), AnswerBody, BINARY)
    _add_upload(app, "/v1/study", service.study, StudyBody, {"type": "array", "items": BINARY})
    _add_pages(app, service)
    _add_problems(app)
    return Guard(app, (route.path for route in app.routes if hasattr(route, "path")))


async def _answer_route(service: Service, task: str, request: Request) -> Response:
    return await service.answer(request, task)


def _add_upload(
    app: FastAPI, path: str, endpoint: Callable[[Request], Awaitable[Response]], body: type[BaseModel], file: dict
) -> None:
    """A POST route that takes files; FastAPI is told of the body but leaves reading it to us."""

    async def receive(request: Request) -> Response:
        return await endpoint(request)

    schema = {"type": "object", "properties": {uploads.FIELD: file}, "required": [uploads.FIELD]}
    content: dict[str, Any] = {"multipart/form-data": {"schema": schema}, "application/dicom": {"schema": BINARY}}
    app.post(
        path,
        response_model=body,
        responses={status: _problem_response() for status in PROBLEM_STATUSES},
        openapi_extra={"requestBody": {"required": True, "content": content}},
        summary=f"Answer the study by {path.rpartition('/')[2]}" if path != "/v1/study" else "Answer any files",
        name=path,
    )(receive)


def _problem_response() -> dict[str, Any]:
    return {"description": "Problem", "content": {MEDIA_TYPE: {"schema": ProblemBody.model_json_schema()}}}


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", response_model=ModelsBody, summary="The models that answer, and why a newer one does not")
    async def models() -> Response:
        return service.models()

    @app.get("/metrics", include_in_schema=False)
    def exposition() -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        template = files("serving.api").joinpath("web/docs.html").read_text()
        return HTMLResponse(html.render(template, api=app.openapi(), research_use=RESEARCH_USE))


def _add_problems(app: FastAPI) -> None:
    async def on_problem(request: Request, problem: Any) -> Response:
        metrics.refused(problem.task or getattr(request.state, "task", None), problem.kind)
        return problem.response(request.state.request_id)

    async def on_status(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 400)
        return problems.of_status(status).response(request.state.request_id)

    async def on_failure(request: Request, error: Exception) -> Response:
        return await on_problem(request, problems.unexpected())

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(Exception, on_failure)  # raised again after it answered: the guard logs it
    app.add_exception_handler(HTTPException, on_status)
    app.add_exception_handler(RequestValidationError, on_status)


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")
