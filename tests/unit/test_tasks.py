"""The numpy half of the view task, and the figures that all classifiers share."""

import numpy as np
import pytest
from sklearn import metrics

from echoplane import tasks
from echoplane.errors import ConfigError, UnusableStudy
from echoplane.study.study import Instance, Pixels, Region, Study
from echoplane.tasks import classify, view_video
from echoplane.tasks.classify import Thresholds

CONFIG = view_video.Preprocessing()


def _clip(frames_THW: np.ndarray, *, region: Region | None = None, frame_time_ms: float | None = 40.0) -> Study:
    count, rows, columns = frames_THW.shape
    regions = (region,) if region else ()
    clip = Instance("d", "US", count, rows, columns, Pixels(frames_THW), frame_time_ms=frame_time_ms, regions=regions)
    return Study((clip,))


def test_what_lies_outside_the_scan_region_never_reaches_the_network() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (24, 200, 300), np.uint8)
    region = Region("tissue", 20, 40, 180, 260)
    painted = frames.copy()
    painted[:, :20], painted[:, 180:], painted[:, :, :40], painted[:, :, 260:] = 255, 255, 255, 255
    first, second = (view_video.preprocess(_clip(f, region=region), CONFIG).batch for f in (frames, painted))
    assert np.array_equal(first, second)


def test_a_batch_is_one_clip_letterboxed_without_stretching() -> None:
    frames = np.full((24, 100, 200), 200, np.uint8)
    batch = view_video.preprocess(_clip(frames, region=Region("tissue", 0, 0, 100, 200)), CONFIG).batch
    assert batch.shape == (1, 16, 64, 64)
    assert batch.dtype == np.uint8
    assert (batch[0, :, 16:48] == 200).all()
    assert (batch[0, :, :16] == 0).all()


@pytest.mark.parametrize(("frame_time_ms", "last"), [(20.0, 46), (40.0, 23), (10.0, 93)])
def test_frames_are_spread_over_one_second_whatever_the_frame_rate(frame_time_ms: float, last: int) -> None:
    indices = view_video.sample_frames(500, frame_time_ms, CONFIG)
    assert (indices[0], indices[-1]) == (0, last)


def test_a_short_clip_is_used_whole_and_never_beyond_its_end() -> None:
    assert max(view_video.sample_frames(5, 100.0, CONFIG)) == 4


def test_no_frame_time_is_answered_with_a_warning() -> None:
    prepared = view_video.preprocess(_clip(np.zeros((10, 64, 64), np.uint8), frame_time_ms=None), CONFIG)
    assert any("33.3 ms a frame was assumed" in warning for warning in prepared.warnings)


def test_a_still_is_refused_and_told_why() -> None:
    with pytest.raises(UnusableStudy, match=r"1 frame\(s\); at least 4"):
        view_video.preprocess(_clip(np.zeros((1, 64, 64), np.uint8)), CONFIG)


def test_a_region_beyond_the_image_is_cut_to_it() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (8, 100, 100), np.uint8)
    far, near = Region("tissue", -5, -5, 400, 400), Region("tissue", 0, 0, 100, 100)
    batches = [view_video.preprocess(_clip(frames, region=r), CONFIG).batch for r in (far, near)]
    assert np.array_equal(*batches)


def test_a_confidence_under_the_threshold_answers_cannot_tell() -> None:
    logits = np.zeros((1, 12))
    logits[0, 4] = 3.0
    said = [
        view_video.interpret(logits, None, {}, Thresholds(temperature=1.0, abstain_below=limit)) for limit in (0.5, 0.9)
    ]  # type: ignore[arg-type]
    assert [result.label for result in said] == ["a4c", None]
    assert sum(said[0].probabilities.values()) == pytest.approx(1.0)


def test_a_higher_temperature_is_less_sure_of_the_same_answer() -> None:
    logits = np.random.default_rng(0).normal(size=(1, 12)) * 4
    cold, hot = (
        view_video.interpret(logits, None, {}, Thresholds(temperature=t, abstain_below=0.0)) for t in (1.0, 3.0)
    )  # type: ignore[arg-type]
    assert cold.label == hot.label
    assert cold.confidence > hot.confidence


def test_the_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, probabilities = rng.integers(0, 12, 300), rng.dirichlet(np.full(12, 0.3), 300)
    rows = {"truth": truth, "probabilities": probabilities, "abstained": np.zeros(300, bool)}
    figures, predicted = view_video.summary(rows), probabilities.argmax(axis=1)
    expected = metrics.precision_recall_fscore_support(truth, predicted, average="macro", zero_division=0)
    assert (figures["precision"], figures["recall"], figures["f1"]) == pytest.approx(expected[:3])
    assert figures["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert figures["top2"] == pytest.approx(metrics.top_k_accuracy_score(truth, probabilities, k=2))
    matrix = classify.confusion_matrix(truth, predicted, 12)
    assert np.array_equal(matrix, metrics.confusion_matrix(truth, predicted, labels=range(12)))


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    correct = np.array([True] * 6 + [False] * 4)
    assert classify.expected_calibration_error(np.full(10, 0.85), correct) == pytest.approx(0.25)


def test_an_unknown_task_is_told_the_names() -> None:
    with pytest.raises(ConfigError, match="echo-view-video"):
        tasks.by_name("echo-view-smell")
