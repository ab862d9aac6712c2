"""The bundle under models/ works out of the box, on a synthetic heart and on a real one."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import sunnybrook
from benchmarks.cmr_scores import score
from echoplane import runtimes
from echoplane.phantom.cine import scan_mr
from echoplane.phantom.mr_patient import make_mr_patient
from echoplane.runtimes import InferenceSettings, OpenModel
from echoplane.stages.measure import SHIPPED
from echoplane.study.study import Study
from echoplane.tasks import cmr_segmentation as task
from echoplane.tasks.cmr_segmentation.inference import condense
from echoplane.tasks.cmr_segmentation.overlap import dice

MAX_BYTES = 10_000_000


@pytest.fixture(scope="module")
def model() -> OpenModel:
    return runtimes.open(SHIPPED, InferenceSettings(precision="f32"))


def test_it_is_compact() -> None:
    assert sum(path.stat().st_size for path in Path(SHIPPED).iterdir()) < MAX_BYTES


def test_its_card_says_what_it_is_for_and_from() -> None:
    card = (SHIPPED / "card.md").read_text()
    assert "not a medical device" in card
    assert "Sunnybrook" in card
    assert "## Limits" in card


@pytest.mark.parametrize("seed", [6001, 6002])
def test_an_unseen_synthetic_heart_is_found(model: OpenModel, seed: int) -> None:
    patient = make_mr_patient(seed)
    stack = scan_mr(patient, np.array([0.0, patient.heart.systole_share]))[0]
    found = runtimes.answer(Study((), (stack.cine,)), model).result
    assert dice(found.masks["short-axis"] == 1, stack.labels_TZNM == 1) > 0.85
    assert found.measures["lvedv_ml"] == pytest.approx(patient.heart.edv_ml, rel=0.25)


@pytest.mark.parametrize("seed", [6001, 6002])
def test_a_whole_cine_is_answered_as_if_each_phase_had_been_seen_whole(model: OpenModel, seed: int) -> None:
    bundle, runtime = model.bundle, model.runtime
    cine = scan_mr(make_mr_patient(seed), np.arange(8) / 8)[0].cine
    study = Study((), (cine,))
    prepared = task.preprocess(study, bundle.preprocessing)
    outputs = runtime.run(prepared.batch)
    whole = task.interpret(condense(outputs.output, prepared.place["planes"]), study, prepared.place, bundle.thresholds)
    answer = runtimes.answer(study, model)
    for k in (1, 2, 3):
        masks = (found.masks["short-axis"] == k for found in (answer.result, whole))
        assert all(dice(one, other) > 0.98 for one, other in zip(*masks, strict=True))
    assert answer.result.measures["lvef_percent"] == pytest.approx(whole.measures["lvef_percent"], abs=0.5)
    first, mirrored = cine.slices, prepared.place["mirrored"]
    seen_whole = np.concatenate([outputs.embedding[:first], outputs.embedding[-mirrored:]])
    assert np.allclose(answer.embedding, seen_whole.mean(axis=0), atol=1e-3)


def test_a_real_ventricle_is_found(model: OpenModel) -> None:
    if not sunnybrook.ROOT.exists():
        pytest.skip("the Sunnybrook set is not beside the checkout")
    patient = next(p for p in sunnybrook.patients() if p.name == "SC-HF-I-04")
    assert score(patient, model).dice > 0.9
