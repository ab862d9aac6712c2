"""Approval: moves a challenger to `champion` once its shadow evidence meets the policy, in the name of a person.

The policy is the one in the signed decision, so whoever approves cannot relax it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from echoplane.adapters.promotions import Authority, Evidence, write_record, write_signature
from echoplane.adapters.registry import CHALLENGER, CHAMPION, PREVIOUS, RUN_TAG, Registry, Version, answering
from echoplane.adapters.trust import ModelTrust, decision_path, signature_tag, stored_json
from echoplane.errors import BundleError, ConfigError
from echoplane.files import digest_of
from echoplane.promotion import Policy, StoredDecision
from echoplane.signing import Statement

MAX_REASON = 500


@dataclass(frozen=True)
class ShadowCounts:
    """Answers of a challenger to shadow traffic, against the champion's."""

    agreed: int
    differed: int
    failed: int

    @property
    def studies(self) -> int:
        return self.agreed + self.differed + self.failed


def approve(
    registry: Registry, task: str, *, by: str, reason: str, counts: ShadowCounts | None
) -> tuple[Version | None, Version]:
    """Makes the challenger of `task` its champion; returns the old champion and the new one.

    Raises BundleError if there is no challenger, if its shadow evidence does not meet the policy, or if another
    champion serves than the one that it was compared with; ConfigError without the signing key.
    """
    challenger, champion = registry.by_alias(task, CHALLENGER), registry.champion(task)
    if challenger is None:
        raise BundleError(f"the registry has no challenger of {task}; `promote` makes one if the policy asks for it.")
    who = Authority.configured(by)
    if who.key is None and signature_tag(CHALLENGER) in challenger.tags:
        raise ConfigError("an approval is signed: set ECHOPLANE_SIGNING_KEY_FILE to the signing key.")
    trust = ModelTrust.from_environment()
    statement = trust.check(challenger, CHALLENGER) if who.key else None
    trust.check_evidence(registry, challenger, statement)
    decision = _decision(registry, challenger, statement)
    stated = _passed(decision, challenger)
    _check_champion(stated, champion)
    _check_counts(stated.policy, counts if champion else None, champion)
    details: dict[str, Any] = {"reason": reason[:MAX_REASON]} | ({"shadow": asdict(counts)} if counts else {})
    with answering():
        record = write_record(registry, who, "approval", challenger, details, champion)
        evidence = Evidence(digest_of(decision), _evaluation(registry, challenger, statement))
        write_signature(registry, who, "approval", CHAMPION, challenger, evidence, record)
        if champion:
            registry.client.set_registered_model_alias(task, PREVIOUS, champion.number)
        registry.client.set_registered_model_alias(task, CHAMPION, challenger.number)
        registry.client.delete_registered_model_alias(task, CHALLENGER)
    return champion, challenger


def _decision(registry: Registry, challenger: Version, statement: Statement | None) -> Mapping[str, Any]:
    path = decision_path(statement.decision) if statement else "decision.json"
    decision: Mapping[str, Any] = stored_json(registry, challenger.tags.get(RUN_TAG, ""), path)
    return decision


def _passed(decision: Mapping[str, Any], challenger: Version) -> StoredDecision:
    stated = StoredDecision.parse(decision)
    if not stated.passed:
        raise BundleError(f"version {challenger.number} did not pass the gate, so it cannot be approved.")
    return stated


def _evaluation(registry: Registry, challenger: Version, statement: Statement | None) -> str:
    if statement:
        return statement.evaluation
    return digest_of(stored_json(registry, challenger.tags.get(RUN_TAG, ""), "evaluation/evaluation.json"))


def _check_champion(decision: StoredDecision, champion: Version | None) -> None:
    if decision.champion != (champion.bundle_id if champion else None):
        raise BundleError(
            "another champion serves than the one that the challenger was compared with; run `promote` again."
        )


def _check_counts(policy: Policy, counts: ShadowCounts | None, champion: Version | None) -> None:
    """Raises BundleError if the policy asks for shadow evidence and `counts` does not meet it. Without a champion there
    is no traffic to shadow, so nothing is asked for."""
    if policy.shadow is None or champion is None:
        return
    if counts is None:
        raise BundleError("the policy asks for shadow evidence: name the services or Prometheus that counted it.")
    if missing := policy.shadow.missing(counts.agreed, counts.differed, counts.failed):
        raise BundleError(f"the shadow evidence does not meet the policy: {' '.join(missing)}")
