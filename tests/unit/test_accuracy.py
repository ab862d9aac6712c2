"""Accuracy without labels: on synthetic answers whose labels are known, and from the export to the monitor."""

import json
from dataclasses import replace

import numpy as np
import pytest

from echoplane.bundle import accuracy_fit, accuracy_model
from echoplane.bundle.accuracy_model import CLEAN, WINDOW, Condition, estimated, features_of, fit
from echoplane.bundle.corruptions import KINDS
from echoplane.dataset.shards import Shards
from echoplane.monitoring.model_monitor import ModelMonitor, Monitors
from echoplane.tasks import BUILT_IN, by_name
from serving.monitor.page import _accuracy
from serving.monitor.watcher import accuracy_values
from tests.monitor_log import BUNDLE, append, make_reference, make_rows

LABELS, STUDIES = 12, 1_500
SEEN = {"noise": 1.3, "blur": 0.8, "shadow": 1.0}
"""Kinds of corruption: how much they take of the true label's logit, relative to the noise that they add."""


def answers(
    severity: float, kind: float = 1.0, count: int = STUDIES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns probabilities, right or wrong, and distances of a classifier whose signal fades with `severity`."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, LABELS, count)
    logits = rng.normal(0, 1 + 0.6 * severity / kind, (count, LABELS))
    logits[np.arange(count), truth] += 5 * (1 - 0.5 * severity)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    distances = rng.normal(1 + severity, 0.1, count)
    return weights / weights.sum(axis=1, keepdims=True), logits.argmax(axis=1) == truth, distances


@pytest.fixture(scope="module")
def fitted():
    conditions = [Condition(CLEAN, *answers(0.0))]
    conditions += [Condition(name, *answers(s, kind, seed=5)) for name, kind in SEEN.items() for s in (0.25, 0.5, 1.0)]
    return fit(conditions, np.zeros(8), np.ones(8))


@pytest.mark.parametrize(("kind", "most"), [(1.0, 0.02), (1.3, 0.02), (0.7, 0.04), (1.5, 0.04)])
def test_the_estimate_is_within_its_bound_on_kinds_seen_and_not_seen(fitted, kind, most):
    errors = []
    for seed, severity in enumerate(np.linspace(0, 1, 12)):
        probabilities, correct, distances = answers(float(severity), kind, WINDOW, seed=100 + seed)
        found = estimated(fitted, probabilities, distances)
        errors.append(abs(found.accuracy - correct.mean()))
    assert np.mean(errors) <= most
    assert np.mean(errors) <= 3 * max(fitted.error_seen, fitted.error_unseen) + 0.01


def test_mean_confidence_alone_would_be_further_off(fitted):
    off = []
    for seed, severity in enumerate(np.linspace(0, 1, 12)):
        probabilities, correct, distances = answers(float(severity), 1.0, WINDOW, seed=100 + seed)
        said = estimated(fitted, probabilities, distances).accuracy, probabilities.max(axis=1).mean()
        off.append(np.abs(np.array(said) - correct.mean()))
    estimate, confidence = np.mean(off, axis=0)
    assert estimate < confidence / 2


def test_studies_outside_of_what_it_was_fitted_on_have_no_estimate_and_a_reason(fitted):
    probabilities, _, distances = answers(0.2, count=WINDOW, seed=3)
    found = estimated(fitted, probabilities, distances + 5)
    assert found.accuracy is None
    assert found.reason.startswith("embedding distance is 6")
    uniform = np.full((WINDOW, LABELS), 1 / LABELS)
    assert estimated(fitted, uniform, distances).accuracy is None


def test_labels_that_change_their_meaning_are_not_seen(fitted):
    """The documented limit: only labels show a concept drift."""
    probabilities, _, distances = answers(0.0, count=WINDOW, seed=4)
    assert estimated(fitted, probabilities, distances).accuracy > 0.9


def test_the_nuclear_norm_is_that_of_the_singular_values():
    probabilities, _, _ = answers(0.3, count=200)
    expected = np.linalg.svd(probabilities, compute_uv=False).sum() / np.sqrt(200 * LABELS)
    assert features_of(probabilities, 0.5)[2] == pytest.approx(expected)


def test_too_few_studies_are_not_fitted():
    few = [Condition(CLEAN, *answers(0.0, count=accuracy_model.MIN_STUDIES - 1))]
    with pytest.raises(ValueError, match="at least 50 studies"):
        fit(few, np.zeros(8), np.ones(8))


@pytest.mark.parametrize("kind", KINDS)
def test_a_corruption_keeps_shape_and_type_and_grows_with_its_severity(kind):
    rng = np.random.default_rng(0)
    images = np.kron(rng.integers(60, 200, (2, 4, 8, 8), dtype=np.uint8), np.ones((1, 1, 8, 8), np.uint8))
    little, much = (KINDS[kind](images, severity, np.random.default_rng(1)) for severity in (0.1, 0.9))
    assert little.dtype == much.dtype == np.uint8
    assert little.shape == much.shape == images.shape
    off = [np.abs(one.astype(int) - images).mean() for one in (little, much)]
    assert 0 < off[0] < off[1]


def test_the_export_fits_on_studies_whose_rows_belong_together(monkeypatch):
    """The network double sees the brightness: the label is a study's tenth of it."""
    monkeypatch.setattr(accuracy_fit, "SEVERITIES", (0.5,))
    task = by_name(BUILT_IN[0])
    labels = np.arange(60) % len(task.labels())
    images = np.repeat((20 * labels + 10).astype(np.uint8), 2)[:, None, None, None] * np.ones((1, 2, 32, 32), np.uint8)
    index = {
        "shard": np.zeros(120, int),
        "row": np.arange(120),
        "label": np.repeat(labels, 2),
        "sample": np.repeat([f"s{n}" for n in range(60)], 2),
        "split": np.array(["validation"] * 120),
    }

    def outputs(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        level = batch.reshape(len(batch), -1).mean(axis=1, keepdims=True)
        return -np.abs(level - (20 * np.arange(len(task.labels())) + 10)) / 4, level

    thresholds = task.Thresholds(temperature=1.0, abstain_below=0.0)
    found = accuracy_fit.fitted_accuracy(task, thresholds, Shards(index, (images,)), outputs)
    assert (found.studies, found.accuracy, found.kinds) == (60, 1.0, tuple(KINDS))
    assert found.model_validate_json(found.model_dump_json()) == found
    index["split"][:] = "train"
    assert accuracy_fit.fitted_accuracy(task, thresholds, Shards(index, (images,)), outputs) is None


def test_the_monitor_estimates_from_a_full_window_and_after_a_restart(tmp_path, fitted):
    reference = make_reference()
    fitted = fitted.model_copy(update={"low": (0,) * 5, "high": (9,) * 5})
    watched = Monitors(
        tmp_path / "state",
        str(tmp_path / "log"),
        lambda _: replace(reference, accuracy_model=fitted),
    )
    probabilities, correct, _ = answers(0.5, count=WINDOW, seed=8)
    pairs = zip(make_rows(WINDOW), probabilities.round(5), strict=True)
    rows = [row.model_copy(update={"probabilities": tuple(values)}) for row, values in pairs]
    append(tmp_path / "log", rows[:-1])
    watched.step()
    (model,) = watched.current()
    assert model.estimate is None
    assert "once 1,000 studies" in _accuracy(model)["sentence"]
    append(tmp_path / "log", rows[-1:])
    watched.step()
    assert model.estimate.accuracy == pytest.approx(correct.mean(), abs=0.04)
    values = accuracy_values([model])
    assert values["echoplane_accuracy_known"][0][1] == 1
    assert values["echoplane_accuracy_estimate_ratio"][0][1] == model.estimate.accuracy
    again = ModelMonitor.stored(BUNDLE, model.about())
    again.reference = model.reference
    assert again.estimate == model.estimate
    old = {name: value for name, value in json.loads(model.about()).items() if name != "answers"}
    assert ModelMonitor.stored(BUNDLE, json.dumps(old)).answers.stored() == []
    model.reference = type(reference)(
        **vars(reference) | {"accuracy_model": fitted.model_copy(update={"high": (0,) * 5})}
    )
    assert "can't be known" in _accuracy(model)["sentence"]
    assert accuracy_values([model])["echoplane_accuracy_estimate_ratio"] == []
