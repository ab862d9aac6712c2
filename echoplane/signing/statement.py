"""A signed statement that a bundle serves a task, and the memory that refuses an older one.

The signature covers the exact bytes of the statement, which travel with it, so no canonical form is needed.
"""

import base64
import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.errors import UntrustedModel
from echoplane.files import write_atomically
from echoplane.signing.keys import KeyId, SigningKey, TrustedKeys

CONTEXT = b"echoplane promotion, schema 1\n"
"""Prefix of what is signed, so that no signature made for another purpose is accepted."""
MAX_BYTES = 8192
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Alias = Literal["champion", "challenger"]
Action = Literal["promotion", "approval", "rollback"]


class Statement(BaseModel):
    """Content of a signature: one move of one alias, with the digests of its evidence."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[1] = Field(1, alias="schema")
    action: Action
    task: str
    alias: Alias
    """Alias under which the bundle may be loaded."""
    bundle_id: Sha256
    """SHA-256 of bundle.json, which holds the digest of every file of the bundle."""
    decision: Sha256
    """Digest of the gate's decision."""
    evaluation: Sha256
    """Digest of evaluation.json."""
    evidence: Sha256
    """Digest of the registered figures and inference settings, which a service follows."""
    audit: Sha256
    """Hash of the audit log's record of this action, which anchors the log."""
    by: str = Field(max_length=200)
    """Person or process that promoted, approved or rolled back."""
    time: datetime
    sequence: int = Field(gt=0)
    """Number that grows with every statement on a task; an older one is refused."""
    key_id: KeyId


def next_sequence(known: int = 0) -> int:
    """Returns a number above `known`: milliseconds since 1970, so that it grows even if a registry was lost."""
    return max(known + 1, time.time_ns() // 1_000_000)


def sign(statement: Statement, key: SigningKey) -> str:
    """Returns the statement and its signature as one text."""
    content = statement.model_dump_json(by_alias=True)
    signature = key.private.sign(CONTEXT + content.encode())
    return json.dumps({"statement": content, "signature": base64.b64encode(signature).decode()})


def make_statement(
    key: SigningKey,
    *,
    action: Action,
    task: str,
    alias: Alias,
    bundle_id: str,
    decision: str,
    evaluation: str,
    evidence: str,
    audit: str,
    by: str,
    after: int = 0,
) -> str:
    """Returns a signed statement of this moment, newer than sequence number `after`."""
    statement = Statement(
        schema=1,
        action=action,
        task=task,
        alias=alias,
        bundle_id=bundle_id,
        decision=decision,
        evaluation=evaluation,
        evidence=evidence,
        audit=audit,
        by=by[:200],
        time=datetime.now(UTC).replace(microsecond=0),
        sequence=next_sequence(after),
        key_id=key.id,
    )
    return sign(statement, key)


def verify(signed: str, trusted: TrustedKeys, *, task: str, alias: Alias, bundle_id: str) -> Statement:
    """Returns the statement if a trusted key signed that this bundle serves this task under this alias.

    Raises UntrustedModel otherwise. Replays of older statements are the business of SequenceMemory.
    """
    content, signature = _parts(signed)
    statement = _statement(content)
    key = trusted.by_id(statement.key_id)
    if statement.key_id in trusted.revoked:
        raise UntrustedModel(f"the promotion was signed with key {statement.key_id}, which is revoked. Promote again.")
    if key is None:
        raise UntrustedModel(
            f"the promotion was signed with key {statement.key_id}, which is not trusted here. "
            "Add it with `echoplane keys trust` if it is yours."
        )
    try:
        key.verifier().verify(signature, CONTEXT + content)
    except InvalidSignature:
        raise UntrustedModel("the promotion's signature is wrong: it was changed after signing.") from None
    if key.tasks and task not in key.tasks:
        raise UntrustedModel(f"key {key.id} may not sign for {task}.")
    for name, found, due in (
        ("task", statement.task, task),
        ("alias", statement.alias, alias),
        ("bundle", statement.bundle_id[:12], bundle_id[:12]),
    ):
        if found != due:
            raise UntrustedModel(f"the promotion was signed for {name} {found}, not {due}.")
    if statement.bundle_id != bundle_id:
        raise UntrustedModel("the promotion was signed for another bundle.")
    return statement


def _parts(signed: str) -> tuple[bytes, bytes]:
    try:
        if len(signed) > MAX_BYTES:
            raise ValueError
        stated = json.loads(signed)
        return str(stated["statement"]).encode(), base64.b64decode(stated["signature"], validate=True)
    except (ValueError, KeyError, TypeError):
        raise UntrustedModel("the promotion's signature cannot be read; promote again.") from None


def _statement(content: bytes) -> Statement:
    try:
        return Statement.model_validate_json(content)
    except ValidationError:
        raise UntrustedModel("the signed promotion is not of schema 1; update echoplane, or promote again.") from None


class SequenceMemory:
    """Highest accepted sequence number by task, in memory and, if there is a path, in a file that outlives the
    process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._lock = path, threading.Lock()
        self._seen: dict[str, int] = {}

    def check(self, statement: Statement) -> None:
        """Raises UntrustedModel if a newer statement of the same task and alias has been accepted."""
        name = f"{statement.task}/{statement.alias}"
        with self._lock:
            newest = max(self._seen.get(name, 0), self._stored().get(name, 0))
        if statement.sequence < newest:
            raise UntrustedModel(
                f"the promotion of {statement.task} is older than one that was accepted here (sequence "
                f"{statement.sequence} after {newest}): a replay, or an alias moved without `echoplane rollback`."
            )

    def accept(self, statement: Statement) -> None:
        """Remembers that `statement` was accepted."""
        self.check(statement)
        name = f"{statement.task}/{statement.alias}"
        with self._lock:
            stored = self._stored()
            self._seen[name] = max(statement.sequence, self._seen.get(name, 0), stored.get(name, 0))
            if self._path and stored.get(name, 0) < self._seen[name]:
                write_atomically(self._path, json.dumps(stored | self._seen, sort_keys=True).encode(), mode=0o600)

    def _stored(self) -> dict[str, int]:
        """Returns the file's numbers. Raises UntrustedModel if it is damaged: forgetting would allow a replay."""
        if self._path is None or not self._path.exists():
            return {}
        try:
            return {str(name): int(number) for name, number in json.loads(self._path.read_bytes()).items()}
        except (ValueError, AttributeError, TypeError):
            raise UntrustedModel("the file of accepted promotions is damaged; remove it after checking why.") from None
