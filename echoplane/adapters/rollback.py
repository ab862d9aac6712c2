"""Rollback: moves the alias `champion` back to the previous version, or to a named one, and signs that anew: services
refuse the old signature, which is older than the one that they have accepted."""

import json
from datetime import UTC, datetime
from typing import Any

from echoplane.adapters.promotions import Authority, Evidence, write_record, write_signature
from echoplane.adapters.registration import OUTCOME_TAG, PASSED
from echoplane.adapters.registry import CHAMPION, PREVIOUS, Registry, Version, answering
from echoplane.adapters.trust import ModelTrust, signature_tag
from echoplane.errors import BundleError, ConfigError
from echoplane.signing import Statement

AUDIT_TAG = "audit"
MAX_REASON = 500


def roll_back(registry: Registry, task: str, *, by: str, reason: str, to: str = "") -> tuple[Version, Version]:
    """Moves the champion to version `to`, or to the previous one; returns the old and the new champion.

    Raises BundleError if there is none, if it never passed the promotion gate, or if its promotion is not signed by a
    trusted key; ConfigError without a signing key if the champion is signed. The alias `previous` is removed, so that
    repeating the call changes nothing and cannot bring back the bad model.
    """
    champion = registry.champion(task)
    if champion is None:
        raise BundleError(f"the registry has no champion of {task}; there is nothing to roll back.")
    target = registry.by_number(task, to) if to else registry.by_alias(task, PREVIOUS)
    if target is None or target.number == champion.number:
        raise BundleError(f"{task} has no previous version beside {champion.number}; name one with --to VERSION.")
    if target.tags.get(OUTCOME_TAG) != PASSED:
        raise BundleError(f"version {target.number} of {task} never passed the promotion gate; name one that did.")
    who = Authority.configured(by)
    if who.key is None and signature_tag(CHAMPION) in champion.tags:
        raise ConfigError("a rollback is signed: set ECHOPLANE_SIGNING_KEY_FILE to the signing key.")
    statement = ModelTrust.from_environment().check(target, CHAMPION, newest=False) if who.key else None
    with answering():
        _record_and_sign(registry, who, champion, target, statement, reason[:MAX_REASON])
        registry.client.set_registered_model_alias(task, CHAMPION, target.number)
        registry.client.delete_registered_model_alias(task, PREVIOUS)
    return champion, target


def _record_and_sign(
    registry: Registry, who: Authority, champion: Version, target: Version, statement: Statement | None, reason: str
) -> None:
    """Writes the records before the alias moves, so there is no rollback without a record."""
    digest = write_record(registry, who, "rollback", target, {"reason": reason}, champion)
    if statement:
        evidence = Evidence(statement.decision, statement.evaluation)
        write_signature(registry, who, "rollback", CHAMPION, target, evidence, digest)
    _tag_both(registry, champion, target, who.by, reason)


def _tag_both(registry: Registry, champion: Version, target: Version, by: str, reason: str) -> None:
    now = datetime.now(UTC)
    record = {
        "action": "rollback",
        "time": now.isoformat(timespec="seconds"),
        "by": by,
        "reason": reason,
        "from": {"version": champion.number, "bundle": champion.bundle_id},
        "to": {"version": target.number, "bundle": target.bundle_id},
    }
    for version in (champion, target):
        tag = f"{AUDIT_TAG}.{now:%Y%m%dT%H%M%S%f}"
        registry.client.set_model_version_tag(version.name, version.number, tag, json.dumps(record))


def was_rolled_back(version: Version, *, by: str) -> bool:
    """Returns True if `by` has rolled the bundle of this version back, whatever was done since."""
    records = [_record(text) for tag, text in version.tags.items() if tag.startswith(f"{AUDIT_TAG}.")]
    return any(one.get("by") == by and one.get("from", {}).get("bundle") == version.bundle_id for one in records)


def _record(text: str) -> dict[str, Any]:
    """Returns a record, empty if somebody wrote something else into its tag."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
