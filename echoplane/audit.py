"""Append-only log of who promoted, approved, rolled back or released what: one JSON line per action, chained by hashes.

Each record holds the hash of the one before it, so a record that was changed, removed or inserted is found. A log that
was cut off at its end, or rewritten as a whole, is found by the hashes that signed promotions carry. An action whose
record cannot be written must not happen: the record comes first.
"""

import fcntl
import getpass
import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.errors import AuditError, ConfigError

PATH_VARIABLE = "ECHOPLANE_AUDIT_LOG"
START = "0" * 64
"""Hash before the first record."""
MAX_TEXT = 500
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Action = Literal["promotion", "refusal", "approval", "rollback", "release"]


class Record(BaseModel):
    """One action."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[1] = Field(1, alias="schema")
    number: int = Field(ge=1)
    time: datetime
    action: Action
    by: str
    subject: str
    """Task of a model, or keyed digest of a released file; never a patient."""
    details: dict[str, Any]
    previous: Sha256


def log_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the path in ECHOPLANE_AUDIT_LOG, else the user's own log. Raises ConfigError if there is neither."""
    if named := environment.get(PATH_VARIABLE):
        return Path(named)
    base, home = environment.get("XDG_STATE_HOME"), environment.get("HOME")
    if not (base or home):
        raise ConfigError(f"{PATH_VARIABLE} must name the audit log: this process has no home folder.")
    return (Path(base) if base else Path(str(home)) / ".local" / "state") / "echoplane" / "audit.jsonl"


def current_user() -> str:
    """Returns the name of the user of this process, or its number if it has no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def append(path: Path, action: Action, *, by: str, subject: str, details: Mapping[str, Any]) -> tuple[str, str]:
    """Adds a record to the log; returns its text and its hash, once it is on the disk.

    An action that is repeated at once, as after an interruption, has one record. Raises AuditError if the log is
    damaged or cannot be written: then the action must not happen.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            records, last = _parsed(file.read())
            if records and _same(records[-1][0], action, by[:MAX_TEXT], subject, dict(details)):
                return records[-1][0].model_dump_json(by_alias=True), last
            record = Record(
                schema=1,
                number=len(records) + 1,
                time=datetime.now(UTC).replace(microsecond=0),
                action=action,
                by=by[:MAX_TEXT],
                subject=subject,
                details=dict(details),
                previous=last,
            )
            content = record.model_dump_json(by_alias=True)
            digest = record_hash(content)
            file.write(json.dumps({"record": content, "sha256": digest}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise AuditError(
            f"the audit log cannot be written ({error.strerror}), so nothing was done; set {PATH_VARIABLE}."
        ) from None
    return content, digest


def _same(record: Record, action: Action, by: str, subject: str, details: dict[str, Any]) -> bool:
    return (record.action, record.by, record.subject, record.details) == (action, by, subject, details)


def read_log(path: Path) -> list[Record]:
    """Returns every record, oldest first; empty if there is no log. Raises AuditError if the chain is broken."""
    return [record for record, _ in read_hashed(path)]


def read_hashed(path: Path) -> list[tuple[Record, str]]:
    """Returns every record with its hash. Raises AuditError if the chain is broken."""
    try:
        return _parsed(path.read_bytes())[0] if path.exists() else []
    except OSError as error:
        raise AuditError(f"the audit log cannot be read ({error.strerror}).") from None


def _parsed(content: bytes) -> tuple[list[tuple[Record, str]], str]:
    """Returns the records with their hashes, and the last hash."""
    records: list[tuple[Record, str]] = []
    last = START
    if content and not content.endswith(b"\n"):
        raise AuditError("the audit log ends within a record; keep it, and start another.")
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            stated = json.loads(line)
            record = Record.model_validate_json(stated["record"])
            whole = record_hash(stated["record"]) == stated["sha256"]
        except (ValueError, KeyError, TypeError, ValidationError):
            raise AuditError(f"record {number} of the audit log cannot be read: it was changed.") from None
        if not whole or record.number != number or record.previous != last:
            raise AuditError(f"record {number} of the audit log was changed, or one before it was removed.")
        last = stated["sha256"]
        records.append((record, last))
    return records, last


def record_hash(content: str) -> str:
    """Returns the hash of a record's text."""
    return hashlib.sha256(content.encode()).hexdigest()
