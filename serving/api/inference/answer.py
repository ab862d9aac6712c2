"""Answer one file: read it, choose its task, run the model of that task."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from echoplane import runtimes
from echoplane.errors import EchoplaneError, InputError, NotAnImage, Unsupported, UnusableStudy
from echoplane.monitoring import metrics
from echoplane.study import reading
from echoplane.study.cine_files import ZIP
from echoplane.study.study import Instance, Study
from echoplane.tasks.task import Result
from serving.api.failures import log_failure
from serving.api.models.slots import Model, Slot

TASK_BY_MODALITY = {("US", "clip"): "echo-view-video", ("MR", "cine"): "cmr-segmentation"}
CINE_TASK = TASK_BY_MODALITY["MR", "cine"]


@dataclass(frozen=True)
class Received:
    """When a request came in (perf_counter seconds) and how long receiving it took."""

    request_id: str
    start_s: float
    upload_ms: float


@dataclass(frozen=True)
class Answered:
    """The result of one study, with the model that gave it; `files` are the task's files by name."""

    request_id: str
    model: Model
    result: Result
    files: dict[str, bytes]
    timings_ms: dict[str, float]


class StudyRefused(EchoplaneError):
    """A study that cannot be answered: the InputError that says why, and its task once one is chosen."""

    def __init__(self, error: InputError, task: str | None) -> None:
        super().__init__(str(error))
        self.error, self.task = error, task


def answer_file(file: BinaryIO, slots: Mapping[str, Slot], received: Received, task: str | None) -> Answered:
    """Answer one file with the model of `task`, or of the task that accepts its content; raises StudyRefused.

    Runs on a thread, which holds the whole file in memory only while it works on it.
    """
    begin = time.perf_counter()
    try:
        study = read_study(_without_wrong_zip(file.read(), task), received.request_id)
        read = time.perf_counter()
        task = task or choose_task(study, slots)
        with slots[task].lease() as model:
            answer = runtimes.answer(study, model)
            timings_ms = {"upload": received.upload_ms, "read": 1000 * (read - begin), **answer.timings_ms}
            timings_ms["total"] = 1000 * (time.perf_counter() - received.start_s)
            files = answer.result.files(study)
    except InputError as error:
        raise StudyRefused(error, task) from None
    metrics.answered(task, model.version, answer.result.label, timings_ms)
    return Answered(received.request_id, model, answer.result, files, timings_ms)


def _without_wrong_zip(data: bytes, task: str | None) -> bytes:
    """Return `data`; raises Unsupported if it is a zip, which is read as one cine MR, and `task` answers no cine MR."""
    if data[:4] == ZIP and task not in (None, CINE_TASK):
        raise Unsupported(
            f"a zip is read as one cine MR, which {task} does not answer. Send one clip as a file, or the clips of a "
            "study as several files to /v1/study."
        )
    return data


def read_study(data: bytes, request_id: str) -> Study:
    """Read a client's file. An error that the reader does not foresee is the file's fault too, and is logged."""
    try:
        return reading.read_study(data)
    except InputError:
        raise
    except Exception as error:  # a damaged file can make a parser fail in any way
        log_failure(f"request {request_id}", error)
        raise NotAnImage(f"the file is damaged ({type(error).__name__} while reading it).") from None


def choose_task(study: Study, slots: Mapping[str, Slot]) -> str:
    """Choose by modality and number of frames; raises UnusableStudy if no task served here accepts such a file."""
    modality, kind = ("MR", "cine") if study.cines else _kind(study.only)
    task = TASK_BY_MODALITY.get((modality, kind))
    if task is None or task not in slots:
        raise UnusableStudy(f"no model here answers a {kind} of modality {modality}; see /v1/models.")
    return task


def _kind(instance: Instance) -> tuple[str, str]:
    return instance.modality, "still" if instance.frame_count == 1 else "clip"
