"""HTTP interface: routes, problem bodies and OpenAPI of one FastAPI app."""

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from echoplane import __version__
from echoplane.errors import EchoplaneError
from echoplane.monitoring import metrics
from echoplane.monitoring.prediction_log import PredictionLog
from echoplane.settings import ServingSettings
from serving.api.failures import log_failure
from serving.api.http import audit, problems, uploads
from serving.api.http.auth import Access
from serving.api.http.limits import Admission, InFlight, Limits
from serving.api.http.middleware import RequestMiddleware
from serving.api.http.pages import add_pages
from serving.api.http.problems import TYPE_PREFIX, Problem
from serving.api.http.routes import BINARY, add_upload
from serving.api.http.schemas import (
    RESEARCH_USE,
    AnswerBody,
    FileBody,
    ModelsBody,
    ReadyBody,
    ReadySlotBody,
    StudyBody,
    answer_body,
    slot_body,
)
from serving.api.http.uploads import MIB, UploadLimits
from serving.api.inference.answer import Received, answer_file
from serving.api.inference.frames import pack_file
from serving.api.models.slots import Slot

DESCRIPTION = f"Answers cardiac imaging studies. {RESEARCH_USE} Also: GET /livez, /readyz (200 or 503) and /metrics."
FRAMES_TYPE = "application/vnd.echoplane.frames"


class Service:
    """State that the routes share: slots, settings and limits."""

    def __init__(self, slots: Mapping[str, Slot], settings: ServingSettings) -> None:
        self.slots, self.settings = slots, settings
        self.admission = Admission(_limits(settings))
        self.prediction_log = (
            PredictionLog(Path(settings.prediction_log), settings.prediction_log_max_mib)
            if settings.prediction_log
            else None
        )
        self._upload_limits = UploadLimits(
            settings.max_upload_mib, settings.upload_timeout_s, settings.min_upload_kib_per_s
        )

    def close(self) -> None:
        """Flushes the prediction log and ends the threads."""
        self.admission.close()
        if self.prediction_log:
            self.prediction_log.close()

    async def answer(self, request: Request, task: str) -> Response:
        """Answers the one file of a request with `task`."""
        request.state.task = task
        async with self.admission.request() as in_flight:
            received, held = await self._receive(request, in_flight, max_files=1)
            work = functools.partial(self._answered, held[0], received, task)
            (answered,) = await in_flight.run(work)
            if isinstance(answered, Problem):
                raise answered
            return _json(_noted(request, answered))

    async def study(self, request: Request) -> Response:
        """Answers each file of a request with every task that accepts it, one after the other, within one deadline."""
        async with self.admission.request() as in_flight:
            received, held = await self._receive(request, in_flight, max_files=self.settings.max_files)
            bodies = list[FileBody]()
            for index, file in enumerate(held):
                work = functools.partial(self._answered, file, received, None)
                for body in await self._file_bodies(index, in_flight, work, received.request_id):
                    bodies.append(body)
                    if body.answer:
                        _noted(request, body.answer)
                    elif body.problem:
                        audit.note(request.scope["state"], None, None, body.problem.type.removeprefix(TYPE_PREFIX))
            return _json(StudyBody(request_id=received.request_id, files=bodies))

    async def frames(self, request: Request) -> Response:
        """Returns the frames of the one file of a request for display."""
        async with self.admission.request() as in_flight:
            received, held = await self._receive(request, in_flight, max_files=1)
            content = await in_flight.run(functools.partial(_packed, held[0], received.request_id))
            return Response(content, media_type=FRAMES_TYPE)

    async def _receive(self, request: Request, in_flight: InFlight, max_files: int) -> tuple[Received, list[Any]]:
        """Receives the body, then takes a place in `Admission`."""
        start = time.perf_counter()
        held = await uploads.receive(request, self._upload_limits, max_files=max_files, hold_bytes=in_flight.hold_bytes)
        in_flight.hold(held)
        upload_ms = 1000 * (time.perf_counter() - start)
        await in_flight.start()
        return Received(request.state.request_id, request.state.caller.site, start, upload_ms), held

    async def _file_bodies(
        self, index: int, in_flight: InFlight, work: Callable[[], list[AnswerBody | Problem]], request_id: str
    ) -> list[FileBody]:
        """Answers one file; a problem with it does not affect the other files."""
        try:
            answered = await in_flight.run(work)
        except Problem as refused:
            answered = [refused]
        except Exception as error:
            log_failure(f"request {request_id}", error)
            answered = [problems.unexpected()]
        return [_file_body(index, each, request_id) for each in answered]

    def _answered(self, file: BinaryIO, received: Received, task: str | None) -> list[AnswerBody | Problem]:
        """Answers one file on a thread. Raises Problem if no task can begin with it."""
        try:
            answers = answer_file(file, self.slots, received, task, self.prediction_log)
        except EchoplaneError as error:
            raise problems.of_error(error) from None
        return [problems.of_error(one) if isinstance(one, EchoplaneError) else answer_body(one) for one in answers]

    def readiness(self) -> Response:
        """Returns 200 if every task has a model that passed its checks; a stale model still answers."""
        slots = [
            ReadySlotBody(task=slot.task, ready=slot.model is not None, stale=slot.stale)
            for slot in self.slots.values()
        ]
        body = ReadyBody(ready=bool(slots) and all(slot.ready for slot in slots), slots=slots)
        return Response(body.model_dump_json(), 200 if body.ready else 503, media_type="application/json")

    def models(self) -> Response:
        return _json(ModelsBody(models=[slot_body(slot) for slot in self.slots.values()]))


def _packed(file: BinaryIO, request_id: str) -> bytes:
    """Returns the pack of a file's frames, on a thread. Raises Problem if it has none to show."""
    try:
        return pack_file(file, request_id)
    except EchoplaneError as error:
        raise problems.of_error(error) from None


def _noted(request: Request, answer: AnswerBody) -> AnswerBody:
    """Notes the answer for the audit line of the request."""
    outcome = "abstained" if answer.label is None else "answered"
    audit.note(request.scope["state"], answer.task, answer.model.version, outcome)
    return answer


def _limits(settings: ServingSettings) -> Limits:
    return Limits(
        max_in_flight=settings.max_in_flight,
        max_queued=settings.max_queued,
        queue_timeout_s=settings.queue_timeout_s,
        max_held_bytes=settings.max_in_flight * settings.max_upload_mib * MIB,
        threads=settings.answer_threads,
        deadline_s=settings.deadline_s,
    )


def _file_body(index: int, answered: AnswerBody | Problem, request_id: str) -> FileBody:
    if isinstance(answered, AnswerBody):
        return FileBody(index=index, answer=answered)
    metrics.refused(answered.task, answered.kind)
    return FileBody(index=index, problem=answered.body(request_id))


def build(service: Service) -> ASGIApp:
    """Builds the app, with a route for each task that has a slot."""
    predict_paths = [*(f"/v1/{task}" for task in service.slots), "/v1/study", "/v1/frames"]
    access = Access(service.settings, predict_paths)
    app = FastAPI(
        title="echoplane",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # our own route, which requires a token as all routes do
        redirect_slashes=False,
        dependencies=[Depends(access)],
    )
    for task in service.slots:
        answer = functools.partial(service.answer, task=task)
        add_upload(app, f"/v1/{task}", answer, f"Answer the study by {task}", BINARY, body=AnswerBody)
    files = {"type": "array", "items": BINARY}
    add_upload(app, "/v1/study", service.study, "Answer any files", files, body=StudyBody)
    add_upload(
        app, "/v1/frames", service.frames, "The frames of a clip for display", BINARY, content={FRAMES_TYPE: BINARY}
    )
    _add_descriptions(app, service)
    add_pages(app)
    _add_problems(app)
    return RequestMiddleware(app, (route.path for route in app.routes if hasattr(route, "path")))


def _add_descriptions(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", response_model=ModelsBody, summary="The models that answer, and why a newer one does not")
    async def models() -> Response:
        return service.models()

    @app.get("/livez", include_in_schema=False)
    async def livez() -> Response:
        return Response('{"alive":true}', media_type="application/json")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        return service.readiness()

    @app.get("/metrics", include_in_schema=False)
    def exposition() -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


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


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")
