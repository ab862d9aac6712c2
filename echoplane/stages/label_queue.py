"""`echoplane label-queue`: writes a CSV file of answered studies that people should label, for `echoplane feedback`.

The prediction log says what the model was unsure of and how its embeddings lie; `echoplane.monitoring.label_choice`
chooses. The log names no patient and no examination, so neither does the queue.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from echoplane.errors import ConfigError
from echoplane.files import write_atomically
from echoplane.monitoring.compaction import logged_rows
from echoplane.monitoring.label_choice import Choice, choose
from echoplane.monitoring.prediction_log import Row, unpacked
from echoplane.stages.labels import REQUEST_IDS, last_of_each_request
from echoplane.tasks import Task, by_name

COLUMNS = ("request_id", "file", "task", "model_version", "top_label", "confidence", "why", "label")
"""Columns of a queue. People fill in the last one."""
MAX_POOL, MAX_KNOWN = 10_000, 1_000
"""Maximum number of studies that are chosen from, and of labelled ones that these should be unlike: the latest."""
UNSURE, UNLIKE = "the model is unsure", "unlike the other studies"


class Config(BaseModel):
    """Chooses answered studies for people to label."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    task: str
    """Task whose answers people label; its truth must be a label."""
    predictions: str
    """Folder or s3:// address of the prediction log and the feedback, the service's setting ECHOPLANE_PREDICTION_LOG or
    ECHOPLANE_PREDICTION_LOG_URL."""
    copies: str = ""
    """Folder of the gateway's copies for training. If given, only studies that are there are chosen, at most one per
    examination, and the column `file` names their copies."""
    count: int = Field(default=50, ge=1, le=10_000)
    """Maximum number of studies in the queue."""
    out: str
    """New CSV file for the queue, such as queue.csv."""


def run(config: Config) -> dict[str, Any]:
    """Writes the queue and returns its counts.

    Only answers of the model that answered last are chosen from, for embeddings of two models cannot be compared.
    Raises ConfigError if the task's truth is not a label, `out` exists, or there is no study to choose from.
    """
    task, out = labelled_task(config.task), Path(config.out)
    if out.exists():
        raise ConfigError("`out` exists, and people may have filled it in; give a new file.")
    rows = logged_rows(config.predictions, task.NAME)
    if not rows:
        raise ConfigError(f"the prediction log holds no answer of {task.NAME}.")
    rows = _comparable([row for row in rows if row.bundle == rows[-1].bundle])
    said = last_of_each_request(config.predictions)
    labelled = {request for request, row in said.items() if row.task == task.NAME}
    files = copies_of(Path(config.copies)) if config.copies else None
    pool = _unlabelled(rows, labelled, files)[-MAX_POOL:]
    if not pool:
        missing = "; give the folder in which the gateway copies studies" if files is not None else ""
        raise ConfigError(f"no study of the last model is left that has no label{missing}.")
    known = [row for row in rows if row.request_id in labelled][-MAX_KNOWN:]
    chosen = _choose(pool, known, files or {}, config.count)
    write_atomically(out, _table(task, pool, chosen, files or {}).encode())
    return {"task": task.NAME, "chosen": len(chosen), "of": len(pool), "already_labelled": len(labelled)}


def labelled_task(name: str) -> Task:
    """Returns a task. Raises ConfigError if its truth is not a label."""
    task = by_name(name)
    if task.TRUTH != "label":
        raise ConfigError(
            f"the truth of {name} is not a label but {task.TRUTH}, which a queue cannot ask for; give a task that "
            "classifies."
        )
    return task


def copies_of(folder: Path) -> dict[str, str]:
    """Returns the copies below `folder` by the requests that their names hold, as paths relative to it.

    Raises ConfigError if it is not a folder.
    """
    if not folder.is_dir():
        raise ConfigError("`copies` is not a folder that can be read.")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        request: path.relative_to(folder).as_posix() for path in paths for request in REQUEST_IDS.findall(path.stem)
    }


def _comparable(rows: list[Row]) -> list[Row]:
    """Returns the rows with a confidence and a finite embedding; a row of float16 may overflow."""
    embedding_NF = unpacked([row.embedding for row in rows])
    finite_N = np.isfinite(embedding_NF).all(axis=1)
    return [row for row, finite in zip(rows, finite_N, strict=True) if finite and row.confidence is not None]


def _unlabelled(rows: Sequence[Row], labelled: set[str], files: Mapping[str, str] | None) -> list[Row]:
    """Returns the rows without feedback, and without feedback on another answer about the same copy."""
    if files is None:
        return [row for row in rows if row.request_id not in labelled]
    left_out = {None, *(files.get(request) for request in labelled)}
    return [row for row in rows if row.request_id not in labelled and files.get(row.request_id) not in left_out]


def _choose(pool: list[Row], known: list[Row], files: Mapping[str, str], count: int) -> list[Choice]:
    """Returns the chosen places in `pool`. A copy's folder is its examination."""
    examinations = [Path(files[row.request_id]).parent.as_posix() if files else row.request_id for row in pool]
    embedding_NF = unpacked([row.embedding for row in pool])
    return choose(
        embedding_NF,
        _uncertainty(pool),
        count,
        known_NF=unpacked([row.embedding for row in known], embedding_NF.shape[1]) if known else None,
        group_N=np.unique(examinations, return_inverse=True)[1],
    )


def _uncertainty(rows: Sequence[Row]) -> np.ndarray:
    return np.array([1 - (row.confidence or 0) for row in rows])


def _table(task: Task, pool: list[Row], chosen: list[Choice], files: Mapping[str, str]) -> str:
    names, uncertainty_N = [label.name for label in task.labels()], _uncertainty(pool)
    usual_uncertainty = float(np.median(uncertainty_N))
    usual = float(np.median([one.distance for one in chosen if one.distance is not None] or [0]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in chosen:
        row = pool[one.place]
        unlike = one.distance is not None and one.distance > usual
        unsure = uncertainty_N[one.place] >= usual_uncertainty or not unlike
        why = "; ".join(word for word, true in ((UNSURE, unsure), (UNLIKE, unlike)) if true)
        stated = f"{row.confidence:.3f}"
        file = files.get(row.request_id, "")
        writer.writerow([row.request_id, file, task.NAME, row.model_version, _top(row, names), stated, why, ""])
    return text.getvalue()


def _top(row: Row, names: Sequence[str]) -> str:
    """Returns the label of an answer, or the most probable one if the answer was "cannot tell"."""
    if row.label is not None or len(row.probabilities) != len(names):
        return row.label or ""
    return names[int(np.argmax(row.probabilities))]
