"""Rollback: moves the alias `champion` back to the previous version, or to a named one; audit tags record who and
why."""

import json
from datetime import UTC, datetime

from echoplane.adapters.registration import OUTCOME_TAG, PASSED
from echoplane.adapters.registry import CHAMPION, PREVIOUS, Registry, Version, answering
from echoplane.errors import BundleError

AUDIT_TAG = "audit"
MAX_REASON = 500


def roll_back(registry: Registry, task: str, *, by: str, reason: str, to: str = "") -> tuple[Version, Version]:
    """Moves the champion to version `to`, or to the previous one; returns the old and the new champion.

    Raises BundleError if there is none, or if it never passed the promotion gate. The alias `previous` is removed, so
    that repeating the call changes nothing and cannot bring back the bad model.
    """
    champion = registry.champion(task)
    if champion is None:
        raise BundleError(f"the registry has no champion of {task}; there is nothing to roll back.")
    target = registry.by_number(task, to) if to else registry.by_alias(task, PREVIOUS)
    if target is None or target.number == champion.number:
        raise BundleError(f"{task} has no previous version beside {champion.number}; name one with --to VERSION.")
    if target.tags.get(OUTCOME_TAG) != PASSED:
        raise BundleError(f"version {target.number} of {task} never passed the promotion gate; name one that did.")
    with answering():
        _audit(registry, champion, target, by, reason)
        registry.client.set_registered_model_alias(task, CHAMPION, target.number)
        registry.client.delete_registered_model_alias(task, PREVIOUS)
    return champion, target


def _audit(registry: Registry, champion: Version, target: Version, by: str, reason: str) -> None:
    """Writes the record before the alias moves, so there is no rollback without a record."""
    now = datetime.now(UTC)
    record = {
        "action": "rollback",
        "time": now.isoformat(timespec="seconds"),
        "by": by,
        "reason": reason[:MAX_REASON],
        "from": {"version": champion.number, "bundle": champion.bundle_id},
        "to": {"version": target.number, "bundle": target.bundle_id},
    }
    for version in (champion, target):
        tag = f"{AUDIT_TAG}.{now:%Y%m%dT%H%M%S%f}"
        registry.client.set_model_version_tag(version.name, version.number, tag, json.dumps(record))
