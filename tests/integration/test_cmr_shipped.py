"""The bundle under models/ works out of the box, on a synthetic heart and on a real one."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import sunnybrook
from benchmarks.cmr_scores import score
from echoplane import runtimes
from echoplane.bundle import Bundle, read
from echoplane.phantom.cine import scan_mr
from echoplane.phantom.mr import make_mr_patient
from echoplane.runtimes import Runtime
from echoplane.stages.measure import SHIPPED
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation.overlap import dice

MOST_BYTES = 10_000_000


@pytest.fixture(scope="module")
def model() -> tuple[Bundle, Runtime]:
    bundle = read(SHIPPED)
    return bundle, runtimes.load(bundle, precision="f32")


def test_it_is_compact_and_answers_its_golden_input(model: tuple[Bundle, Runtime]) -> None:
    assert sum(path.stat().st_size for path in Path(SHIPPED).iterdir()) < MOST_BYTES
    runtimes.check_golden(*model)


def test_its_card_says_what_it_is_for_and_from() -> None:
    card = (SHIPPED / "card.md").read_text()
    assert "not a medical device" in card
    assert "Sunnybrook" in card
    assert "## Limits" in card


@pytest.mark.parametrize("seed", [6001, 6002])
def test_an_unseen_synthetic_heart_is_found(model: tuple[Bundle, Runtime], seed: int) -> None:
    patient = make_mr_patient(seed)
    stack = scan_mr(patient, np.array([0.0, patient.heart.systole_share]))[0]
    found = runtimes.answer(Study((), (stack.cine,)), *model).result
    assert dice(found.masks["short-axis"] == 1, stack.labels_TZNM == 1) > 0.85
    assert found.measures["lvedv_ml"] == pytest.approx(patient.heart.edv_ml, rel=0.25)


def test_a_real_ventricle_is_found(model: tuple[Bundle, Runtime]) -> None:
    if not sunnybrook.ROOT.exists():
        pytest.skip("the Sunnybrook set is not beside the checkout")
    patient = next(p for p in sunnybrook.patients() if p.name == "SC-HF-I-04")
    assert score(patient, *model).dice > 0.9
