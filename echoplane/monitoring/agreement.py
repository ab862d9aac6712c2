"""Share of answers that people's labels agree with: feedback joined to the prediction log by request.

People give feedback on studies that they choose, often on wrong answers, so the share that agrees is no accuracy of all
studies. It is reported with its number and interval, by bundle.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from echoplane import storage
from echoplane.binomial import exact_interval
from echoplane.monitoring.feedback import FEEDBACK_SUFFIX, FeedbackRow
from echoplane.monitoring.prediction_log import Row
from echoplane.storage import BUCKET

SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (request TEXT, task TEXT, bundle TEXT, label TEXT, PRIMARY KEY (request, task));
CREATE TABLE IF NOT EXISTS feedback (request TEXT, task TEXT, label TEXT, time TEXT, PRIMARY KEY (request, task));
"""
MAX_ANSWERS = 1_000_000
"""Answers that feedback can still be joined to, some 200 MB on disk."""
COUNTS = """
SELECT answers.bundle, COUNT(*), SUM(answers.label = feedback.label) FROM feedback JOIN answers USING (request, task)
GROUP BY answers.bundle
"""
NEWER = """
INSERT INTO feedback VALUES (?, ?, ?, ?) ON CONFLICT (request, task) DO UPDATE
SET label = excluded.label, time = excluded.time WHERE excluded.time >= feedback.time
"""


@dataclass(frozen=True)
class Agreement:
    """`agreeing` of `studies` answered studies with feedback, and the exact binomial 95 % interval of that share."""

    studies: int
    agreeing: int

    @property
    def share(self) -> float:
        return self.agreeing / self.studies

    @property
    def interval(self) -> tuple[float, float]:
        return exact_interval(self.agreeing, self.studies)


def add_answers(database: sqlite3.Connection, rows: list[Row]) -> None:
    """Remembers the labels of the last MAX_ANSWERS answers; "cannot tell" is no answer that could be wrong."""
    known = [(row.request_id, row.task, row.bundle, row.label) for row in rows if row.label is not None]
    database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", known)
    database.execute("DELETE FROM answers WHERE rowid <= (SELECT MAX(rowid) FROM answers) - ?", (MAX_ANSWERS,))


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
                rows = _rows(storage.content(self._place, one.name))
                with database:
                    database.executemany(NEWER, [(r.request_id, r.task, r.label, r.time.isoformat()) for r in rows])
                self._sizes[one.name] = one.size


def _rows(content: bytes) -> list[FeedbackRow]:
    rows = []
    for line in content.splitlines():
        try:
            rows.append(FeedbackRow.model_validate_json(line))
        except ValidationError:  # the last line may not be whole yet; it is read again with the next ones
            continue
    return rows


def agreements(database: sqlite3.Connection) -> dict[str, Agreement]:
    """Returns the agreement on the answers of each bundle that has feedback."""
    return {bundle: Agreement(studies, agreeing) for bundle, studies, agreeing in database.execute(COUNTS)}
