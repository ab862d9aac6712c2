"""Reads the feedback beside a prediction log, in a folder or a bucket, into the monitor's database."""

import sqlite3
from pathlib import Path

from echoplane import storage
from echoplane.monitoring.agreement import add_feedback, whole_rows
from echoplane.monitoring.feedback import FEEDBACK_SUFFIX
from echoplane.storage import BUCKET


class FeedbackReader:
    """Reads the feedback beside the log at `place`; a file is read again when its size changes."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._sizes: dict[str, int] = {}

    def read_into(self, database: sqlite3.Connection) -> None:
        """Adds new feedback; of each request, what was said last counts."""
        if not self._place.startswith(BUCKET) and not Path(self._place).is_dir():
            return
        for one in storage.listed(self._place):
            if one.name.endswith(FEEDBACK_SUFFIX) and one.size != self._sizes.get(one.name, 0):
                rows = whole_rows(storage.content(self._place, one.name))
                with database:
                    add_feedback(database, rows)
                self._sizes[one.name] = one.size
