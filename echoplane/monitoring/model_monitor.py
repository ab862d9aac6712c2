"""Monitors of all models in service: one per bundle, fed by the prediction log, kept in a SQLite file.

Each step reads new rows and adds them to their monitors. Monitors and positions are stored in one transaction, when
there is nothing more to read and every STORE_S until then. So a process that is killed goes on exactly where it stored
last.
"""

import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from echoplane.bundle.accuracy_model import Estimate
from echoplane.collection import collection_paused
from echoplane.monitoring import agreement
from echoplane.monitoring.agreement import Agreement
from echoplane.monitoring.answer_window import AnswerWindow
from echoplane.monitoring.drift import THRESHOLD, WINDOW, TaskMonitor
from echoplane.monitoring.feedback_reader import FeedbackReader
from echoplane.monitoring.groups import groups_of
from echoplane.monitoring.log_reader import Step, read_step
from echoplane.monitoring.monitor_state import dumped, restore
from echoplane.monitoring.prediction_log import Row, first_of_each
from echoplane.monitoring.rank_streams import MAX_HISTORY
from echoplane.monitoring.reference import CANNOT_TELL, Reference

DATABASE = "monitor.sqlite3"
MAX_SEEN = 10_000
"""Requests that are remembered, so that a repeated one counts once: clients repeat within minutes."""
STORE_S = 10.0
"""Time in seconds after which the state is stored while a long log is caught up with; it is some 20 MB."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS positions (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS models (bundle TEXT PRIMARY KEY, about TEXT NOT NULL, monitor BLOB);
"""

log = logging.getLogger(__name__)
FindReference = Callable[[str], Reference]


@dataclass
class ModelMonitor:
    """Monitor of one bundle. `problem` says why there is no reference; then rows are only counted."""

    task: str
    version: str
    bundle: str
    first: datetime
    last: datetime
    studies: int = 0
    abstained: int = 0
    problem: str = ""
    reference: Reference | None = None
    monitor: TaskMonitor | None = None
    agreement: Agreement | None = None
    recent: deque[dict[str, float]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    evidence: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_HISTORY))

    answers: AnswerWindow = field(default_factory=AnswerWindow)

    def add(self, rows: Sequence[Row]) -> None:
        """Adds answered studies, oldest first."""
        self.studies += len(rows)
        self.abstained += sum(row.label is None for row in rows)
        self.first, self.last = min(self.first, rows[0].time), max(self.last, rows[-1].time)
        if self.monitor is None or self.reference is None:
            return
        if self.reference.accuracy_model:
            self.answers.add(rows, self.reference.accuracy_model)
        values_NS = self.reference.values(rows)
        labels = [row.label or CANNOT_TELL for row in rows]
        evidence_N = self.monitor.add_all(values_NS, labels, groups_of(rows, self.monitor.groups))
        names = self.reference.names
        self.recent.extend(dict(zip(names, values, strict=True)) for values in values_NS[-WINDOW:].tolist())
        self.evidence.extend(evidence_N.tolist())

    @property
    def estimate(self) -> Estimate | None:
        """Estimated accuracy of the last window; None before it is full, or if the bundle has no estimate."""
        model = self.reference.accuracy_model if self.reference else None
        return self.answers.estimate(model) if model else None

    @property
    def ratio(self) -> float:
        """Evidence as a share of the threshold: 1 raises an alarm."""
        return self.monitor.evidence / THRESHOLD if self.monitor else 0.0

    def about(self) -> str:
        return json.dumps(
            {
                "task": self.task,
                "version": self.version,
                "first": self.first.isoformat(),
                "last": self.last.isoformat(),
                "studies": self.studies,
                "abstained": self.abstained,
                "recent": list(self.recent),
                "evidence": list(self.evidence),
                "answers": self.answers.stored(),
            }
        )

    @classmethod
    def stored(cls, bundle: str, about: str) -> "ModelMonitor":
        known = json.loads(about)
        recent, evidence = known.pop("recent"), known.pop("evidence")
        answers = known.pop("answers", [])  # states of versions that did not estimate accuracy lack it
        first, last = (datetime.fromisoformat(known.pop(name)) for name in ("first", "last"))
        made = cls(bundle=bundle, first=first, last=last, **known)
        made.recent.extend(recent)
        made.evidence.extend(evidence)
        made.answers = AnswerWindow.restored(answers)
        return made


class Monitors:
    """All monitors of an installation, kept in `folder`; the log is at `place`. `find_reference` returns a bundle's
    reference or raises ValueError with the reason."""

    def __init__(self, folder: Path, place: str, find_reference: FindReference) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._place, self._find_reference = place, find_reference
        self._database = sqlite3.connect(folder / DATABASE, check_same_thread=False)
        self._database.executescript(SCHEMA + agreement.SCHEMA)
        self._feedback = FeedbackReader(place)
        self.positions: dict[str, int] = dict(self._database.execute("SELECT name, bytes FROM positions"))
        """Positions up to which the state is stored: what lies before them is never read again."""
        self._read_to, self._changed, self._stored_s = self.positions, set[str](), time.monotonic()
        self.models: dict[str, ModelMonitor] = {}
        self.bad_lines = 0
        self._seen: dict[tuple[str, str, str], None] = {}
        for bundle, about, state in self._database.execute("SELECT bundle, about, monitor FROM models"):
            self.models[bundle] = ModelMonitor.stored(bundle, about)
            self._give_reference(self.models[bundle], state)

    @collection_paused()
    def step(self) -> Step:
        """Reads new rows, adds them, and stores the state if it is time to. Raises StoreUnavailable if an object store
        is."""
        step = read_step(self._place, self._read_to)
        changed = {row.bundle for row in step.rows}
        for model in (self.models[bundle] for bundle in changed & self.models.keys()):
            if model.monitor is None:  # its evaluation may have arrived meanwhile
                self._give_reference(model, None)
        for rows in _by_bundle(first_of_each(step.rows, self._seen)):
            self._model(rows[0]).add(rows)
        for key in list(self._seen)[:-MAX_SEEN]:
            del self._seen[key]
        self.bad_lines += step.bad_lines
        if step.rows:
            agreement.add_answers(self._database, step.rows)  # in the transaction that `_store` ends
        self._read_to = step.positions
        self._changed |= changed
        if not step.more or time.monotonic() - self._stored_s >= STORE_S:
            self._store()
        self._feedback.read_into(self._database)
        found = agreement.agreements(self._database)
        for model in self.models.values():
            model.agreement = found.get(model.bundle)
        return step

    def _model(self, row: Row) -> ModelMonitor:
        if row.bundle not in self.models:
            made = ModelMonitor(row.task, row.model_version, row.bundle, row.time, row.time)
            self._give_reference(made, None)
            self.models[row.bundle] = made
        return self.models[row.bundle]

    def _give_reference(self, model: ModelMonitor, state: bytes | None) -> None:
        name = model.version or model.bundle[:12]
        try:
            model.reference = self._find_reference(model.bundle)
        except ValueError as error:
            if str(error) != model.problem:
                log.warning("%s %s can't be watched for drift: %s", model.task, name, error)
            model.problem = str(error)
            return
        model.problem = ""
        model.monitor = TaskMonitor(model.reference.streams, model.reference.labels)
        try:
            if state:
                restore(model.monitor, state)
        except ValueError as error:
            log.warning("%s %s is watched from the beginning: %s", model.task, name, error)
            model.monitor.restart()

    def _store(self) -> None:
        self._stored_s = time.monotonic()
        if self._read_to == self.positions:
            return
        with self._database:
            self._database.execute("DELETE FROM positions")
            self._database.executemany("INSERT INTO positions VALUES (?, ?)", self._read_to.items())
            for model in (self.models[bundle] for bundle in self._changed):
                state = dumped(model.monitor) if model.monitor else None
                self._database.execute(
                    "INSERT OR REPLACE INTO models VALUES (?, ?, ?)", (model.bundle, model.about(), state)
                )
        self.positions, self._changed = self._read_to, set()

    def current(self) -> list[ModelMonitor]:
        """Returns the model of each task that answered last."""
        latest: dict[str, ModelMonitor] = {}
        for model in sorted(self.models.values(), key=lambda one: one.last):
            latest[model.task] = model
        return list(latest.values())

    def close(self) -> None:
        self._database.close()


def _by_bundle(rows: Iterable[Row]) -> Collection[list[Row]]:
    """Returns the rows of each bundle, in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.bundle, []).append(row)
    return found.values()
