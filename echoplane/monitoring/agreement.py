"""Share of answers that people's labels agree with: feedback joined to the prediction log by request.

People give feedback on studies that they choose, often on wrong answers, so the share that agrees is no accuracy of all
studies. It is reported with its number and interval, by bundle.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from echoplane.binomial import exact_interval
from echoplane.monitoring.feedback import FeedbackRow
from echoplane.monitoring.prediction_log import Row

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


def add_answers(database: sqlite3.Connection, rows: Iterable[Row], kept: int = MAX_ANSWERS) -> None:
    """Remembers the labels of the last `kept` answers; "cannot tell" is no answer that could be wrong."""
    known = [(row.request_id, row.task, row.bundle, row.label) for row in rows if row.label is not None]
    database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", known)
    database.execute("DELETE FROM answers WHERE rowid <= (SELECT MAX(rowid) FROM answers) - ?", (kept,))


def add_feedback(database: sqlite3.Connection, rows: Iterable[FeedbackRow]) -> None:
    """Adds what people said; of each request, what was said last counts."""
    database.executemany(NEWER, [(row.request_id, row.task, row.label, row.time.isoformat()) for row in rows])


def whole_rows(content: bytes) -> list[FeedbackRow]:
    """Returns the rows of a feedback file that may still be written to; what is no row is passed over."""
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
