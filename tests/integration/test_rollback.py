"""Rollback on a real MLflow server: one command, an audit record, and no way back to the bad model by repeating it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from echoplane import cli
from echoplane.adapters.local_mlflow import local_server
from echoplane.adapters.registry import CHAMPION, PREVIOUS, Registry
from echoplane.adapters.rollback import roll_back
from echoplane.errors import BundleError
from echoplane.monitoring.automatic_rollback import RollbackPolicy
from echoplane.monitoring.model_monitor import ModelMonitor
from serving.monitor.rollback import AutomaticRollback

TASK = "echo-view-video"
pytestmark = pytest.mark.usefixtures("no_own_keys")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with local_server(tmp_path_factory.mktemp("rollback") / "mlflow") as uri:
        registry = Registry(uri)
        registry.client.create_registered_model(TASK)
        for number, decision in enumerate(("passed", "passed", "refused"), 1):
            tags = {"bundle_id": str(number) * 64, "decision": decision}
            run = registry.client.create_run("0").info
            registry.client.create_model_version(TASK, f"{run.artifact_uri}/bundle", run.run_id, tags=tags)
        yield uri


@pytest.fixture
def registry(server: str) -> Registry:
    registry = Registry(server)
    registry.client.set_registered_model_alias(TASK, PREVIOUS, "1")
    registry.client.set_registered_model_alias(TASK, CHAMPION, "2")
    return registry


def champion(registry: Registry) -> str:
    version = registry.champion(TASK)
    assert version is not None
    return version.number


def test_one_command_returns_to_the_previous_version_with_a_record(
    server: str, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["rollback", TASK, "--reason", "abstains too often", "--by", "on-call", "--tracking-uri", server]
    assert cli.main(command) == 0
    assert "version 1 answers again, version 2 no longer" in capsys.readouterr().out
    assert champion(registry) == "1"
    for number in ("1", "2"):
        tags = registry.by_number(TASK, number).tags
        (record,) = [json.loads(value) for name, value in tags.items() if name.startswith("audit.")]
        assert (record["by"], record["reason"]) == ("on-call", "abstains too often")
        assert (record["from"]["version"], record["to"]["version"]) == ("2", "1")
    assert cli.main(command) == 1, "repeated, it must not bring version 2 back"
    assert champion(registry) == "1"


def test_the_monitor_rolls_back_a_champion_that_is_certainly_worse(registry: Registry) -> None:
    first = datetime(2026, 11, 1, tzinfo=UTC)
    worse = ModelMonitor(TASK, "2", "2" * 64, first, first, studies=300, abstained=150)
    before = ModelMonitor(TASK, "1", "1" * 64, first, first, studies=300, abstained=15)
    acting = AutomaticRollback(registry, RollbackPolicy(young_s=1e9), (TASK,))
    acting.step([before], [worse, before])
    assert champion(registry) == "2"
    acting.step([worse], [worse, before])
    assert champion(registry) == "1"
    assert any("150 of 300" in text for text in registry.by_number(TASK, "2").tags.values())
    assert acting.done == {TASK: 1}


def test_a_version_that_never_passed_the_gate_is_refused(registry: Registry) -> None:
    with pytest.raises(BundleError, match="version 3 of echo-view-video never passed"):
        roll_back(registry, TASK, by="on-call", reason="test", to="3")
    with pytest.raises(BundleError, match="no champion of cmr-segmentation"):
        roll_back(registry, "cmr-segmentation", by="on-call", reason="test")
    assert champion(registry) == "2"


def test_a_named_version_becomes_champion(registry: Registry, tmp_path: Path) -> None:
    registry.client.set_registered_model_alias(TASK, CHAMPION, "1")
    old, new = roll_back(registry, TASK, by="on-call", reason="version 2 was right", to="2")
    assert (old.number, new.number, champion(registry)) == ("1", "2", "2")
