"""A challenger becomes champion with the evidence that the signed policy asks for, in the name of a person."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from echoplane.adapters import registration
from echoplane.adapters.approval import ShadowCounts, approve
from echoplane.adapters.promotions import Authority
from echoplane.adapters.registry import CHALLENGER, CHAMPION, PREVIOUS
from echoplane.adapters.rollback import roll_back
from echoplane.adapters.trust import ModelTrust
from echoplane.adapters.why import release_of
from echoplane.audit import read_log
from echoplane.errors import BundleError, ConfigError, UntrustedModel
from echoplane.promotion import Policy, StoredDecision, read_policy
from echoplane.signing import new_signing_key, trust
from tests.registry_double import FIGURES, RegistryDouble
from tests.tiny_bundle import TASK, make_tiny_bundle

pytestmark = pytest.mark.usefixtures("no_own_keys")
ASKS = {"shadow": {"min_studies": 100, "min_agreement": 0.9}, "approval": "person"}
GOOD = ShadowCounts(agreed=95, differed=5, failed=0)


@dataclass
class House:
    registry: RegistryDouble
    log: Path

    def promote(self, number: str, **policy: Any) -> None:
        """Applies a decision that passed under this policy, as the stage does."""
        version, champion = self.registry.add(number), self.registry.champion(TASK)
        stated = Policy.model_validate(read_policy(TASK).model_dump(by_alias=True) | policy)
        decision = StoredDecision(
            passed=True,
            reasons=(),
            bundle_id=version.bundle_id,
            task=TASK,
            champion=champion.bundle_id if champion else None,
            policy=stated,
            figures={},
            provenance={},
        ).as_data()
        registration.apply_decision(
            self.registry, version, champion, decision, f"{number}" * 64, FIGURES, Authority.configured("pipeline")
        )

    def alias(self, alias: str) -> str | None:
        return self.registry.aliases.get(alias)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bundles")
    return {str(seed): make_tiny_bundle(root / str(seed), seed) for seed in (1, 2, 3)}


@pytest.fixture
def house(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    key, trusted, log = tmp_path / "signing.key", tmp_path / "trusted-keys.json", tmp_path / "audit.jsonl"
    trust(trusted, new_signing_key(key).public, "mlops", ())
    monkeypatch.setenv("ECHOPLANE_SIGNING_KEY_FILE", str(key))
    monkeypatch.setenv("ECHOPLANE_TRUSTED_KEYS", str(trusted))
    monkeypatch.setenv("ECHOPLANE_AUDIT_LOG", str(log))
    house = House(RegistryDouble(folders), log)
    house.promote("1")
    return house


def test_a_policy_without_demands_promotes_at_once_as_before(house: House) -> None:
    house.promote("2")
    assert (house.alias(CHAMPION), house.alias(PREVIOUS), house.alias(CHALLENGER)) == ("2", "1", None)


def test_a_challenger_becomes_champion_with_evidence_and_a_name(house: House) -> None:
    house.promote("2", **ASKS)
    assert (house.alias(CHAMPION), house.alias(CHALLENGER)) == ("1", "2")
    assert ModelTrust.from_environment().check(house.registry.version("2"), CHALLENGER)
    with pytest.raises(UntrustedModel):
        ModelTrust.from_environment().check(house.registry.version("2"), CHAMPION)
    old, new = approve(house.registry, TASK, by="head of echo", reason="looks right", counts=GOOD)  # type: ignore[arg-type]
    assert (old and old.number, new.number) == ("1", "2")
    assert (house.alias(CHAMPION), house.alias(PREVIOUS), house.alias(CHALLENGER)) == ("2", "1", None)
    statement = ModelTrust.from_environment().check(house.registry.version("2"), CHAMPION)
    assert statement is not None
    assert (statement.action, statement.by) == ("approval", "head of echo")
    record = read_log(house.log)[-1]
    assert record.details["shadow"] == {"agreed": 95, "differed": 5, "failed": 0}


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (None, "asks for shadow evidence"),
        (ShadowCounts(99, 0, 0), "99 studies were answered"),
        (ShadowCounts(89, 11, 0), "89 of 100 answers agree"),
        (ShadowCounts(100, 0, 2), "2 of 102 studies failed"),
    ],
)
def test_too_little_evidence_changes_nothing(house: House, counts: ShadowCounts | None, words: str) -> None:
    house.promote("2", **ASKS)
    with pytest.raises(BundleError, match=words):
        approve(house.registry, TASK, by="head of echo", reason="", counts=counts)  # type: ignore[arg-type]
    assert house.alias(CHAMPION) == "1"


def test_a_relaxed_policy_in_the_registry_is_not_believed(house: House) -> None:
    house.promote("2", **ASKS)
    (path,) = (
        name
        for name in house.registry.artifacts
        if name.startswith("run2/decisions/") and "policy" in str(house.registry.artifacts[name])
    )
    house.registry.artifacts[path] = house.registry.artifacts[path] | {"policy": {}}
    with pytest.raises(UntrustedModel, match="its decision in the registry is not the one that was signed"):
        approve(house.registry, TASK, by="attacker", reason="", counts=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", [None, {}, {"shadow": None}])
def test_a_decision_that_does_not_state_its_policy_asks_for_nothing_less(house: House, policy: object) -> None:
    house.promote("2", **ASKS)
    for path, content in house.registry.artifacts.items():
        if path.startswith("run2/decisions/") and "policy" in content:
            stated = {name: value for name, value in content.items() if name != "policy"}
            house.registry.artifacts[path] = stated | ({} if policy is None else {"policy": policy})
    with pytest.MonkeyPatch.context() as patch:  # as for a registry whose versions may be unsigned
        patch.setattr(ModelTrust, "check_evidence", lambda *_: None)
        with pytest.raises(BundleError, match="the stored decision is not of this version of echoplane"):
            approve(house.registry, TASK, by="head of echo", reason="", counts=None)  # type: ignore[arg-type]
    assert house.alias(CHAMPION) == "1"


def test_another_champion_than_the_compared_one_refuses(house: House) -> None:
    house.promote("2", **ASKS)
    house.promote("3")
    with pytest.raises(BundleError, match="another champion serves"):
        approve(house.registry, TASK, by="head of echo", reason="", counts=GOOD)  # type: ignore[arg-type]


def test_without_the_signing_key_nobody_approves(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.promote("2", approval="person")
    monkeypatch.delenv("ECHOPLANE_SIGNING_KEY_FILE")
    with pytest.raises(ConfigError, match="an approval is signed"):
        approve(house.registry, TASK, by="somebody", reason="", counts=None)  # type: ignore[arg-type]


def test_a_foreign_challenger_is_not_approved(house: House) -> None:
    house.registry.add("2")
    house.registry.aliases[CHALLENGER] = "2"
    with pytest.raises(UntrustedModel, match="nobody signed"):
        approve(house.registry, TASK, by="head of echo", reason="", counts=GOOD)  # type: ignore[arg-type]


def test_the_first_model_has_no_traffic_to_shadow(folders: dict[str, Path], house: House) -> None:
    house.registry.aliases.clear()
    house.promote("2", **ASKS)
    assert (house.alias(CHAMPION), house.alias(CHALLENGER)) == (None, "2")
    approve(house.registry, TASK, by="head of echo", reason="", counts=None)  # type: ignore[arg-type]
    assert house.alias(CHAMPION) == "2"


def test_why_is_complete_for_a_model_that_was_approved_and_rolled_back(house: House) -> None:
    house.promote("2", **ASKS)
    approve(house.registry, TASK, by="head of echo", reason="looks right", counts=GOOD)  # type: ignore[arg-type]
    live = release_of(house.registry, TASK)  # type: ignore[arg-type]
    assert live.status == f"version 2 of {TASK} is live"
    assert live.signature.startswith("verified: approval by head of echo")
    roll_back(house.registry, TASK, by="on-call", reason="abstains too often")  # type: ignore[arg-type]
    gone = release_of(house.registry, TASK, "2")  # type: ignore[arg-type]
    assert "is not live: rolled back by version 1" in gone.status
    text = gone.text()
    for words in ("95 agreed, 5 differed, 0 failed", "head of echo: looks right", "on-call", "abstains too often"):
        assert words in text
    assert [record.action for record in gone.history] == ["promotion", "approval", "rollback"]


def test_a_forged_record_is_not_told(house: House) -> None:
    content = json.dumps({"by": "the director"})
    house.registry.tags["1"]["record.0123456789abcdef"] = content
    assert [record.by for record in release_of(house.registry, TASK).history] == ["pipeline"]  # type: ignore[arg-type]


def test_a_poisoned_version_is_told_as_not_verified(house: House) -> None:
    house.registry.tags["1"]["figure.accuracy"] = "0.9999"
    assert release_of(house.registry, TASK).signature.startswith("NOT VERIFIED")  # type: ignore[arg-type]


def test_a_policy_file_may_ask_for_both(tmp_path: Path) -> None:
    stated = read_policy(TASK).model_dump(by_alias=True) | ASKS
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(stated))
    policy = read_policy(TASK, str(tmp_path / "policy.yaml"))
    assert policy.waits
    assert not read_policy(TASK).waits
    assert isinstance(policy, Policy)
