"""What the service says about a file, and how it comes to say it."""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict

from echoplane import runtimes
from echoplane.bundle.spec import LabelCode
from echoplane.errors import InputError, NotAnImage, UnusableStudy
from echoplane.monitoring import metrics
from echoplane.runtimes import Answer
from echoplane.study import reading
from echoplane.study.study import Instance, Study
from serving import problems
from serving.guard import log_failure
from serving.problems import ProblemBody
from serving.slots import Model, Slot

RESEARCH_USE = "Research use only. Not a medical device."
TASK_BY_MODALITY = {("US", "clip"): "echo-view-video", ("MR", "cine"): "cmr-segmentation"}


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
    confidence: float
    """The highest probability."""
    threshold: float
    """A confidence below it answers "cannot tell"."""
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
    """One file of a request, in the order they were sent: an answer or a problem."""

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
    problem: str | None
    """Why the newest model is not the one that answers, or why there is none."""
    labels: list[LabelBody]
    threshold: float | None


class ModelsBody(_Body):
    models: list[SlotBody]
    research_use: str = RESEARCH_USE


@dataclass(frozen=True)
class Received:
    """When a request came in (perf_counter seconds) and how long receiving it took."""

    request_id: str
    start_s: float
    upload_ms: float


def answer_file(file: BinaryIO, slots: Mapping[str, Slot], received: Received, task: str | None) -> AnswerBody:
    """The answer to one file, by the model of `task` or of the task that its content asks for.

    Runs on a thread, which holds the whole file in memory only while it works on it.
    """
    begin = time.perf_counter()
    try:
        study = read_study(file.read(), received.request_id)
        read = time.perf_counter()
        task = task or choose_task(study, slots)
        with slots[task].lease() as model:
            answer = runtimes.answer(study, model.bundle, model.runtime)
            timings_ms = {"upload": received.upload_ms, "read": 1000 * (read - begin), **answer.timings_ms}
            timings_ms["total"] = 1000 * (time.perf_counter() - received.start_s)
            body = answer_body(received.request_id, model, answer, study, timings_ms)
    except InputError as error:
        raise problems.of_input(error, task) from None
    metrics.answered(task, model.version, body.label, timings_ms)
    return body


def read_study(data: bytes, request_id: str) -> Study:
    """The study in a client's file. What the reader did not foresee is the file's fault too, and is logged."""
    try:
        return reading.read_study(data)
    except InputError:
        raise
    except Exception as error:  # a damaged file can make a parser fail in any way
        log_failure(f"request {request_id}", error)
        raise NotAnImage(f"the file is damaged ({type(error).__name__} while reading it).") from None


def choose_task(study: Study, slots: Mapping[str, Slot]) -> str:
    """By modality and frames; UnusableStudy where no task served here takes such a file."""
    modality, kind = ("MR", "cine") if study.cines else _kind(study.only)
    task = TASK_BY_MODALITY.get((modality, kind))
    if task is None or task not in slots:
        raise UnusableStudy(f"no model here answers a {kind} of modality {modality}; see /v1/models.")
    return task


def _kind(instance: Instance) -> tuple[str, str]:
    return instance.modality, "still" if instance.frame_count == 1 else "clip"


def answer_body(
    request_id: str, model: Model, answer: Answer, study: Study, timings_ms: dict[str, float]
) -> AnswerBody:
    result = answer.result
    label = next((label for label in model.bundle.spec.labels if label.name == result.label), None)
    return AnswerBody(
        request_id=request_id,
        task=model.bundle.spec.task,
        model=model_body(model),
        label=result.label,
        title=label.title if label else result.label or "cannot tell",
        code=_code(label) if label else None,
        confidence=result.confidence,
        threshold=model.bundle.spec.abstain_below,
        probabilities=result.probabilities,
        timings_ms={stage: round(elapsed_ms, 3) for stage, elapsed_ms in timings_ms.items()},
        warnings=list(result.warnings),
        details=result.details(),
        files={name: base64.b64encode(content).decode() for name, content in result.files(study).items()},
    )


def _code(label: LabelCode) -> CodeBody:
    return CodeBody(value=label.code, scheme=label.scheme, meaning=label.meaning)


def model_body(model: Model) -> ModelBody:
    return ModelBody(
        name=model.bundle.spec.task,
        version=model.version,
        bundle=model.bundle.id,
        runtime=model.runtime.name,
        precision=model.runtime.precision,
    )


def slot_body(slot: Slot) -> SlotBody:
    model = slot.model
    spec = model.bundle.spec if model else None
    return SlotBody(
        task=slot.task,
        source=slot.source.kind,
        ready=model is not None,
        model=model_body(model) if model else None,
        problem=slot.problem,
        labels=[
            LabelBody(name=label.name, title=label.title, code=_code(label)) for label in (spec.labels if spec else ())
        ],
        threshold=spec.abstain_below if spec else None,
    )
