"""The sequential tests of drift: what they must find, and how seldom they may be wrong."""

import sys

import numpy as np
import pytest
from scipy import stats

from echoplane.monitoring import rank_streams
from echoplane.monitoring.drift import (
    LABEL_LEVEL,
    THRESHOLD,
    WINDOW,
    TaskMonitor,
    compare_labels,
)
from echoplane.monitoring.rank_streams import MAX_POOL, RankStreams, gains


def stream(seed, size=1000):
    return TaskMonitor({"x": np.random.default_rng(seed).normal(size=size)}, {}, seed=seed)


def add(monitored, values):
    return monitored.add_all(np.array(values)[:, None], ["a2c"] * len(values), [()] * len(values))


def studies_until_alarm(monitored, values):
    above = add(monitored, values) >= THRESHOLD
    return int(above.argmax()) + 1 if above.any() else None


def test_every_bet_gains_nothing_on_average_and_never_loses_all():
    grid = (np.arange(100_000) + 0.5) / 100_000
    factors = gains(grid)
    assert factors.mean(axis=0) == pytest.approx(1, abs=1e-6)
    assert factors.min() >= 0.5 - 1e-9


def test_evidence_grows_by_one_per_study_on_average_without_drift():
    rng = np.random.default_rng(3)
    ends = []
    for seed in range(1500):
        ends.append(add(TaskMonitor({"x": [0.0]}, {}, seed=seed), rng.normal(size=12))[-1])
    error = np.std(ends) / np.sqrt(len(ends))
    assert np.mean(ends) == pytest.approx(12, abs=4 * error)


@pytest.mark.parametrize(("change", "limit"), [(lambda x: x + 1, 80), (lambda x: x - 0.5, 200), (lambda x: 3 * x, 200)])
def test_a_shift_or_a_wider_spread_is_found_within_a_window_and_dated(change, limit):
    errors = []
    for seed in range(7):
        monitored = stream(seed)
        before = np.random.default_rng(seed + 100).normal(size=300)
        assert studies_until_alarm(monitored, before) is None
        found = studies_until_alarm(monitored, change(np.random.default_rng(seed + 200).normal(size=limit)))
        assert found is not None
        errors.append(monitored.alarm.studies - found)
    assert abs(np.median(errors)) <= 20


def test_nothing_is_found_in_values_that_are_all_alike():
    monitored = TaskMonitor({"x": [7.0] * 300}, {})
    assert studies_until_alarm(monitored, [7.0] * 3000) is None


def test_a_value_that_is_missing_counts_as_the_most_extreme_one():
    assert studies_until_alarm(stream(1), [float("nan")] * 60) is not None


def test_an_empty_reference_and_one_with_a_missing_value_are_refused():
    for reference in ([], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="finite"):
            RankStreams({"x": reference})
    with pytest.raises(ValueError, match="at least one stream"):
        RankStreams({})


def sequential(reference, seed, values):
    """The martingale as its papers write it: one study after the other, one stream."""
    pool, random = sorted(reference), np.random.default_rng(seed)
    stakes, evidence = np.zeros(4), []
    for value in values:
        rank = np.searchsorted(pool, value), np.searchsorted(pool, value, "right")
        p_value = (rank[0] + random.random() * (rank[1] - rank[0] + 1)) / (len(pool) + 1)
        if len(pool) < MAX_POOL:
            pool = sorted([*pool, value])
        stakes = (0.99 * stakes + (0.01 * stakes.sum() + 1) / 4) * gains(np.float64(p_value))
        evidence.append(stakes.sum())
    return np.array(evidence)


@pytest.mark.parametrize("limit", [MAX_POOL, 450])
def test_studies_added_together_give_what_they_give_one_by_one(monkeypatch, limit):
    for module in (rank_streams, sys.modules[__name__]):
        monkeypatch.setattr(module, "MAX_POOL", limit)
    rng = np.random.default_rng(1)
    accepted, values = rng.normal(size=300).round(1), rng.normal(0.4, size=700).round(1)  # with many ties
    monitored = TaskMonitor({"x": accepted}, {}, seed=5)
    found = np.concatenate([add(monitored, part) for part in np.split(values, [1, 4, 300, 301, 699])])
    assert found == pytest.approx(sequential(accepted, 5, values), rel=1e-9)


def test_an_alarm_within_many_studies_is_dated_as_if_they_came_one_by_one():
    rng = np.random.default_rng(2)
    accepted = {"x": rng.normal(size=400)}
    values = np.concatenate([rng.normal(size=150), rng.normal(1.5, size=300)])[:, None]
    groups = [(f"site {'a' if number % 3 else 'b'}",) for number in range(len(values))]
    together, one_by_one = TaskMonitor(accepted, {}), TaskMonitor(accepted, {})
    together.add_all(values, ["a2c"] * len(values), groups)
    for row, own in zip(values, groups, strict=True):
        one_by_one.add({"x": row[0]}, "a2c", own)
    assert together.alarm.studies < 100
    assert (together.alarm.stream, together.alarm.studies, together.alarm.groups) == (
        one_by_one.alarm.stream,
        one_by_one.alarm.studies,
        one_by_one.alarm.groups,
    )
    assert together.alarm.evidence == pytest.approx(one_by_one.alarm.evidence)


def test_label_shares_are_compared_as_pearsons_test_does():
    reference, window = {"a2c": 400, "a4c": 500, "plax": 100}, {"a2c": 70, "a4c": 110, "plax": 20}
    found = compare_labels(reference, window, draws=20_000)
    table = [[400, 500, 100], [70, 110, 20]]
    assert found.p_value == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, abs=0.02)


def test_a_label_that_became_frequent_is_named_with_both_shares():
    found = compare_labels({"a2c": 80, "a4c": 500, "plax": 420}, {"a2c": 50, "a4c": 80, "plax": 70})
    assert found.p_value <= LABEL_LEVEL
    assert (found.label, found.share, found.reference_share) == ("a2c", 0.25, 0.08)


def test_a_window_without_drift_is_an_alarm_no_more_often_than_the_level_says():
    rng = np.random.default_rng(8)
    alarms = 0
    for seed in range(400):
        draws = rng.multinomial(200, [0.6, 0.3, 0.1]), rng.multinomial(WINDOW, [0.6, 0.3, 0.1])
        counts = [dict(zip("abc", map(int, one), strict=True)) for one in draws]
        alarms += compare_labels(*counts, draws=1000, seed=seed).p_value <= 0.05
    assert alarms <= stats.binom.ppf(0.999, 400, 0.05)


def test_a_task_raises_one_alarm_that_names_its_stream_and_ends_at_a_restart():
    rng = np.random.default_rng(5)
    monitor = TaskMonitor({"brightness": rng.normal(size=500), "confidence": rng.normal(size=500)}, {"a2c": 500})
    alarms = [monitor.add({"brightness": 2 + rng.normal(), "confidence": rng.normal()}, "a2c") for _ in range(150)]
    raised = [alarm for alarm in alarms if alarm]
    assert raised
    assert set(raised) == {raised[0]}
    assert raised[0].stream == "brightness"
    monitor.restart()
    assert monitor.add({"brightness": rng.normal(), "confidence": rng.normal()}, "a2c") is None


def test_a_shift_of_labels_alone_is_an_alarm_at_the_end_of_its_window():
    rng = np.random.default_rng(6)
    monitor = TaskMonitor({"confidence": rng.normal(size=500)}, {"a2c": 80, "a4c": 920})
    labels = rng.choice(["a2c", "a4c"], size=2 * WINDOW, p=[0.25, 0.75])
    alarms = [monitor.add({"confidence": rng.normal()}, label) for label in labels]
    assert alarms[WINDOW - 2] is None
    assert alarms[-1].stream == "label"
    assert alarms[-1].label.label in ("a2c", "a4c")
