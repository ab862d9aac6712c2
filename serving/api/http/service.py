"""State that the routes share, and the routes that answer files."""

import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from echoplane.errors import ConfigError, EchoplaneError
from echoplane.monitoring import metrics
from echoplane.monitoring.feedback import FeedbackLog
from echoplane.monitoring.prediction_log import PredictionLog
from echoplane.settings import ServingSettings
from serving.api.decoding.pool import Decoders
from serving.api.failures import log_failure
from serving.api.http import audit, problems, uploads
from serving.api.http.auth import caller_key
from serving.api.http.limits import Admission, InFlight, Limits
from serving.api.http.problems import TYPE_PREFIX, Problem
from serving.api.http.schemas import (
    AnswerBody,
    FileBody,
    ModelsBody,
    ReadyBody,
    ReadySlotBody,
    StudyBody,
    StudyEndBody,
    answer_body,
    slot_body,
)
from serving.api.http.uploads import MIB, UploadLimits
from serving.api.inference.answer import Received, answer_file
from serving.api.inference.frames import pack_file
from serving.api.models.slots import Slot

FRAMES_TYPE = "application/vnd.echoplane.frames"
NDJSON = "application/x-ndjson"


class Service:
    """State that the routes share: slots, settings and limits."""

    def __init__(self, slots: Mapping[str, Slot], settings: ServingSettings) -> None:
        self.slots, self.settings = slots, settings
        self.admission = Admission(_limits(settings))
        self.decoders = Decoders(self.admission.threads.most, settings.max_upload_mib * MIB)
        folder = Path(settings.prediction_log) if settings.prediction_log else None
        self.prediction_log, self._shipper = _prediction_log(folder, settings)
        self.feedback_log = FeedbackLog(folder) if folder else None
        self._upload_limits = UploadLimits(
            settings.max_upload_mib, settings.upload_timeout_s, settings.min_upload_kib_per_s
        )

    def close(self) -> None:
        """Flushes the prediction log and ends the threads and decoders."""
        self.admission.close()
        self.decoders.close()
        if self.prediction_log:
            self.prediction_log.close()
        if self._shipper:
            self._shipper.close()

    async def answer(self, request: Request, task: str) -> Response:
        """Answers the one file of a request with `task`."""
        request.state.task = task
        async with self.admission.request(caller_key(request)) as in_flight:
            received, held = await self.receive(request, in_flight, max_files=1)
            work = functools.partial(self._answered, held[0], received, task)
            (answered,) = await in_flight.run(work)
            if isinstance(answered, Problem):
                raise answered
            return json_response(_noted(request, answered))

    async def study(self, request: Request) -> Response:
        """Answers each file of a request with every task that accepts it, one after the other, within one deadline.

        A client that accepts NDJSON gets each entry as soon as it is known, and a last line that says it is the last.
        """
        async with contextlib.AsyncExitStack() as stack:
            in_flight = await stack.enter_async_context(self.admission.request(caller_key(request)))
            received, held = await self.receive(request, in_flight, max_files=self.settings.max_files)
            entries = self.entries(request, in_flight, received, held)
            if NDJSON not in request.headers.get("accept", ""):
                bodies = [body async for body in entries]
                return json_response(StudyBody(request_id=received.request_id, files=bodies))
            return _StreamedStudy(_lines(entries, received.request_id), stack.pop_all())

    async def frames(self, request: Request) -> Response:
        """Returns the frames of the one file of a request for display."""
        async with self.admission.request(caller_key(request)) as in_flight:
            received, held = await self.receive(request, in_flight, max_files=1)
            content = await in_flight.run(functools.partial(self._packed, held[0], received))
            return Response(content, media_type=FRAMES_TYPE)

    async def receive(self, request: Request, in_flight: InFlight, max_files: int) -> tuple[Received, list[Any]]:
        """Receives the body, then takes a place in `Admission`."""
        start = time.perf_counter()
        held = await uploads.receive(request, self._upload_limits, max_files=max_files, hold_bytes=in_flight.hold_bytes)
        in_flight.hold(held)
        upload_ms = 1000 * (time.perf_counter() - start)
        await in_flight.start()
        state = request.state
        return Received(state.request_id, state.caller.site, start, upload_ms, in_flight.deadline), held

    async def entries(
        self, request: Request, in_flight: InFlight, received: Received, held: list[Any]
    ) -> AsyncIterator[FileBody]:
        """Yields the entries of each file in the order sent, and notes them for the audit line."""
        for index, file in enumerate(held):
            work = functools.partial(self._answered, file, received, None)
            for body in await self._file_bodies(index, in_flight, work, received.request_id):
                if body.answer:
                    _noted(request, body.answer)
                elif body.problem:
                    audit.note(request.scope["state"], None, None, body.problem.type.removeprefix(TYPE_PREFIX))
                yield body

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
            answers = answer_file(file, self.slots, self.decoders, received, task, self.prediction_log)
        except EchoplaneError as error:
            raise problems.of_error(error) from None
        return [problems.of_error(one) if isinstance(one, EchoplaneError) else answer_body(one) for one in answers]

    def _packed(self, file: BinaryIO, received: Received) -> bytes:
        """Returns the pack of a file's frames, on a thread. Raises Problem if it has none to show."""
        try:
            return pack_file(file, self.decoders, received.deadline, received.request_id)
        except EchoplaneError as error:
            raise problems.of_error(error) from None

    def readiness(self) -> Response:
        """Returns 200 if every task has a model that passed its checks; a stale model still answers."""
        slots = [
            ReadySlotBody(task=slot.task, ready=slot.model is not None, stale=slot.stale)
            for slot in self.slots.values()
        ]
        body = ReadyBody(ready=bool(slots) and all(slot.ready for slot in slots), slots=slots)
        return Response(body.model_dump_json(), 200 if body.ready else 503, media_type="application/json")

    def models(self) -> Response:
        slots = [slot_body(slot) for slot in self.slots.values()]
        return json_response(ModelsBody(models=slots, feedback=self.feedback_log is not None))


class _StreamedStudy(StreamingResponse):
    """Entries of a study as lines; `held`, what the request holds, is released at the end, whoever ends it."""

    def __init__(self, lines: AsyncIterator[str], held: contextlib.AsyncExitStack) -> None:
        super().__init__(lines, media_type=NDJSON)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _lines(entries: AsyncIterator[FileBody], request_id: str) -> AsyncIterator[str]:
    count = 0
    async for entry in entries:
        count += 1
        yield entry.model_dump_json() + "\n"
    yield StudyEndBody(request_id=request_id, entries=count).model_dump_json() + "\n"


def _prediction_log(folder: Path | None, settings: ServingSettings) -> tuple[PredictionLog | None, Any]:
    """Returns the prediction log and what ships it; None for what is not configured."""
    if folder is None:
        if settings.prediction_log_url:
            raise ConfigError("ECHOPLANE_PREDICTION_LOG_URL needs ECHOPLANE_PREDICTION_LOG, where rows wait for it.")
        return None, None
    if not settings.prediction_log_url:
        return PredictionLog(folder, settings.prediction_log_max_mib), None
    from echoplane.adapters.log_shipping import SHIP_S, LogShipper

    predictions = PredictionLog(folder, settings.prediction_log_max_mib, file_s=SHIP_S)
    return predictions, LogShipper(predictions, settings.prediction_log_url)


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


def json_response(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")
