"""`echoplane feedback`: labels of a filled-in queue become feedback, beside the prediction log.

Feedback teaches, and never changes the label of a patient of the test set (`echoplane.dataset.truths`). A labels file
of the de-identification (`--labels`) would, so a queue must not be given there.
"""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from echoplane import storage
from echoplane.errors import ConfigError
from echoplane.monitoring.compaction import logged_rows
from echoplane.monitoring.feedback import FEEDBACK_SUFFIX, FeedbackRow
from echoplane.monitoring.prediction_log import now
from echoplane.stages.label_queue import labelled_task

NEEDED = ("request_id", "task", "label")
Filled = tuple[int, str, str, str]
"""Number of a row in the file, its request, task and label."""


class Config(BaseModel):
    """Gives the labels of a filled-in queue as feedback."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    queue: str
    """CSV file that `echoplane label-queue` wrote, with labels in its column `label`; rows without one are left out."""
    predictions: str
    """Folder or s3:// address of the prediction log, the service's setting ECHOPLANE_PREDICTION_LOG or
    ECHOPLANE_PREDICTION_LOG_URL."""
    by: str = Field(min_length=1, max_length=100, pattern=r"\S")
    """Person who gives the labels."""


def run(config: Config) -> dict[str, Any]:
    """Writes the feedback and returns how many labels were given, and how many rows have none yet.

    Nothing is written if a row is wrong. Raises ConfigError if the file is no queue, or a row has an unknown label, a
    request that the log does not hold, or one that another row labels differently.
    """
    rows = list(_rows(Path(config.queue)))
    filled = [row for row in rows if row[3]]
    given: list[FeedbackRow] = []
    for name in sorted({task for _, _, task, _ in filled}):
        given += _of_task(name, [row for row in filled if row[2] == name], config.predictions, config.by.strip())
    if given:
        name = f"feedback-{now():%Y%m%dT%H%M%S%f}-{os.getpid()}{FEEDBACK_SUFFIX}"
        storage.write(config.predictions, name, "".join(f"{row.model_dump_json()}\n" for row in given).encode())
    return {"labels": len(given), "without_label": len(rows) - len(filled)}


def _rows(path: Path) -> Iterator[Filled]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, restval="")
            if not set(NEEDED) <= set(table.fieldnames or ()):
                raise ConfigError(
                    f"the queue needs the columns {', '.join(NEEDED)}, separated by commas; give a file that "
                    "`echoplane label-queue` wrote."
                )
            for number, row in enumerate(table, 2):
                request_id, task, label = (row[name].strip() for name in NEEDED)
                yield number, request_id, task, label
    except OSError as error:
        raise ConfigError(f"the queue can't be read ({error.strerror}); give a CSV file.") from None
    except (UnicodeDecodeError, csv.Error):
        raise ConfigError("the queue can't be read; expected CSV in UTF-8.") from None


def _of_task(name: str, filled: list[Filled], predictions: str, author: str) -> list[FeedbackRow]:
    task = labelled_task(name)
    allowed = [label.name for label in task.labels()]
    if wrong := [number for number, _, _, label in filled if label not in allowed]:
        raise ConfigError(f"the label in {_named(wrong)} is none of {', '.join(allowed)}.")
    sites = {row.request_id: row.site for row in logged_rows(predictions, task.NAME)}
    if wrong := [number for number, request_id, _, _ in filled if request_id not in sites]:
        raise ConfigError(
            f"the log holds no answer of the request in {_named(wrong)}. A spreadsheet may have changed the ids to "
            "numbers: import that column as text."
        )
    labels: dict[str, str] = {}
    if wrong := [number for number, request_id, _, label in filled if labels.setdefault(request_id, label) != label]:
        raise ConfigError(f"{_named(wrong)} labels a request that an earlier row labels differently.")
    return [
        FeedbackRow(time=now(), request_id=request, task=name, label=label, author=author, site=sites[request])
        for request, label in labels.items()
    ]


def _named(numbers: list[int]) -> str:
    """Returns the first rows by number; never what they hold."""
    shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return f"row {shown}" if len(numbers) == 1 else f"rows {shown}"
