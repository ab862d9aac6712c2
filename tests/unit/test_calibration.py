"""Calibration on validation logits: a known temperature comes back, the threshold keeps its bounds.

Axes: N clip, K label."""

import statistics

import numpy as np
import pytest

from echoplane.errors import BundleError
from echoplane.tasks.calibration import (
    ALWAYS_ANSWERED,
    MAX_ABSTAINED,
    abstention_threshold,
    calibrate,
    calibrate_samples,
    fit_temperature,
)
from echoplane.tasks.classify import expected_calibration_error, reliability, softmax


def _drawn(clips: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that mean what they say: each truth is drawn from its clip's own softmax."""
    rng = np.random.default_rng(seed)
    logits_NK = rng.normal(0, 2, (clips, 12))
    cumulated_NK = softmax(logits_NK).cumsum(axis=1)
    return logits_NK, (rng.random(clips)[:, None] > cumulated_NK).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    logits_NK, truth_N = _drawn(4000)
    assert fit_temperature(logits_NK * temperature, truth_N) == pytest.approx(temperature, rel=0.05)


def test_a_model_that_makes_no_error_is_not_made_certain() -> None:
    truth_N = np.arange(240) % 12
    logits_NK = np.random.default_rng(0).normal(0, 0.5, (240, 12)) + 8 * np.eye(12)[truth_N]
    temperature = fit_temperature(logits_NK, truth_N)
    assert 0.99 < softmax(logits_NK / temperature).max(axis=1).mean() < 0.9999


def test_calibrating_an_overconfident_model_lowers_its_calibration_error_and_keeps_every_answer() -> None:
    logits_NK, truth_N = _drawn(2000)
    found = calibrate(logits_NK * 3, truth_N).figures
    assert found["calibration_error_after"] < 0.05 < found["calibration_error_before"]
    assert found["nll_after"] < found["nll_before"]
    assert found["accuracy"] == (logits_NK.argmax(axis=1) == truth_N).mean()


def test_the_threshold_is_the_lowest_at_which_answers_are_right_often_enough() -> None:
    confidence_N = np.linspace(0.2, 0.85, 200)
    correct_N = confidence_N > 0.25
    threshold = abstention_threshold(confidence_N, correct_N)
    answered = confidence_N >= threshold
    assert correct_N[answered].mean() >= 0.99
    one_lower = confidence_N >= np.sort(confidence_N)[(~answered).sum() - 1]
    assert correct_N[one_lower].mean() < 0.99


def test_no_threshold_abstains_on_more_than_its_share_or_above_its_ceiling() -> None:
    rng = np.random.default_rng(0)
    confidence_N = rng.random(500)
    hopeless = abstention_threshold(confidence_N, rng.random(500) < 0.3)
    assert (confidence_N < hopeless).mean() == pytest.approx(MAX_ABSTAINED, abs=0.003)
    assert abstention_threshold(np.full(500, 0.999), np.ones(500, bool)) == ALWAYS_ANSWERED


def test_the_least_sure_hundredth_is_not_answered_even_where_all_are_right() -> None:
    confidence_N = np.linspace(0.3, 0.8, 200)
    assert (confidence_N < abstention_threshold(confidence_N, np.ones(200, bool))).sum() == 2


def test_too_few_clips_are_refused() -> None:
    with pytest.raises(BundleError, match="19 validation clips"):
        calibrate(*_drawn(19))


def test_calibration_error_and_reliability_equal_a_count_bin_by_bin() -> None:
    rng = np.random.default_rng(0)
    confidence_N = rng.random(3000)
    correct_N = rng.random(3000) < confidence_N**2
    bins = [(confidence_N >= b / 10) & (confidence_N < (b + 1) / 10) for b in range(10)]
    gaps = [abs(statistics.mean(correct_N[b].tolist()) - statistics.mean(confidence_N[b].tolist())) for b in bins]
    expected = sum(gap * b.sum() for gap, b in zip(gaps, bins, strict=True)) / 3000
    assert expected_calibration_error(confidence_N, correct_N) == pytest.approx(expected)
    bars = reliability(confidence_N, correct_N)
    assert [abs(bar["accuracy"] - bar["confidence"]) for bar in bars] == pytest.approx(gaps)
    assert [bar["clips"] for bar in bars] == [b.sum() for b in bins]


def test_a_sample_of_several_rows_counts_once_with_its_mean_logits() -> None:
    logits_NK, truth_N = _drawn(40)
    apart = np.random.default_rng(1).normal(0, 1, logits_NK.shape)
    names = np.array([f"s{n:02d}" for n in range(40)])
    batches = [(logits_NK + apart, truth_N, names), (logits_NK - apart, truth_N, names)]
    found, expected = calibrate_samples(batches), calibrate(logits_NK, truth_N)
    assert found.figures == pytest.approx(expected.figures)
    assert found.thresholds.temperature == pytest.approx(expected.thresholds.temperature)
