"""Feedback: the label that a person gives a study that the service answered, joined to the answer by request id.

A row is one line of JSON (`FeedbackRow`) in a file beside the prediction log. It holds a label of the task's list and
no free text, so nobody can write a patient's name into it.
"""

import os
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.errors import ConfigError, StageError
from echoplane.monitoring.prediction_log import now

FEEDBACK_SUFFIX = ".feedback.ndjson"
"""End of the names of feedback files, which differs from that of prediction logs in the same folder."""
MAX_FILE_BYTES = 64 << 20
"""Maximum size of one process's file: some 300,000 rows."""
REQUEST_ID = r"^[0-9a-f]{16}$"


class FeedbackRow(BaseModel):
    """Label that a person gave to one answered study."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    time: datetime
    """Time of the feedback, UTC."""
    request_id: str = Field(pattern=REQUEST_ID)
    """Id of the request that was answered."""
    task: str
    label: str
    """Label of the task's list that the person found right."""
    author: str
    """Name of the access token, or subject of the provider's token; "anonymous" without authentication."""
    site: str


class FeedbackFull(StageError):
    """Raised if a row cannot be kept."""


class FeedbackLog:
    """Appends rows to a file below `folder`; one instance per process. Raises ConfigError if it cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        name = f"feedback-{now():%Y%m%dT%H%M%S%f}-{os.getpid()}{FEEDBACK_SUFFIX}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._path = folder / name
            self._path.touch()
        except OSError as error:
            raise ConfigError(f"feedback can't be written ({error.strerror}); give another folder.") from None

    def add(self, row: FeedbackRow) -> None:
        """Writes `row` to disk before it returns. Raises FeedbackFull if it cannot be kept."""
        line = f"{row.model_dump_json()}\n".encode()
        try:
            with self._lock, self._path.open("ab") as file:
                if file.tell() + len(line) > MAX_FILE_BYTES:
                    raise FeedbackFull("the feedback file holds as much as it may.")
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise FeedbackFull(f"feedback cannot be written ({error.strerror}).") from None


def read_feedback(folder: Path, task: str) -> Iterator[FeedbackRow]:
    """Yields the feedback on `task` below `folder`, oldest first: of each request, what was said last.

    A last line that is incomplete because its process ended is skipped. Raises ConfigError if a line is not a row.
    """
    found = sorted(folder.rglob(f"*{FEEDBACK_SUFFIX}"))
    rows = [row for path in found for row in rows_of(path.read_bytes(), path.name) if row.task == task]
    last = {row.request_id: row for row in sorted(rows, key=lambda row: row.time)}
    yield from sorted(last.values(), key=lambda row: row.time)


def rows_of(content: bytes, name: str) -> Iterator[FeedbackRow]:
    """Yields the rows of one file, without an incomplete last line. Raises ConfigError if a line is no row."""
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            yield FeedbackRow.model_validate_json(line)
        except ValidationError:
            raise ConfigError(f"line {number} of {name} is no row of feedback.") from None
