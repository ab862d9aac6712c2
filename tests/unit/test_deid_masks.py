"""The classifier that sees only the blackened pixels: it finds a view that they tell, and nothing in noise."""

import numpy as np
import pytest

from benchmarks import deid_masks
from benchmarks.deid_masks import accuracy, exchanged
from echoplane.phantom.patient import VIEW_NAMES

PATIENTS = np.repeat(np.arange(12), len(VIEW_NAMES))
VIEWS = np.tile(np.arange(len(VIEW_NAMES)), 12)


def test_masks_that_tell_the_view_are_far_above_exchanged_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deid_masks, "EXCHANGES", 50)
    rng = np.random.default_rng(1)
    telling_ND = 10 * np.eye(len(VIEW_NAMES))[VIEWS] + rng.normal(size=(len(VIEWS), len(VIEW_NAMES)))
    assert accuracy(telling_ND, VIEWS, PATIENTS) > 0.9
    assert exchanged(telling_ND, VIEWS, PATIENTS).max() < 0.3


def test_masks_that_tell_only_the_patient_are_at_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deid_masks, "EXCHANGES", 200)
    rng = np.random.default_rng(2)
    of_patient_ND = rng.normal(size=(12, 40))[PATIENTS] + 0.1 * rng.normal(size=(len(VIEWS), 40))
    found, chance = accuracy(of_patient_ND, VIEWS, PATIENTS), exchanged(of_patient_ND, VIEWS, PATIENTS)
    assert found <= np.quantile(chance, 0.99)
