"""Counts how often people find the answers of this device wrong: feedback beside the prediction log, joined to answers.

Answers leave the device when they have been sent, so their labels are kept in a small database. A fault of it costs the
counts, never a cycle of the agent.
"""

import sqlite3
from collections.abc import Collection, Iterable
from contextlib import closing
from pathlib import Path

from echoplane.monitoring.agreement import SCHEMA, Agreement, add_answers, add_feedback, agreements, whole_rows
from echoplane.monitoring.feedback import FEEDBACK_SUFFIX
from echoplane.monitoring.prediction_log import Row

KEPT = 100_000
"""Answers that feedback can still be joined to, some 20 MB on disk."""


def remember(path: Path, rows: Iterable[Row]) -> None:
    """Keeps the labels of `rows` in the database at `path`. Raises sqlite3.Error if that fails."""
    with closing(_opened(path)) as database, database:
        add_answers(database, rows, KEPT)


def forget(path: Path, bundle: str, kept: Collection[str]) -> None:
    """Forgets the answers of `bundle`, which is tried anew, and of all bundles that are not `kept`."""
    with closing(_opened(path)) as database, database:
        known = {name for (name,) in database.execute("SELECT DISTINCT bundle FROM answers")}
        gone = [(name,) for name in known if name == bundle or name not in kept]
        database.executemany("DELETE FROM answers WHERE bundle = ?", gone)


def told(path: Path, log: Path) -> dict[str, Agreement]:
    """Reads the feedback in the folder `log` and returns, by bundle, how many answers it agrees with."""
    with closing(_opened(path)) as database:
        with database:
            for file in sorted(log.glob(f"*{FEEDBACK_SUFFIX}")):
                add_feedback(database, whole_rows(file.read_bytes()))
        return agreements(database)


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    database.executescript(SCHEMA)
    return database
