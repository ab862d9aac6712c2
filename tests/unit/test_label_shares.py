"""Shares of the labels that a site declares: validated, applied to label and abstention alike, and said."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from echoplane import runtimes
from echoplane.errors import ConfigError
from echoplane.settings import ServingSettings, read_serving_settings
from echoplane.tasks import cmr_segmentation, view_image, view_video
from echoplane.tasks.classify import Thresholds, with_declared
from echoplane.tasks.label_shares import APPLIED, read_shares
from serving.service import check_label_shares

A2C, A4C = view_image.names().index("a2c"), view_image.names().index("a4c")
THRESHOLDS = Thresholds(temperature=1.0, abstain_below=0.6)


def shares_for(task, **stated: float) -> dict[str, float]:
    """The stated shares; the rest is spread over the other labels."""
    others = [name for name in task.names() if name not in stated]
    return {name: stated.get(name, (1 - sum(stated.values())) / len(others)) for name in task.names()}


def logits_for(task) -> np.ndarray:
    """One row that favours A2C over A4C by a factor of 2, and both over the rest."""
    logits = np.full((1, len(task.names())), -8.0)
    logits[0, A4C], logits[0, A2C] = 0.0, np.log(2)
    return logits


def answer(task, shares=None, place=None):
    return task.interpret(logits_for(task), None, place or {}, with_declared(THRESHOLDS, shares))


@pytest.mark.parametrize("task", [view_image, view_video])
def test_a_site_with_many_a4c_gets_the_probabilities_of_its_own_mixture(task) -> None:
    even, declared = answer(task), answer(task, shares_for(task, a4c=0.6, a2c=0.1))
    assert (even.label, declared.label) == ("a2c", "a4c")
    ratio = declared.probabilities["a4c"] / declared.probabilities["a2c"]
    assert ratio == pytest.approx(0.5 * 0.6 / 0.1)
    assert sum(declared.probabilities.values()) == pytest.approx(1)


def test_shares_that_no_reader_has_checked_are_checked_where_they_are_declared() -> None:
    with pytest.raises(ValidationError, match="the shares sum to 2"):
        with_declared(THRESHOLDS, dict.fromkeys(view_image.names(), 2 / 15))


def test_uneven_shares_of_training_are_taken_out_again() -> None:
    """Declaring the shares of training changes nothing; declaring even ones undoes them."""
    uneven = shares_for(view_image, a4c=0.3)
    even = dict.fromkeys(view_image.names(), 1 / 15)
    thresholds = THRESHOLDS.model_copy(update={"trained_shares": uneven})

    def ratio(shares: dict[str, float] | None) -> float:
        declared = with_declared(thresholds, shares)
        found = view_image.interpret(logits_for(view_image), None, {}, declared).probabilities
        return found["a4c"] / found["a2c"]

    assert ratio(uneven) == pytest.approx(ratio(None)) == pytest.approx(0.5)
    assert ratio(even) == pytest.approx(0.5 * uneven["a2c"] / 0.3)


def test_abstention_follows_the_declared_shares_too() -> None:
    assert answer(view_image).label == "a2c"
    unsure = answer(view_image, shares_for(view_image, a4c=0.4, a2c=0.25))
    assert unsure.label is None
    assert unsure.confidence < THRESHOLDS.abstain_below


def test_the_answer_says_that_shares_were_applied_and_which() -> None:
    shares = shares_for(view_image, a4c=0.6)
    even, declared = answer(view_image), answer(view_image, shares)
    assert (even.details(), even.warnings) == ({}, ())
    assert declared.details() == {"label_shares": shares}
    assert declared.warnings == (APPLIED,)


def test_a_view_stated_in_the_header_does_not_depend_on_shares() -> None:
    result = answer(view_image, shares_for(view_image, a4c=0.9), {"stated": "m-mode"})
    assert (result.label, result.confidence, result.details()) == ("m-mode", 1.0, {})
    assert APPLIED not in result.warnings


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a4c": 0.5, "a2c": 0.3}', "sum to 0.8"),
        ('{"a4c": 1.2, "a2c": -0.2}', "less than or equal to 1"),
        ('{"a4c": 1, "a2c": 0}', "greater than 0"),
        ('{"a4c": NaN}', "expected JSON"),
        ("0.5", "expected JSON"),
        ("a4c=1", "expected JSON"),
    ],
)
def test_shares_that_are_none_are_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read_shares(text)


def test_shares_may_miss_a_sum_of_one_by_rounding() -> None:
    assert read_shares('{"a4c": 0.333, "a2c": 0.333, "plax": 0.333}')["plax"] == 0.333


def model_of(task) -> runtimes.OpenModel:
    """A model of the task; only what the shares are checked against."""
    thresholds = THRESHOLDS if task is not cmr_segmentation else task.Thresholds(abstain_below=0.5)
    spec = SimpleNamespace(labels=task.labels(), task=task.NAME)
    return runtimes.OpenModel(SimpleNamespace(spec=spec, thresholds=thresholds), runtime=None)  # type: ignore[arg-type]


def test_shares_of_unknown_or_missing_labels_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="a6c is no label of the task"):
        runtimes.declared(model_of(view_image), shares_for(view_image) | {"a6c": 0.001})
    with pytest.raises(ConfigError, match="none for m-mode"):
        runtimes.declared(model_of(view_image), {k: v for k, v in shares_for(view_image).items() if k != "m-mode"})


def test_a_task_without_probabilities_takes_no_shares() -> None:
    names = [label.name for label in cmr_segmentation.labels()]
    with pytest.raises(ConfigError, match="declare none"):
        runtimes.declared(model_of(cmr_segmentation), {name: 1 / len(names) for name in names})


def test_shares_are_never_written_to_a_bundle() -> None:
    declared = with_declared(THRESHOLDS, shares_for(view_image, a4c=0.5))
    assert declared.label_shares is not None  # type: ignore[attr-defined]
    assert "label_shares" not in declared.model_dump()


def test_the_service_reads_shares_by_task_and_refuses_wrong_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {view_image.NAME: shares_for(view_image, a4c=0.3)}
    monkeypatch.setenv("ECHOPLANE_LABEL_SHARES", json.dumps(shares))
    settings = read_serving_settings()
    assert settings.label_shares == shares
    check_label_shares(settings, [view_image.NAME])
    with pytest.raises(ConfigError, match="echo-view-video alone"):
        check_label_shares(settings, [view_video.NAME])
    monkeypatch.setenv("ECHOPLANE_LABEL_SHARES", json.dumps({view_image.NAME: {"a4c": 0.4}}))
    with pytest.raises(ConfigError, match="label_shares"):
        read_serving_settings()
    assert ServingSettings.model_fields["label_shares"].default == {}
