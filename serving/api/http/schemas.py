"""The JSON bodies of the service's answers, and how they are made from what `inference` and `models` give."""

import base64
from typing import Any

from pydantic import BaseModel, ConfigDict

from echoplane.bundle.spec import LabelCode
from echoplane.tasks import probabilities_of
from serving.api.http.problems import ProblemBody
from serving.api.inference.answer import Answered
from serving.api.models.slots import Model, Slot

RESEARCH_USE = "Research use only. Not a medical device."


class _Body(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class CodeBody(_Body):
    """A DICOM code triplet."""

    value: str
    scheme: str
    meaning: str


class ModelBody(_Body):
    """The model that answered."""

    name: str
    version: str
    bundle: str
    """SHA-256 of its bundle.json."""
    runtime: str
    precision: str


class AnswerBody(_Body):
    """The answer to one study."""

    request_id: str
    """Ours and random."""
    task: str
    model: ModelBody
    label: str | None
    """null: the model can't tell."""
    title: str
    code: CodeBody | None
    confidence: float | None
    """The highest probability; null for a task that has none."""
    threshold: float | None
    """A confidence below it answers "cannot tell"; null for a task that never does."""
    probabilities: dict[str, float]
    timings_ms: dict[str, float]
    """`preprocess` includes decoding; `total` includes receiving and waiting."""
    warnings: list[str]
    details: dict[str, Any] = {}
    """What the task answers beyond a label: measures, curves and flags of a cine MR."""
    files: dict[str, str] = {}
    """What it answers as files, by name, in base64: masks of a cine MR as NIfTI."""
    research_use: str = RESEARCH_USE


class FileBody(_Body):
    """One file of a request, in the order they were sent: an answer or a problem. A file that several tasks accept
    comes once per task."""

    index: int
    answer: AnswerBody | None = None
    problem: ProblemBody | None = None


class StudyBody(_Body):
    """The answers to all files of a request."""

    request_id: str
    files: list[FileBody]
    research_use: str = RESEARCH_USE


class LabelBody(_Body):
    name: str
    title: str
    code: CodeBody


class SlotBody(_Body):
    """One task and the model that answers it."""

    task: str
    source: str
    """folder or registry."""
    ready: bool
    model: ModelBody | None
    challenger: ModelBody | None
    """Answers shadow traffic: its answers are counted, and sent to nobody."""
    problem: str | None
    """Why the latest model is not the one that answers, or why there is none."""
    labels: list[LabelBody]
    threshold: float | None


class ModelsBody(_Body):
    models: list[SlotBody]
    research_use: str = RESEARCH_USE


class ReadySlotBody(_Body):
    task: str
    """The slot's task."""
    ready: bool
    """A model answers."""
    stale: bool
    """The latest model was refused or cannot be fetched: an older one answers. /v1/models says why."""


class ReadyBody(_Body):
    """The readiness of the service."""

    ready: bool
    """Every task has a model."""
    slots: list[ReadySlotBody]
    """One entry per task."""


def answer_body(answered: Answered) -> AnswerBody:
    result, spec = answered.result, answered.model.bundle.spec
    label = next((label for label in spec.labels if label.name == result.label), None)
    return AnswerBody(
        request_id=answered.request_id,
        task=spec.task,
        model=model_body(answered.model),
        label=result.label,
        title=label.title if label else result.label or "cannot tell",
        code=_code(label) if label else None,
        confidence=result.confidence,
        threshold=answered.model.bundle.thresholds.abstain_below,
        probabilities=probabilities_of(result),
        timings_ms={stage: round(elapsed_ms, 3) for stage, elapsed_ms in answered.timings_ms.items()},
        warnings=list(result.warnings),
        details=result.details(),
        files={name: base64.b64encode(content).decode() for name, content in answered.files.items()},
    )


def _code(label: LabelCode) -> CodeBody:
    return CodeBody(value=label.code, scheme=label.scheme, meaning=label.meaning)


def model_body(model: Model) -> ModelBody:
    return ModelBody(
        name=model.bundle.spec.task,
        version=model.version,
        bundle=model.bundle.id,
        runtime=model.runtime.settings.runtime,
        precision=model.runtime.settings.precision,
    )


def slot_body(slot: Slot) -> SlotBody:
    model = slot.model
    challenger = slot.shadow.model if slot.shadow else None
    spec = model.bundle.spec if model else None
    return SlotBody(
        task=slot.task,
        source=slot.source.kind,
        ready=model is not None,
        model=model_body(model) if model else None,
        challenger=model_body(challenger) if challenger else None,
        problem=slot.problem,
        labels=[
            LabelBody(name=label.name, title=label.title, code=_code(label)) for label in (spec.labels if spec else ())
        ],
        threshold=model.bundle.thresholds.abstain_below if model else None,
    )
