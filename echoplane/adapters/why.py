"""Collects from the registry why a version serves or served; nothing of it is on the machine that trained it."""

from typing import Any

from pydantic import ValidationError

from echoplane.adapters.promotions import RECORD_TAG
from echoplane.adapters.registry import (
    CHALLENGER,
    CHAMPION,
    EVALUATION_FOLDER,
    PREVIOUS,
    RUN_TAG,
    Registry,
    Version,
)
from echoplane.adapters.trust import ModelTrust, decision_path, signature_tag, stored_json
from echoplane.audit import Record, record_hash
from echoplane.errors import BundleError, UntrustedModel
from echoplane.evidence import Release
from echoplane.signing import Alias, Statement

ALIASES: tuple[str, ...] = (CHAMPION, CHALLENGER, PREVIOUS)


def release_of(registry: Registry, task: str, number: str = "") -> Release:
    """Returns what the registry knows about a version; the champion if `number` is empty.

    Raises BundleError if there is no such version, or if its evaluation is not in the registry.
    """
    by_alias = {alias: registry.by_alias(task, alias) for alias in ALIASES}
    version = registry.by_number(task, number) if number else by_alias[CHAMPION]
    if version is None:
        raise BundleError(f"the registry has no champion of {task}; name a version with --version.")
    statement, signed, signature = _signature(registry, version)
    run = version.tags.get(RUN_TAG, "")
    champion = by_alias[CHAMPION]
    return Release(
        task=task,
        version=version.number,
        bundle_id=version.bundle_id,
        aliases=tuple(alias for alias, held in by_alias.items() if held and held.number == version.number),
        champion=champion.number if champion else None,
        signature=signature,
        decision=_artifact(registry, run, decision_path(statement.decision) if statement else "decision.json"),
        evaluation=_artifact(registry, run, f"{EVALUATION_FOLDER}/evaluation.json"),
        history=_history(version),
        signed=signed,
        run=run,
    )


def _signature(registry: Registry, version: Version) -> tuple[Statement | None, dict[str, str], str]:
    """Returns the statement on the version, its signed text by alias, and a sentence on how far it was verified."""
    trust, problem = ModelTrust.from_environment(), "none: the promotion was not signed"
    aliases: tuple[Alias, ...] = (CHAMPION, CHALLENGER)
    for alias in aliases:
        text = version.tags.get(signature_tag(alias))
        if text is None:
            continue
        try:
            statement = trust.verified(version, alias, newest=False)
            trust.check_evidence(registry, version, statement)
        except UntrustedModel as error:
            problem = f"NOT VERIFIED: {error}"
            continue
        said = f"verified: {statement.action} by {statement.by}, key {statement.key_id}, sequence {statement.sequence}"
        return statement, {alias: text}, said
    return None, {}, problem


def _artifact(registry: Registry, run: str, path: str) -> dict[str, Any]:
    stated = stored_json(registry, run, path)
    if not isinstance(stated, dict):
        raise BundleError(f"{path.rpartition('/')[2]} in the registry is not what `promote` wrote.")
    return stated


def _history(version: Version) -> tuple[Record, ...]:
    """Returns the audit records that the version carries; one that was changed is left out."""
    found = {}
    for name, content in version.tags.items():
        if name.startswith(RECORD_TAG) and record_hash(content).startswith(name.removeprefix(RECORD_TAG)):
            try:
                record = Record.model_validate_json(content)
            except ValidationError:
                continue
            found[record.time, record.number] = record
    return tuple(found[key] for key in sorted(found))
