"""Removes studies whose time is over, and keeps the gauges of queue and disk."""

import os
import time

from serving.gateway import metrics
from serving.gateway.store import Store

KINDS = ("answer", "send", "commit")


def remove_old(store: Store, keep_h: float) -> None:
    """Removes the files and rows of old studies, and of each storage commitment request that was answered.

    A study is old if it received nothing for `keep_h`, and is kept if any of its work is waiting or stuck, or if the
    gateway has committed to its storage."""
    query = (
        "SELECT id FROM studies WHERE receiving = 0 AND committed = 0 AND last_received_s < ? AND NOT EXISTS "
        "(SELECT 1 FROM work WHERE work.study = studies.id AND state != 'done')"
    )
    with store.transaction() as db:
        ids = [row["id"] for row in db.execute(query, (time.time() - 3600 * keep_h,))]
        files = [instance.path for study in ids for instance in store.instances(study)]
        for study in ids:
            results = db.execute("SELECT file FROM work WHERE study = ? AND file != ''", (study,))
            files += [store.results / row["file"] for row in results]
            for table in ("instances", "answers", "work"):
                db.execute(f"DELETE FROM {table} WHERE study = ?", (study,))  # noqa: S608  a name of ours
            db.execute("DELETE FROM studies WHERE id = ?", (study,))
        commitments = "FROM work WHERE kind = 'commit' AND state = 'done'"
        files += [store.results / row["file"] for row in db.execute(f"SELECT file {commitments}")]
        db.execute(f"DELETE {commitments}")
    for path in files:  # a file left by a crash here is removed at the next start
        path.unlink(missing_ok=True)


def set_gauges(store: Store) -> None:
    """Sets the gauges of the queue and of the disk."""
    with store.transaction() as db:
        counts = {
            (row[0], row[1]): row[2] for row in db.execute("SELECT kind, state, COUNT(*) FROM work GROUP BY 1, 2")
        }
        (oldest_s,) = db.execute("SELECT MIN(created_s) FROM work WHERE state = 'waiting'").fetchone()
        (stored,) = db.execute("SELECT COALESCE(SUM(size_bytes), 0) FROM instances").fetchone()
    for kind in KINDS:
        for state in ("waiting", "stuck"):
            metrics.WORK.labels(kind, state).set(counts.get((kind, state), 0))
    metrics.OLDEST_S.set(max(0.0, time.time() - oldest_s) if oldest_s else 0)
    metrics.STORE_BYTES.set(stored)
    disk = os.statvfs(store.folder)
    metrics.FREE_BYTES.set(disk.f_bavail * disk.f_frsize)
