"""A new champion that is certainly worse than the model before it is rolled back, once; a good one never is."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import numpy as np
import pytest

from echoplane.adapters.registry import CHAMPION, PREVIOUS, Version
from echoplane.errors import ConfigError, RegistryUnavailable
from echoplane.monitoring.agreement import Agreement
from echoplane.monitoring.automatic_rollback import RollbackPolicy, reason_to_roll_back
from echoplane.monitoring.model_monitor import ModelMonitor
from serving.monitor import rollback
from serving.monitor.rollback import AutomaticRollback
from serving.monitor.settings import read_monitor_settings
from tests.monitor_log import START, TASK

POLICY = RollbackPolicy()
NOW = START + timedelta(days=1)
OLD, NEW = "a" * 64, "b" * 64


def answered(bundle: str, abstained: int, studies: int, agreement: tuple[int, int] | None = None) -> ModelMonitor:
    known = ModelMonitor(TASK, "1", bundle, START, NOW, studies, abstained)
    return replace(known, agreement=Agreement(*agreement) if agreement else None)


def test_a_model_that_abstains_far_more_often_is_worse() -> None:
    reason = reason_to_roll_back(answered(NEW, 120, 300), answered(OLD, 30, 300), POLICY, NOW)
    assert reason == (
        'It answered "cannot tell" to 120 of 300 studies (40%), the previous model to 30 of 300 studies (10%).'
    )


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (answered(NEW, 90, 150), answered(OLD, 15, 150)),
        (answered(NEW, 45, 300), answered(OLD, 30, 300)),
        (answered(NEW, 30, 300), answered(OLD, 120, 300)),
        (answered(NEW, 1_700, 10_000), answered(OLD, 1_500, 10_000)),
        (answered(NEW, 0, 0, (20, 5)), answered(OLD, 0, 0, (20, 20))),
        (answered(NEW, 0, 0), answered(OLD, 0, 0, (40, 40))),
    ],
    ids=["few studies", "within chance", "better", "within the margin", "little feedback", "no feedback"],
)
def test_what_is_not_certainly_worse_is_left(new: ModelMonitor, old: ModelMonitor) -> None:
    assert reason_to_roll_back(new, old, POLICY, NOW) == ""


def test_feedback_that_finds_far_more_labels_wrong_says_so() -> None:
    new, old = answered(NEW, 0, 90, (60, 15)), answered(OLD, 0, 90, (60, 54))
    reason = reason_to_roll_back(new, old, POLICY, NOW)
    assert reason == ("Feedback finds it wrong in 45 of 60 studies (75%), the previous model in 6 of 60 studies (10%).")


def test_an_old_champion_is_left() -> None:
    late = START + timedelta(days=15)
    assert reason_to_roll_back(answered(NEW, 120, 300), answered(OLD, 3, 300), POLICY, late) == ""


def test_equal_models_are_left_in_200_runs_of_4000_studies_looked_at_after_every_400() -> None:
    rng = np.random.default_rng(4)
    old = answered(OLD, 40, 400)
    for _ in range(200):
        abstained = np.cumsum(rng.random(4_000) < 0.1)
        looks = [answered(NEW, int(abstained[n - 1]), n) for n in range(400, 4_001, 400)]
        assert not any(reason_to_roll_back(one, old, POLICY, NOW) for one in looks)


class RegistryDouble:
    """Versions by alias, in memory."""

    def __init__(self, tags: dict[str, str] | None = None) -> None:
        self.aliases = {CHAMPION: Version(TASK, "2", NEW, tags or {}), PREVIOUS: Version(TASK, "1", OLD, {})}
        self.available = True

    def champion(self, task: str) -> Version | None:
        return self.by_alias(task, CHAMPION)

    def by_alias(self, _task: str, alias: str) -> Version | None:
        if not self.available:
            raise RegistryUnavailable("MLflow did not answer.")
        return self.aliases.get(alias)


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Collects who rolled back, and why; the double's aliases change as `roll_back` changes them."""
    made: list[tuple[str, str]] = []

    def roll_back(registry: RegistryDouble, _task: str, *, by: str, reason: str) -> None:
        made.append((by, reason))
        registry.aliases = {CHAMPION: registry.aliases[PREVIOUS]}

    monkeypatch.setattr(rollback, "roll_back", roll_back)
    return made


def automatic(registry: RegistryDouble) -> AutomaticRollback:
    return AutomaticRollback(cast("Any", registry), RollbackPolicy(young_s=1e9), (TASK,))


NOW_WORSE = (answered(NEW, 120, 300), answered(OLD, 3, 300))


def test_a_worse_champion_is_rolled_back_once_in_the_name_of_the_monitor(moves: list[tuple[str, str]]) -> None:
    acting = automatic(RegistryDouble())
    for _ in range(3):
        acting.step([NOW_WORSE[0]], NOW_WORSE)
    ((by, reason),) = moves
    assert by == "monitor"
    assert "120 of 300" in reason
    assert acting.done == {TASK: 1}


def test_what_a_person_brought_back_is_left(moves: list[tuple[str, str]]) -> None:
    record = f'{{"action": "rollback", "by": "monitor", "from": {{"bundle": "{NEW}"}}}}'
    automatic(RegistryDouble({"audit.20261101T000000": record})).step([NOW_WORSE[0]], NOW_WORSE)
    assert moves == []


def test_another_champion_or_another_previous_version_is_left(moves: list[tuple[str, str]]) -> None:
    for alias in (CHAMPION, PREVIOUS):
        registry = RegistryDouble()
        registry.aliases[alias] = Version(TASK, "3", "c" * 64, {})
        automatic(registry).step([NOW_WORSE[0]], NOW_WORSE)
    assert moves == []


def test_an_unavailable_registry_is_asked_again_later(
    moves: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = RegistryDouble()
    acting, registry.available = automatic(registry), False
    acting.step([NOW_WORSE[0]], NOW_WORSE)
    registry.available = True
    acting.step([NOW_WORSE[0]], NOW_WORSE)
    assert moves == [], "not before RETRY_S"
    later = rollback.time.monotonic() + rollback.RETRY_S
    monkeypatch.setattr(rollback.time, "monotonic", lambda: later)
    acting.step([NOW_WORSE[0]], NOW_WORSE)
    assert len(moves) == 1


def test_switched_on_without_a_registry_the_monitor_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOPLANE_PREDICTION_LOG", "predictions")
    monkeypatch.setenv("ECHOPLANE_AUTOMATIC_ROLLBACK", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="set MLFLOW_TRACKING_URI"):
        read_monitor_settings()
