"""The queue of work in the store's database: what is waiting, what is stuck, and why.

A kind of work is `answer` (ask the service about a study), `send` (send one result to one peer) or `commit` (answer a
storage commitment request). Its state is `waiting`, `done` or `stuck`.
"""

import random
import time
from dataclasses import dataclass
from pathlib import Path

from serving.gateway.store import Store, new_id


@dataclass(frozen=True)
class Work:
    """One item of the queue; `reason` is why its last attempt failed."""

    id: str
    study: str
    kind: str
    peer: str
    file: str
    attempts: int
    created_s: float
    reason: str


@dataclass(frozen=True)
class Backoff:
    """Waits between attempts, each twice as long as the one before, with jitter."""

    first_s: float
    max_s: float
    max_attempts: int

    def wait_s(self, attempts: int) -> float:
        longest = min(self.max_s, self.first_s * 2 ** min(attempts - 1, 30))
        return longest * random.uniform(0.75, 1.0)  # noqa: S311  spreads load, keeps no secret


COLUMNS = "id, study, kind, peer, file, attempts, created_s, reason"


def complete_studies(store: Store, quiet_s: float) -> int:
    """Queues each study that received nothing for `quiet_s`; returns how many.

    A study whose last answer is still waiting stays as it is, so that it is queued again once that is done.
    """
    now = time.time()
    query = (
        "SELECT id FROM studies WHERE receiving = 1 AND last_received_s <= ? AND NOT EXISTS "
        "(SELECT 1 FROM work WHERE work.study = studies.id AND kind = 'answer' AND state = 'waiting')"
    )
    with store.transaction() as db:
        ids = [row["id"] for row in db.execute(query, (now - quiet_s,))]
        for study in ids:
            db.execute("UPDATE studies SET receiving = 0 WHERE id = ?", (study,))
            db.execute(
                "INSERT INTO work (id, study, kind, created_s) VALUES (?, ?, 'answer', ?)", (new_id(), study, now)
            )
    return len(ids)


def add_commitment(store: Store, ae_title: str, path: Path) -> None:
    """Queues the answer to a storage commitment request, which `path` holds, to the peer with this AE title."""
    with store.transaction() as db:
        db.execute(
            "INSERT INTO work (id, study, kind, peer, file, created_s) VALUES (?, '', 'commit', ?, ?, ?)",
            (new_id(), ae_title, path.name, time.time()),
        )


def due(store: Store, limit: int) -> list[Work]:
    """Returns work whose time has come, the oldest first."""
    query = f"SELECT {COLUMNS} FROM work WHERE state = 'waiting' AND due_s <= ? ORDER BY due_s, created_s LIMIT ?"  # noqa: S608
    with store.transaction() as db:
        return [Work(*row) for row in db.execute(query, (time.time(), limit))]


def stuck(store: Store) -> list[Work]:
    """Returns the work that was set aside, the oldest first."""
    query = f"SELECT {COLUMNS} FROM work WHERE state = 'stuck' ORDER BY created_s"  # noqa: S608
    with store.transaction() as db:
        return [Work(*row) for row in db.execute(query)]


def finish(store: Store, work: Work, results: list[tuple[str, Path]] = []) -> None:  # noqa: B006  never changed
    """Marks work as done, and queues the sending of its `results`, pairs of peer and file, in the same commit."""
    now = time.time()
    with store.transaction() as db:
        db.execute("UPDATE work SET state = 'done', reason = '' WHERE id = ?", (work.id,))
        for peer, path in results:
            db.execute(
                "INSERT INTO work (id, study, kind, peer, file, created_s) VALUES (?, ?, 'send', ?, ?, ?)",
                (new_id(), work.study, peer, path.name, now),
            )


def postpone(store: Store, work: Work, reason: str, backoff: Backoff) -> bool:
    """Schedules another attempt; returns False, and sets the work aside, if there have been enough."""
    attempts = work.attempts + 1
    if attempts >= backoff.max_attempts:
        set_aside(store, work, reason)
        return False
    with store.transaction() as db:
        db.execute(
            "UPDATE work SET attempts = ?, due_s = ?, reason = ? WHERE id = ?",
            (attempts, time.time() + backoff.wait_s(attempts), reason, work.id),
        )
    return True


def set_aside(store: Store, work: Work, reason: str) -> None:
    """Marks work as stuck, until somebody resends it."""
    with store.transaction() as db:
        db.execute(
            "UPDATE work SET state = 'stuck', attempts = attempts + 1, reason = ? WHERE id = ?", (reason, work.id)
        )


def resend(store: Store, work_id: str | None) -> int:
    """Puts stuck work back into the queue, one item or all; returns how many."""
    query = "UPDATE work SET state = 'waiting', attempts = 0, due_s = 0 WHERE state = 'stuck' AND (? IS NULL OR id = ?)"
    with store.transaction() as db:
        return db.execute(query, (work_id, work_id)).rowcount
