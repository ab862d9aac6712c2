"""Moves of an alias with their record and signature: promotion, approval, rollback.

The order makes each move safe to interrupt: first the record in the audit log, then the signature on the version, then
the alias. A record without a move can be seen; a move without a record cannot happen.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echoplane import audit
from echoplane.adapters.registry import Registry, Version
from echoplane.adapters.trust import evidence_digest, signature_tag
from echoplane.errors import UntrustedModel
from echoplane.signing import (
    Action,
    Alias,
    PublicKey,
    SigningKey,
    TrustedKeys,
    make_statement,
    read_signing_key,
    verify,
)

RECORD_TAG = "record."
"""Prefix of the tags that hold copies of audit records."""

log = logging.getLogger("echoplane.promotion")


@dataclass(frozen=True)
class Authority:
    """The actor of a move: the signing key, if there is one, the log of records, and a person's or process's name."""

    key: SigningKey | None
    log: Path
    by: str

    @classmethod
    def configured(cls, by: str = "") -> "Authority":
        """Returns the authority with the signing key and the log of the environment; `by` is the user if omitted."""
        return cls(read_signing_key(), audit.log_path(), by or audit.current_user())


@dataclass(frozen=True)
class Evidence:
    """Digests of the gate's decision and of the evaluation that it was made on."""

    decision: str
    evaluation: str


def write_record(
    registry: Registry,
    who: Authority,
    action: audit.Action,
    version: Version,
    details: Mapping[str, Any],
    replaced: Version | None,
) -> str:
    """Appends the audit record of an action on `version` and returns its hash.

    Both versions get a copy as a tag, so that the registry alone tells their history; log and signed hash prove it.
    """
    stated = {"version": version.number, "bundle": version.bundle_id, **details}
    if replaced:
        stated["replaced"] = {"version": replaced.number, "bundle": replaced.bundle_id}
    if who.key:
        stated["key"] = who.key.id
    content, digest = audit.append(who.log, action, by=who.by, subject=version.name, details=stated)
    for each in filter(None, (version, replaced)):
        registry.client.set_model_version_tag(each.name, each.number, f"{RECORD_TAG}{digest[:16]}", content)
    return digest


def write_signature(
    registry: Registry, who: Authority, action: Action, alias: Alias, version: Version, evidence: Evidence, record: str
) -> None:
    """Signs that `version`, with its tags, may serve under `alias`; without a key, logs that it is unsigned.

    The signature is newer than that of the version which has the alias now.
    """
    if who.key is None:
        log.warning("version %s of %s is not signed: there is no signing key", version.number, version.name)
        return
    holder = registry.by_alias(version.name, alias)
    signed = make_statement(
        who.key,
        action=action,
        task=version.name,
        alias=alias,
        bundle_id=version.bundle_id,
        decision=evidence.decision,
        evaluation=evidence.evaluation,
        evidence=evidence_digest(version.tags),
        audit=record,
        by=who.by,
        after=_sequence(holder, alias, who.key),
    )
    registry.client.set_model_version_tag(version.name, version.number, signature_tag(alias), signed)


def is_signed(version: Version, alias: Alias, key: SigningKey) -> bool:
    """Returns True if `key` itself signed that `version` may serve under `alias`."""
    return _sequence(version, alias, key) > 0


def _sequence(version: Version | None, alias: Alias, key: SigningKey) -> int:
    """Returns the sequence number of a statement that `key` itself signed, else 0: others' numbers prove nothing."""
    if version is None:
        return 0
    own = TrustedKeys(schema=1, keys=(PublicKey(id=key.id, public_key=key.public, name="own"),))
    try:
        signed = version.tags.get(signature_tag(alias), "")
        return verify(signed, own, task=version.name, alias=alias, bundle_id=version.bundle_id).sequence
    except UntrustedModel:
        return 0
