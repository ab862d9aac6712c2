"""Answers one file: reads it, chooses its task, runs the model of that task."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from echoplane import runtimes
from echoplane.errors import EchoplaneError, InputError, Unsupported, UnusableStudy
from echoplane.monitoring import metrics
from echoplane.monitoring.prediction_log import PredictionLog
from echoplane.study.cine_files import ZIP
from echoplane.study.study import Study
from echoplane.tasks import by_name
from echoplane.tasks.task import Result
from serving.api.decoding.deadline import Deadline
from serving.api.decoding.pool import Decoders
from serving.api.failures import log_failure
from serving.api.inference.record import row_of
from serving.api.models.slots import Model, NoModel, Slot


@dataclass(frozen=True)
class Received:
    """Arrival time of a request (perf_counter seconds), the time taken to receive it, its deadline, and the site of its
    caller. A request that is not `monitored` asks again about files that have been answered: they do not count twice
    in the metrics, the prediction log or the evidence on a challenger."""

    request_id: str
    site: str
    start_s: float
    upload_ms: float
    deadline: Deadline
    monitored: bool = True


@dataclass(frozen=True)
class Answered:
    """Result of one study, with the model that gave it; `files` are the task's files by name."""

    request_id: str
    model: Model
    result: Result
    files: dict[str, bytes]
    timings_ms: dict[str, float]


class StudyRefused(EchoplaneError):
    """Raised if a study cannot be answered: holds the InputError with the reason, and the task once one is chosen."""

    def __init__(self, error: InputError, task: str | None) -> None:
        super().__init__(str(error))
        self.error, self.task = error, task


class TaskFailed(EchoplaneError):
    """Raised if a task failed for a reason that nobody foresaw; the service's log has it."""

    def __init__(self, task: str) -> None:
        super().__init__(f"{task} failed.")
        self.task = task


Outcome = Answered | StudyRefused | NoModel | TaskFailed


def answer_file(
    file: BinaryIO,
    slots: Mapping[str, Slot],
    decoders: Decoders,
    received: Received,
    task: str | None,
    prediction_log: PredictionLog | None = None,
) -> list[Outcome]:
    """Answers one file with the model of `task`, or of each task that accepts its content. A task that fails takes no
    other task's answer with it.

    Raises StudyRefused if the file cannot be read or no task accepts it, DeadlineReached at the deadline. Runs on a
    thread; a decoder process reads the file.
    """
    begin = time.perf_counter()
    try:
        _refuse_wrong_zip(file, task)
        with decoders.reading(file, received.deadline, received.request_id) as study:
            tasks = [task] if task else accepting(study, slots)
            read_ms = 1000 * (time.perf_counter() - begin)
            return [_answer(study, file, slots[each], received, read_ms, prediction_log) for each in tasks]
    except InputError as error:
        raise StudyRefused(error, task) from None


def _answer(
    study: Study,
    file: BinaryIO,
    slot: Slot,
    received: Received,
    read_ms: float,
    prediction_log: PredictionLog | None,
) -> Outcome:
    try:
        with slot.lease() as model:
            answer = runtimes.answer(study, model)
            timings_ms = {"upload": received.upload_ms, "read": read_ms, **answer.timings_ms}
            timings_ms["total"] = 1000 * (time.perf_counter() - received.start_s)
            files = answer.result.files(study)
    except InputError as error:
        return StudyRefused(error, slot.task)
    except NoModel as error:
        return error
    except EchoplaneError:
        raise
    except Exception as error:
        log_failure(f"request {received.request_id}, {slot.task},", error)
        return TaskFailed(slot.task)
    answered = Answered(received.request_id, model, answer.result, files, timings_ms)
    if not received.monitored:
        return answered
    metrics.answered(slot.task, model.version, answer.result.label, timings_ms)
    if slot.shadow is not None:
        slot.shadow.offer(file, answer.result.label)
    if prediction_log:
        prediction_log.add(row_of(study, answer, model, received.request_id, received.site, timings_ms))
    return answered


def _refuse_wrong_zip(file: BinaryIO, task: str | None) -> None:
    """Raises Unsupported if the file is a zip, which is read as one cine MR study, and `task` does not answer cine
    MR."""
    if file.read(len(ZIP)) == ZIP and task and by_name(task).STUDY == "file":
        raise Unsupported(
            f"a zip is read as one cine MR, which {task} does not answer. Send one clip as a file, or the clips of a "
            "study as several files to /v1/study."
        )


def accepting(study: Study, slots: Mapping[str, Slot]) -> list[str]:
    """Returns the tasks served here that accept the study. Raises UnusableStudy if none does."""
    tasks = [name for name in slots if by_name(name).accepts(study)]
    if not tasks:
        raise UnusableStudy(f"no model here answers {_described(study)}; see /v1/models.")
    return tasks


def _described(study: Study) -> str:
    """Returns modality and kind, such as "a still of modality US"."""
    if study.cines:
        return "a cine of modality MR"
    instance = study.only
    return f"a {'still' if instance.frame_count == 1 else 'clip'} of modality {instance.modality}"
