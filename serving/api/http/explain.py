"""`POST /v1/explain/TASK`: the parts of a picture that an answer depends on."""

import functools
import threading
from typing import BinaryIO

from fastapi import Request, Response

from echoplane.errors import EchoplaneError
from serving.api.http import audit, problems
from serving.api.http.auth import caller_key
from serving.api.http.schemas import RESEARCH_USE, Body, ModelBody, model_body
from serving.api.http.service import Service, json_response
from serving.api.inference.answer import Received
from serving.api.inference.explain import explain_file

BUDGET_SHARE = 0.5
"""Share of a request's deadline that an explanation may take."""


class ExplanationBody(Body):
    """Explanation of one answer by occlusion: the loss of its probability if a part of the picture is blurred."""

    request_id: str
    """Random id made by the service."""
    task: str
    """Task that was explained."""
    model: ModelBody
    """Version, bundle and runtime that were explained."""
    label: str
    """Most probable label, whose probability is explained."""
    probability: float
    """Its probability with nothing blurred."""
    losses: list[list[float]]
    """Loss of that probability for each cell, by row from the top; below 0 if it rises."""
    input_rows: int
    """Rows of the network's input, which the cells divide evenly. The scan region is fitted into it, centred."""
    input_columns: int
    """Columns of the network's input."""
    corner: tuple[int, int] | None
    """Top and left of the scan region in the file's frame, in pixels; null if unknown."""
    research_use: str = RESEARCH_USE
    """Permitted use of the explanation."""


class Explainer:
    """Route of one process. One explanation runs at a time: its many inferences must not keep answers waiting."""

    def __init__(self, service: Service) -> None:
        self._service, self._one = service, threading.Lock()

    async def explain(self, request: Request, task: str) -> Response:
        """Explains the answer of `task` to the one file of a request. Raises Problem 429 while another runs."""
        request.state.task = task
        async with self._service.admission.request(caller_key(request)) as in_flight:
            received, held = await self._service.receive(request, in_flight, max_files=1)
            body = await in_flight.run(functools.partial(self._explained, held[0], task, received))
            audit.note(request.scope["state"], task, body.model.version, "explained")
            return json_response(body)

    def _explained(self, file: BinaryIO, task: str, received: Received) -> ExplanationBody:
        if not self._one.acquire(blocking=False):
            raise problems.busy()
        try:
            budget_s = BUDGET_SHARE * self._service.settings.deadline_s
            model, found = explain_file(file, self._service.slots[task], self._service.decoders, received, budget_s)
        except EchoplaneError as error:
            raise problems.of_error(error) from None
        finally:
            self._one.release()
        return ExplanationBody(
            request_id=received.request_id,
            task=task,
            model=model_body(model),
            label=found.label,
            probability=found.probability,
            losses=found.losses.round(4).tolist(),
            input_rows=found.input_shape[0],
            input_columns=found.input_shape[1],
            corner=found.corner,
        )
