"""The durable store: received instances as files, and a SQLite database that says what they are and what is to be done.

An instance is stored once its row is committed: its file is on disk by then, so that a crash or a power failure loses
nothing that was acknowledged. A file without a row was never acknowledged and is removed at the next start.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from echoplane.errors import ConfigError
from serving.gateway.instances import Header, Refused, conflicting, out_of_resources
from serving.gateway.receiving import IncomingFile

SCHEMA = """
CREATE TABLE IF NOT EXISTS studies (
    id TEXT PRIMARY KEY, site TEXT NOT NULL, study_uid TEXT NOT NULL, last_received_s REAL NOT NULL,
    receiving INTEGER NOT NULL DEFAULT 1,
    committed INTEGER NOT NULL DEFAULT 0, UNIQUE (site, study_uid)
);
CREATE TABLE IF NOT EXISTS instances (
    site TEXT NOT NULL, sop_uid TEXT NOT NULL, study TEXT NOT NULL REFERENCES studies (id), series_uid TEXT NOT NULL,
    sop_class TEXT NOT NULL, transfer_syntax TEXT NOT NULL, modality TEXT NOT NULL, digest TEXT NOT NULL,
    file TEXT NOT NULL, size_bytes INTEGER NOT NULL, received_s REAL NOT NULL, PRIMARY KEY (site, sop_uid)
);
CREATE INDEX IF NOT EXISTS instances_of_study ON instances (study);
CREATE TABLE IF NOT EXISTS answers (
    study TEXT NOT NULL, part TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (study, part)
);
CREATE TABLE IF NOT EXISTS work (
    id TEXT PRIMARY KEY, study TEXT NOT NULL, kind TEXT NOT NULL, peer TEXT NOT NULL DEFAULT '',
    file TEXT NOT NULL DEFAULT '', state TEXT NOT NULL DEFAULT 'waiting', attempts INTEGER NOT NULL DEFAULT 0,
    due_s REAL NOT NULL DEFAULT 0, created_s REAL NOT NULL, reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS work_by_state ON work (state, due_s);
"""
BUSY_S = 10.0
"""Time to wait for another process, such as the command `resend`."""


@dataclass(frozen=True)
class Study:
    """A study as one site sent it; `id` is random and may appear in logs, the UID may not."""

    id: str
    site: str
    study_uid: str


@dataclass(frozen=True)
class Instance:
    """A stored instance."""

    sop_uid: str
    sop_class: str
    study_uid: str
    series_uid: str
    modality: str
    transfer_syntax: str
    path: Path
    size_bytes: int


class Store:
    """The store in one folder. Thread safe; one gateway at a time owns it, and commands may open it beside."""

    def __init__(self, folder: Path, min_free_bytes: int = 0) -> None:
        self.folder, self._min_free_bytes = folder, min_free_bytes
        self.incoming, self._instances, self.results = folder / "incoming", folder / "instances", folder / "results"
        self.scratch = folder / "scratch"
        for each in (folder, self.incoming, self._instances, self.results, self.scratch):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            each.chmod(0o700)
        database = folder / "gateway.db"
        database.touch(mode=0o600)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(database, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        with self.transaction() as db:
            for statement in SCHEMA.split(";\n"):
                db.execute(statement)
        self._owner: BinaryIO | None = None

    def own(self) -> None:
        """Makes this process the gateway of the store, and removes files that were never acknowledged.

        Raises ConfigError if another gateway runs on it.
        """
        self._owner = (self.folder / "owner.lock").open("wb")
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                "another gateway runs on this store; give each its own ECHOPLANE_GATEWAY_STORE."
            ) from None
        for path in self.incoming.iterdir():
            path.unlink()
        for path in self.scratch.iterdir():
            shutil.rmtree(path)
        with self.transaction() as db:
            known = {row["file"] for row in db.execute("SELECT file FROM instances")}
            known |= {row["file"] for row in db.execute("SELECT file FROM work")}
        for folder in (self._instances, self.results):
            for path in folder.iterdir():
                if path.name not in known:
                    path.unlink()

    def close(self) -> None:
        with self._lock:
            self._db.close()
        if self._owner:
            self._owner.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commits at the end, durably; rolls back on an error."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def has_space(self) -> bool:
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize >= self._min_free_bytes

    def add(self, site: str, header: Header, received: IncomingFile) -> bool:
        """Stores an instance durably; returns False if it was stored before. Raises Refused if it cannot be stored."""
        if not self.has_space():
            raise out_of_resources()
        received.sync()
        target = self._instances / received.path.name
        try:
            received.path.rename(target)
            sync_folder(self._instances)
            with self.transaction() as db:
                added = _insert(db, site, header, target.name, received.size_bytes)
        except (OSError, sqlite3.Error):
            target.unlink(missing_ok=True)
            raise out_of_resources() from None
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        if not added:
            target.unlink()
        return added

    def study(self, study_id: str) -> Study:
        with self._lock:
            row = self._db.execute("SELECT id, site, study_uid FROM studies WHERE id = ?", (study_id,)).fetchone()
        return Study(*row)

    def instances(self, study_id: str) -> list[Instance]:
        """Returns the instances of a study in a fixed order."""
        return self._select("study = ?", (study_id,))

    def find(self, site: str | None, study_uid: str = "", series_uid: str = "", sop_uid: str = "") -> list[Instance]:
        """Returns the instances of a site, or of all, that have the given UIDs; an empty UID matches all."""
        wanted = {"instances.site": site, "study_uid": study_uid, "series_uid": series_uid, "sop_uid": sop_uid}
        given = {column: value for column, value in wanted.items() if value}
        return self._select(" AND ".join(f"{column} = ?" for column in given) or "TRUE", tuple(given.values()))

    def _select(self, condition: str, values: tuple[str, ...]) -> list[Instance]:
        query = (
            "SELECT sop_uid, sop_class, study_uid, series_uid, modality, transfer_syntax, file, size_bytes "  # noqa: S608
            "FROM instances JOIN studies ON studies.id = instances.study "
            f"WHERE {condition} ORDER BY study_uid, series_uid, sop_uid"
        )
        with self._lock:
            rows = self._db.execute(query, values).fetchall()
        return [_instance(row, self._instances) for row in rows]

    def commit_to(self, site: str, sop_uid: str) -> str | None:
        """Keeps the study of an instance for good; returns the SOP class of the instance, None if it is not stored."""
        key = (site, sop_uid)
        with self.transaction() as db:
            db.execute(
                "UPDATE studies SET committed = 1 "
                "WHERE id = (SELECT study FROM instances WHERE site = ? AND sop_uid = ?)",
                key,
            )
            row = db.execute("SELECT sop_class FROM instances WHERE site = ? AND sop_uid = ?", key).fetchone()
        return row["sop_class"] if row else None

    def answer(self, study_id: str, part: str) -> str | None:
        """Returns the service's answer to one part of a study, if it was asked before."""
        with self._lock:
            row = self._db.execute("SELECT body FROM answers WHERE study = ? AND part = ?", (study_id, part)).fetchone()
        return row["body"] if row else None

    def keep_answer(self, study_id: str, part: str, body: str) -> None:
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (study_id, part, body))


def _insert(db: sqlite3.Connection, site: str, header: Header, file: str, size_bytes: int) -> bool:
    """Inserts the row of an instance; returns False if the same is stored already. Raises Refused on a conflict."""
    key = (site, header.sop_uid)
    if stored := db.execute("SELECT digest FROM instances WHERE site = ? AND sop_uid = ?", key).fetchone():
        if stored["digest"] != header.digest:
            raise conflicting()
        return False
    now = time.time()
    db.execute(
        "INSERT INTO studies (id, site, study_uid, last_received_s) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (site, study_uid) DO UPDATE SET last_received_s = excluded.last_received_s, receiving = 1",
        (new_id(), site, header.study_uid, now),
    )
    (study,) = db.execute(
        "SELECT id FROM studies WHERE site = ? AND study_uid = ?", (site, header.study_uid)
    ).fetchone()
    db.execute(
        "INSERT INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(*key, study, header.series_uid, header.sop_class, header.transfer_syntax, header.modality),
            *(header.digest, file, size_bytes, now),
        ),
    )
    return True


def _instance(row: sqlite3.Row, folder: Path) -> Instance:
    columns = dict(row)
    path = folder / columns.pop("file")
    return Instance(**columns, path=path)


def new_id() -> str:
    return secrets.token_hex(8)


def sync_folder(folder: Path) -> None:
    """Flushes the names of a folder's files to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["Instance", "Refused", "Store", "Study", "new_id", "sync_folder"]
