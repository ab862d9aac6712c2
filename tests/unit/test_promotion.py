"""The gate: each demand alone can refuse, and a refusal says which and by how much."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echoplane.errors import ConfigError
from echoplane.evaluation.intervals import take
from echoplane.evaluation.record import EvaluationRecord
from echoplane.promotion import Champion, Decision, Policy, StoredDecision, decide, paired, read_policy
from echoplane.tasks import Rows, by_name
from tests.tiny_bundle import TASK
from tests.tiny_evaluation import draw_scores, make_record

POLICY = read_policy(TASK)
SUMMARY = by_name(TASK).summary


GOOD = draw_scores(accuracy=0.97)
FIGURES = make_record(GOOD)


def _decide(record: dict[str, Any], scores: Rows, policy: Policy, champion: Champion | None) -> Decision:
    return decide(EvaluationRecord.model_validate(record), scores, policy, champion)


def _failed(decision: Decision) -> list[str]:
    return [check.name for check in decision.reasons if not check.passed]


def _champion(scores: Rows, split_id: str = "split") -> Champion:
    return Champion("3", "b" * 64, split_id, scores)


def test_a_first_model_that_meets_every_floor_passes() -> None:
    decision = _decide(FIGURES, GOOD, POLICY, None)
    assert decision.passed, _failed(decision)
    assert not any(check.name.startswith("champion") for check in decision.reasons)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("data/without_deid", lambda f: f["data"].update(without_deid=1)),
        ("data/patients_in_two_splits", lambda f: f["data"].update(patients_in_two_splits=1)),
        ("data/test_patients", lambda f: f.update(patients=19)),
        ("floor/accuracy", lambda f: f["figures"]["accuracy"].update(low=0.849)),
        ("floor/f1", lambda f: f["figures"]["f1"].update(low=0.799)),
        ("recall/a4c", lambda f: f["figures"]["recall/a4c"].update(value=0.69)),
        ("sex/F/accuracy", lambda f: f["subgroups"]["sex"]["F"]["figures"]["accuracy"].update(value=0.79)),
        ("calibration_error", lambda f: f["figures"]["calibration_error"].update(value=0.11)),
        ("abstained", lambda f: f["figures"]["abstained"].update(value=0.16)),
        ("latency_p95_ms", lambda f: f["latency_ms"].update(p95=1001.0)),
    ],
)
def test_each_single_demand_that_is_not_met_refuses_the_model(name: str, spoil: Callable[[Any], object]) -> None:
    figures = copy.deepcopy(FIGURES)
    spoil(figures)
    decision = _decide(figures, GOOD, POLICY, None)
    assert not decision.passed
    assert _failed(decision) == [name]


def test_a_figure_that_is_not_a_number_refuses_the_model() -> None:
    figures = copy.deepcopy(FIGURES)
    figures["figures"]["accuracy"]["low"] = float("nan")
    assert _failed(_decide(figures, GOOD, POLICY, None)) == ["floor/accuracy"]


def test_a_group_with_too_few_patients_is_not_judged() -> None:
    figures = copy.deepcopy(FIGURES)
    figures["subgroups"]["sex"]["M"] = copy.deepcopy(figures["subgroups"]["sex"]["F"]) | {"patients": 9}
    figures["subgroups"]["sex"]["M"]["figures"]["accuracy"]["value"] = 0.0
    assert _decide(figures, GOOD, POLICY, None).passed
    figures["subgroups"]["sex"]["M"]["patients"] = 10
    assert _failed(_decide(figures, GOOD, POLICY, None)) == ["sex/M/accuracy"]


def test_a_model_as_good_as_the_champion_passes_and_a_worse_one_does_not() -> None:
    assert _decide(FIGURES, GOOD, POLICY, _champion(GOOD)).passed
    worse = draw_scores(accuracy=0.93)
    decision = _decide(make_record(worse), worse, POLICY, _champion(draw_scores(accuracy=0.999)))
    assert set(_failed(decision)) == {"champion/accuracy", "champion/f1"}


def test_patients_are_the_clusters_of_the_comparison() -> None:
    """The same number of clips lost: scattered over patients it is within the margin's doubt, in one patient not."""
    policy = POLICY.model_copy(update={"margins": {"accuracy": 0.02}})
    best = draw_scores(patients=60, accuracy=1.0)
    scattered, clustered = (dict(best) | {"probabilities": best["probabilities"].copy()} for _ in range(2))
    for lost, rows in (([60 * n for n in range(6)], scattered), (list(range(6)), clustered)):
        for row in lost:
            rows["probabilities"][row] = np.roll(rows["probabilities"][row], 1)
    lows = {}
    for name, rows in (("scattered", scattered), ("clustered", clustered)):
        decision = _decide(make_record(rows), rows, policy, _champion(best))
        lows[name] = next(check.value for check in decision.reasons if check.name == "champion/accuracy")
    assert lows["scattered"] > -0.02 > lows["clustered"]


def test_a_champion_of_another_split_is_not_compared_but_refuses() -> None:
    assert _failed(_decide(FIGURES, GOOD, POLICY, _champion(GOOD, "another"))) == ["champion/same_split"]


def test_a_champion_that_answered_too_few_of_these_clips_refuses() -> None:
    few = take(GOOD, np.arange(100))
    assert _failed(_decide(FIGURES, GOOD, POLICY, _champion(few))) == ["champion/shared_clips"]


@pytest.mark.parametrize("missing", ["data", "labels", "subgroups", "latency_ms"])
def test_an_evaluation_without_a_part_that_the_gate_judges_is_refused(tmp_path: Path, missing: str) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(FIGURES))
    assert EvaluationRecord.read(tmp_path).patients == FIGURES["patients"]
    (tmp_path / "evaluation.json").write_text(json.dumps({k: v for k, v in FIGURES.items() if k != missing}))
    with pytest.raises(ConfigError, match=f"`{missing}`: Field required.*; run `evaluate` again"):
        EvaluationRecord.read(tmp_path)


def test_pairing_is_by_sample_whatever_the_order_and_uses_todays_labels() -> None:
    shuffled = take(GOOD, np.random.default_rng(0).permutation(len(GOOD["sample"])))
    relabelled = {**shuffled, "truth": (shuffled["truth"] + 1) % 12}
    ours, theirs = paired(GOOD, relabelled)
    assert (ours["sample"] == theirs["sample"]).all()
    assert (ours["truth"] == theirs["truth"]).all()
    assert SUMMARY(ours) == SUMMARY(theirs)


def test_a_decision_as_json_has_every_check_with_its_value_limit_and_sentence() -> None:
    decision, record = _decide(FIGURES, GOOD, POLICY, _champion(GOOD)), EvaluationRecord.model_validate(FIGURES)
    stored = StoredDecision(
        passed=decision.passed,
        reasons=decision.reasons,
        bundle_id=record.bundle_id,
        task=TASK,
        champion="b" * 64,
        policy=POLICY,
        figures=record.figures,
        provenance={},
    )
    stated = json.loads(json.dumps(stored.as_data()))
    assert StoredDecision.parse(stated) == stored
    names = {reason["name"] for reason in stated["reasons"]}
    labels = {f"recall/{label.name}" for label in by_name(TASK).labels()}
    assert names >= labels | {"floor/accuracy", "floor/f1", "calibration_error", "latency_p95_ms", "sex/F/accuracy"}
    assert names >= {"champion/accuracy", "champion/f1", "data/without_deid", "data/test_patients"}
    for reason in stated["reasons"]:
        assert isinstance(reason["value"], float)
        assert isinstance(reason["limit"], float)
        assert reason["sentence"].endswith((".", "hand."))


def test_a_policy_with_an_unknown_word_or_figure_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("schema: 1\nleast_patiens: 3\n")
    with pytest.raises(ConfigError, match="least_patiens"):
        read_policy(TASK, str(path))
    for nothing in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError) as refused:
            read_policy(TASK, str(nothing))
        assert str(tmp_path) not in str(refused.value)
    path.write_text("{DOE: [")
    with pytest.raises(ConfigError, match="no YAML") as refused:
        read_policy(TASK, str(path))
    assert "DOE" not in str(refused.value)
    for field in ("floors_low", "margins"):
        policy = Policy.model_validate(POLICY.model_dump(by_alias=True) | {field: {"beauty": 0.5}})
        with pytest.raises(ConfigError, match=r"asks for beauty; the evaluation has .*accuracy"):
            _decide(FIGURES, GOOD, policy, _champion(GOOD))


def test_s11_fixed_policies_leave_a_run_no_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = POLICY.model_dump(by_alias=True) | {"min_patients": 77}
    own = tmp_path / "own.yaml"
    own.write_text(json.dumps(stated))
    monkeypatch.setenv("ECHOPLANE_GATE_POLICIES", json.dumps({TASK: stated}))
    assert read_policy(TASK).min_patients == 77
    with pytest.raises(ConfigError, match="are fixed"):
        read_policy(TASK, str(own))
    with pytest.raises(ConfigError, match="no policy of cmr-segmentation"):
        read_policy("cmr-segmentation")
    monkeypatch.setenv("ECHOPLANE_GATE_POLICIES", "[")
    with pytest.raises(ConfigError, match="no YAML"):
        read_policy(TASK)
    monkeypatch.setenv("ECHOPLANE_GATE_POLICIES", "")
    assert read_policy(TASK, str(own)).min_patients == 77
