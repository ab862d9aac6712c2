"""S1: whoever reaches the registry may not decide what serves; each attack is refused and logged."""

import base64
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from echoplane import bundle as bundles
from echoplane import cli
from echoplane.adapters.promotions import Authority, is_signed, write_signature
from echoplane.adapters.registry import CHALLENGER, CHAMPION, RUN_TAG
from echoplane.adapters.trust import ModelTrust, decision_path
from echoplane.errors import ConfigError, UntrustedModel
from echoplane.settings import ServingSettings
from echoplane.signing import (
    SequenceMemory,
    SigningKey,
    TrustedKeys,
    ensure_own_keys,
    new_signing_key,
    read_signing_key,
    read_trusted_keys,
    revoke,
    trust,
    verify,
)
from serving.api.models.slots import Slot
from serving.api.models.sources import RegistrySource, configured_sources
from tests.registry_double import DECISION, EVIDENCE, RECORD, RegistryDouble
from tests.tiny_bundle import TASK, make_tiny_bundle


@dataclass
class House:
    """A registry, a key that promotes, and a service's slot that trusts it."""

    registry: RegistryDouble
    key: SigningKey
    trusted: Path
    folder: Path

    def promote(self, number: str, key: SigningKey | None = None, alias: str = CHAMPION) -> None:
        version = self.registry.add(number)
        who = Authority(key or self.key, self.folder / "audit.jsonl", "tester")
        write_signature(self.registry, who, "promotion", alias, version, EVIDENCE, RECORD)  # type: ignore[arg-type]
        self.registry.aliases[alias] = number

    def slot(self, **options: Any) -> Slot:
        model_trust = ModelTrust(
            lambda: read_trusted_keys(str(self.trusted)), memory=SequenceMemory(self.folder / "sequences.json")
        )
        return Slot(TASK, RegistrySource(TASK, lambda: self.registry, trust=model_trust, **options), {})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bundles")
    return {str(seed): make_tiny_bundle(root / str(seed), seed) for seed in (1, 2)}


@pytest.fixture
def house(folders: dict[str, Path], tmp_path: Path) -> House:
    key, trusted = new_signing_key(tmp_path / "signing.key"), tmp_path / "trusted-keys.json"
    trust(trusted, key.public, "mlops", ())
    return House(RegistryDouble(folders), key, trusted, tmp_path)


@pytest.fixture
def slot(house: House) -> Iterator[Slot]:
    """A slot that serves version 1, promoted as it should be."""
    house.promote("1")
    slot = house.slot()
    slot.refresh()
    assert (slot.problem, slot.model and slot.model.version) == (None, "1")
    yield slot
    slot.close()


def refused(slot: Slot, caplog: pytest.LogCaptureFixture, *words: str) -> None:
    """The slot's refresh refuses what the registry names, says so in the log, and version 1 answers on."""
    with caplog.at_level(logging.ERROR):
        slot.refresh()
    assert slot.model is not None
    assert slot.model.version == "1"
    for word in words:
        assert word in (slot.problem or "")
        assert word in caplog.text


def test_a_signed_promotion_replaces_the_champion(slot: Slot, house: House) -> None:
    house.promote("2")
    slot.refresh()
    assert slot.model is not None
    assert (slot.problem, slot.model.version) == (None, "2")


def test_a_foreign_model_set_by_alias_is_refused(slot: Slot, house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.registry.add("2")
    house.registry.tags["2"] |= {"decision": "passed", "figure.accuracy": "0.9990"}
    house.registry.aliases[CHAMPION] = "2"
    refused(slot, caplog, "version 2", "nobody signed")


def test_a_foreign_model_with_the_signature_of_another_is_refused(
    slot: Slot, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.registry.add("2")
    house.registry.tags["2"]["signature.champion"] = house.registry.tags["1"]["signature.champion"]
    house.registry.aliases[CHAMPION] = "2"
    refused(slot, caplog, "signed for bundle")


def test_a_foreign_model_signed_with_a_foreign_key_is_refused(
    slot: Slot, house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house.promote("2", new_signing_key(tmp_path / "foreign.key"))
    refused(slot, caplog, "not trusted here")


def test_a_bundle_that_takes_the_signed_ones_place_is_refused(slot: Slot, house: House, tmp_path: Path) -> None:
    house.promote("2")
    house.registry.folders = {"1": house.registry.folders["1"], "2": make_tiny_bundle(tmp_path / "other", 9)}
    with pytest.raises(UntrustedModel, match="signed for bundle"):
        verify(
            house.registry.tags["2"]["signature.champion"],
            read_trusted_keys(str(house.trusted)),
            task=TASK,
            alias=CHAMPION,
            bundle_id=bundles.read(tmp_path / "other").id,
        )


def test_a_replayed_signature_is_refused_even_after_a_restart(
    slot: Slot, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """Version 1 was replaced: its own true signature must not bring it back."""
    house.promote("2")
    slot.refresh()
    house.registry.aliases[CHAMPION] = "1"
    for service in (slot, house.slot()):
        with caplog.at_level(logging.ERROR):
            service.refresh()
        assert "older than one that was accepted" in (service.problem or "")
    assert "older than one that was accepted" in caplog.text
    assert slot.model is not None
    assert slot.model.version == "2"


def test_poisoned_tags_are_refused(slot: Slot, house: House, caplog: pytest.LogCaptureFixture) -> None:
    """S7 too: threads, runtime and precision are part of what is signed."""
    house.promote("2")
    for name, value in {"threads": "64", "precision": "bf16", "figure.f1": "1.0", RUN_TAG: "run1"}.items():
        before = dict(house.registry.tags["2"])
        house.registry.tags["2"][name] = value
        refused(slot, caplog, "not those that were signed")
        house.registry.tags["2"] = before
    slot.refresh()
    assert slot.problem is None


def test_an_edited_evaluation_or_decision_is_refused(
    slot: Slot, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.promote("2")
    house.registry.artifacts["run2/evaluation/evaluation.json"] = {"figures": {"accuracy": {"value": 0.99}}}
    refused(slot, caplog, "its evaluation in the registry is not the one that was signed")
    house.promote("2")
    house.registry.artifacts[f"run2/{decision_path(EVIDENCE.decision)}"] = DECISION | {"reasons": ["none"]}
    refused(slot, caplog, "its decision in the registry is not the one that was signed")


def test_a_revoked_key_signs_nothing_more(slot: Slot, house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.promote("2")
    revoke(house.trusted, house.key.id, "stolen laptop")
    refused(slot, caplog, "is revoked")
    with pytest.raises(ConfigError, match="has been revoked"):
        trust(house.trusted, house.key.public, "again", ())


def test_keys_rotate_without_a_gap(slot: Slot, house: House, tmp_path: Path) -> None:
    new = new_signing_key(tmp_path / "new.key")
    trust(house.trusted, new.public, "next-year", ())
    house.promote("2", new)
    slot.refresh()
    revoke(house.trusted, house.key.id, "rotated")
    slot.refresh()
    assert slot.model is not None
    assert (slot.problem, slot.model.version) == (None, "2")


def test_a_key_of_another_task_or_alias_signs_nothing_here(
    slot: Slot, house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = new_signing_key(tmp_path / "cmr.key")
    trust(house.trusted, other.public, "cmr", ("cmr-segmentation",))
    house.promote("2", other)
    refused(slot, caplog, f"may not sign for {TASK}")
    house.promote("2", alias=CHALLENGER)
    house.registry.tags["2"]["signature.champion"] = house.registry.tags["2"]["signature.challenger"]
    refused(slot, caplog, "signed for alias challenger")


@pytest.mark.parametrize("change", ["statement", "signature", "none", "long"])
def test_a_changed_signature_is_refused(
    slot: Slot, house: House, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.promote("2")
    signed = json.loads(house.registry.tags["2"]["signature.champion"])
    if change == "statement":
        signed["statement"] = signed["statement"].replace('"by":"tester"', '"by":"nobody"')
    elif change == "signature":
        signed["signature"] = base64.b64encode(bytes(64)).decode()
    text = {"none": "not json", "long": json.dumps(signed) + " " * 9000}.get(change, json.dumps(signed))
    house.registry.tags["2"]["signature.champion"] = text
    refused(slot, caplog, "signature")


def test_a_service_without_any_trusted_key_serves_nothing(house: House) -> None:
    house.promote("1")
    house.trusted.write_text(TrustedKeys(schema=1).model_dump_json(by_alias=True))
    slot = house.slot()
    slot.refresh()
    assert slot.model is None
    assert "not trusted here" in (slot.problem or "")


def test_unsigned_models_need_the_setting_with_the_plain_name(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house.registry.add("1")
    house.registry.aliases[CHAMPION] = "1"
    sources = configured_sources(ServingSettings(MLFLOW_TRACKING_URI="http://127.0.0.1:9"))
    assert not sources[TASK].trust.allow_unsigned  # type: ignore[attr-defined]
    monkeypatch.setenv("ECHOPLANE_ALLOW_UNSIGNED_MODELS", "true")
    sources = configured_sources(ServingSettings(MLFLOW_TRACKING_URI="http://127.0.0.1:9"))
    slot = Slot(TASK, RegistrySource(TASK, lambda: house.registry, trust=sources[TASK].trust), {})  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        slot.refresh()
    assert slot.model is not None
    assert "is loaded unsigned" in caplog.text
    slot.close()


def test_the_local_copy_must_be_signed_too(house: House, tmp_path: Path) -> None:
    house.promote("1")
    slot = house.slot(cache=tmp_path / "cache")
    slot.refresh()
    slot.close()
    house.registry.available = False
    again = house.slot(cache=tmp_path / "cache")
    again.refresh()
    assert again.model is not None
    again.close()
    revoke(house.trusted, house.key.id, "stolen laptop")
    after = house.slot(cache=tmp_path / "cache")
    after.refresh()
    assert after.model is None


def test_a_damaged_memory_of_promotions_accepts_nothing(house: House) -> None:
    house.promote("1")
    (house.folder / "sequences.json").write_text("{")
    slot = house.slot()
    slot.refresh()
    assert slot.model is None
    assert "damaged" in (slot.problem or "")


def test_each_statement_is_newer_than_the_one_before(house: House) -> None:
    found = []
    for number in ("1", "2", "1"):
        house.promote(number)
        signed = house.registry.tags[number]["signature.champion"]
        found.append(json.loads(json.loads(signed)["statement"])["sequence"])
    assert found == sorted(set(found))
    assert is_signed(house.registry.version("1"), CHAMPION, house.key)


def test_a_key_that_others_may_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    key = new_signing_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    environment = {"ECHOPLANE_SIGNING_KEY_FILE": str(path)}
    assert read_signing_key(environment) is not None
    assert read_signing_key({"ECHOPLANE_SIGNING_KEY": path.read_text()}).id == key.id  # type: ignore[union-attr]
    assert "PRIVATE" not in repr(key)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_signing_key(environment)
    for content in ("", "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(ConfigError):
            read_signing_key({"ECHOPLANE_SIGNING_KEY": content or "x"})
    with pytest.raises(ConfigError, match="cannot be read"):
        read_signing_key({"ECHOPLANE_SIGNING_KEY_FILE": str(tmp_path / "absent")})
    assert read_signing_key({}) is None
    with pytest.raises(ConfigError, match="exists already"):
        new_signing_key(path)


def test_trusted_keys_that_others_may_write_are_refused(house: House) -> None:
    house.trusted.chmod(0o666)
    with pytest.raises(ConfigError, match="others than the owner may write"):
        read_trusted_keys(str(house.trusted))


def test_trusted_keys_may_be_given_as_their_content(house: House) -> None:
    assert read_trusted_keys(house.trusted.read_text()) == read_trusted_keys(str(house.trusted))
    with pytest.raises(ConfigError, match="not what `echoplane keys` writes"):
        read_trusted_keys('{"schema": 1, "keys": [], "more": 1}')


def test_an_id_that_is_not_the_keys_own_trusts_nothing(house: House) -> None:
    content = read_trusted_keys(str(house.trusted))
    renamed = content.model_copy(update={"keys": (content.keys[0].model_copy(update={"id": "0" * 16}),)})
    assert renamed.by_id("0" * 16) is None


def test_a_user_without_settings_gets_a_key_of_their_own_once(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    first = ensure_own_keys(home)
    assert first is not None
    assert ensure_own_keys(home) == first or ensure_own_keys(home).id == first.id  # type: ignore[union-attr]
    assert [key.id for key in read_trusted_keys("", home).keys] == [first.id]
    assert ensure_own_keys({}) is None
    assert read_trusted_keys("", {}) == TrustedKeys(schema=1)


def test_keys_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trusted, key = str(tmp_path / "trusted.json"), str(tmp_path / "signing.key")
    assert cli.main(["keys", "make", "--out", key, "--trusted", trusted, "--name", "mlops", "--json"]) == 0
    (made,) = json.loads(capsys.readouterr().out)
    assert cli.main(["keys", "make", "--out", str(tmp_path / "second.key"), "--json"]) == 0
    (second,) = json.loads(capsys.readouterr().out)
    add = ["keys", "trust", second["public_key"], "--name", "next", "--tasks", TASK, "--trusted", trusted]
    assert cli.main(add) == 0
    assert cli.main(["keys", "revoke", made["id"], "--reason", "rotated", "--trusted", trusted]) == 0
    capsys.readouterr()
    assert cli.main(["keys", "list", "--trusted", trusted]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "revoked: rotated" in lines[0]
    assert f"{second['id']}  next  {TASK}" in lines[1]
    assert "PRIVATE" not in "".join(lines)
    assert cli.main(["keys", "trust", "AAAA", "--name", "short", "--trusted", trusted]) == 2
    assert cli.main(["keys", "make", "--out", key]) == 2


def test_a_statement_with_more_fields_is_none(house: House) -> None:
    from echoplane.signing import Statement

    house.promote("1")
    content = json.loads(json.loads(house.registry.tags["1"]["signature.champion"])["statement"])
    with pytest.raises(ValidationError):
        Statement.model_validate(content | {"alias_of": "x"})
