"""JSON bodies of the service's answers, and their construction from the results of `inference` and `models`."""

import base64
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

from echoplane.bundle.spec import LabelCode
from echoplane.tasks import probabilities_of, threshold_of
from serving.api.http.problems import ProblemBody
from serving.api.inference.answer import Answered
from serving.api.models.slots import Model, Slot

RESEARCH_USE = "Research use only. Not a medical device."


class Body(BaseModel):
    """JSON body whose fields are described by the line below each."""

    model_config = ConfigDict(use_attribute_docstrings=True)


EXAMPLE_ANSWER: JsonDict = {
    "request_id": "9f2c4e5a7b1d3c60",
    "task": "echo-view-video",
    "model": {
        "name": "echo-view-video",
        "version": "3",
        "bundle": "5be0c2a1...",
        "runtime": "openvino",
        "precision": "bf16",
    },
    "label": "a4c",
    "title": "apical four chamber",
    "code": {"value": "399214001", "scheme": "SCT", "meaning": "Apical four chamber"},
    "confidence": 0.97,
    "threshold": 0.55,
    "probabilities": {"a4c": 0.97, "a2c": 0.03},
    "timings_ms": {"upload": 3.1, "read": 4.2, "preprocess": 15.3, "inference": 21.4, "total": 45.2},
    "warnings": [],
    "research_use": RESEARCH_USE,
}
"""Example for the documentation: some labels are left out."""


class CodeBody(Body):
    """DICOM code triplet."""

    value: str
    """Code value, (0008,0100)."""
    scheme: str
    """Coding scheme designator, (0008,0102): SCT, or 99ECHOPLANE for a private code of echoplane."""
    meaning: str
    """Code meaning, (0008,0104)."""


class ModelBody(Body):
    """Model that answered."""

    name: str
    """Task of the model."""
    version: str
    """Version in the registry, or the first digits of the bundle's id."""
    bundle: str
    """SHA-256 of its bundle.json."""
    runtime: str
    """openvino, onnxruntime, tensorrt or triton."""
    precision: str
    """Precision of the computation: f32, bf16 or f16."""


class AnswerBody(Body):
    """Answer to one study."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra={"examples": [EXAMPLE_ANSWER]})

    request_id: str
    """Id of the request: random, or, if the client sent an Idempotency-Key, the same for the same key and token."""
    task: str
    """Task that answered."""
    model: ModelBody
    """Version, bundle and runtime that answered."""
    label: str | None
    """Label; null if the model abstains."""
    title: str
    """Label in words, or "cannot tell"."""
    code: CodeBody | None
    """Label as a DICOM code; null without a label."""
    confidence: float | None
    """Highest probability; null for a task that has none."""
    threshold: float | None
    """Confidence that the most probable label needs: below it the answer is "cannot tell"; null for a task that never
    abstains."""
    probabilities: dict[str, float]
    """Probability of each label; they add up to 1."""
    timings_ms: dict[str, float]
    """Times in ms: `preprocess` includes decoding; `total` includes receiving and waiting."""
    warnings: list[str]
    """Reasons to doubt the answer, such as a missing frame time."""
    details: dict[str, Any] = {}
    """Results beyond a label: measures, curves and flags of a cine MR study."""
    files: dict[str, str] = {}
    """Result files by name, in base64: masks of a cine MR study as NIfTI."""
    research_use: str = RESEARCH_USE
    """Permitted use of the answer."""


class FileBody(Body):
    """One file of a request, in the order sent: an answer or a problem. A file that several tasks accept has one entry
    per task."""

    index: int
    """Position of the file in the request, from 0."""
    answer: AnswerBody | None = None
    """Answer; null if there is a problem."""
    problem: ProblemBody | None = None
    """Reason why there is no answer; null if there is one."""


class StudyBody(Body):
    """Answers to all files of a request."""

    request_id: str
    """Random id made by the service."""
    files: list[FileBody]
    """One entry per file and task that accepts it."""
    research_use: str = RESEARCH_USE
    """Permitted use of the answers."""


class StudyEndBody(Body):
    """Last line of a study's answers as NDJSON. Without it the answers are incomplete."""

    request_id: str
    """Random id made by the service."""
    entries: int
    """Number of entries before this line."""
    research_use: str = RESEARCH_USE
    """Permitted use of the answers."""


class LabelBody(Body):
    """Label that a model can answer."""

    name: str
    """Label, as `label` in an answer."""
    title: str
    """Label in words."""
    code: CodeBody
    """Label as a DICOM code."""


class SlotBody(Body):
    """One task and the model that answers it."""

    task: str
    """Task, as in its route /v1/TASK."""
    source: str
    """Source of the model: folder or registry."""
    ready: bool
    """True if a model answers."""
    model: ModelBody | None
    """Model that answers; null if there is none."""
    challenger: ModelBody | None
    """Model that answers shadow traffic: its answers are counted, and sent to no client."""
    problem: str | None
    """Reason why the latest model is not the one that answers, or why there is none."""
    fallback: str | None
    """Reason why a runtime that is preferred to the one in use is not used; null if none is."""
    labels: list[LabelBody]
    """Labels that the model can answer."""
    threshold: float | None
    """Confidence below which the answer is "cannot tell", unless the bundle has another one for the label."""


class ModelsBody(Body):
    """Models that answer."""

    models: list[SlotBody]
    """One entry per task."""
    feedback: bool
    """True if the service keeps feedback."""
    research_use: str = RESEARCH_USE
    """Permitted use of the answers."""


class AliveBody(Body):
    """The process answers."""

    alive: bool = True
    """True."""


class ReadySlotBody(Body):
    """Readiness of one task."""

    task: str
    """Task of the slot."""
    ready: bool
    """True if a model answers."""
    stale: bool
    """True if the latest model was refused or cannot be fetched and an older one answers; /v1/models gives the reason.
    """


class ReadyBody(Body):
    """Readiness of the service."""

    ready: bool
    """True if every task has a model."""
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
        threshold=threshold_of(result, answered.model.bundle.thresholds),
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
        fallback=(model.fallback or None) if model else None,
        labels=[
            LabelBody(name=label.name, title=label.title, code=_code(label)) for label in (spec.labels if spec else ())
        ],
        threshold=model.bundle.thresholds.abstain_below if model else None,
    )
