"""The stand-in for other hospitals: degraded patients keep their truth, and what is lost is compared by patient."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks import cmr_results, cmr_training, cmr_travel, degraded, results, sunnybrook
from benchmarks.cmr_bundle import real_lines_of, sealed
from benchmarks.cmr_scores import Row
from benchmarks.sunnybrook import STRATA, Patient
from echoplane import runtimes
from echoplane.bundle import read
from echoplane.bundle.spec import WEIGHTS
from echoplane.dataset.segmentations import Slice, write_slices
from echoplane.runtimes import InferenceSettings
from echoplane.stages.measure import SHIPPED
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import learning
from echoplane.tasks.cmr_segmentation.structures import unknown_of
from echoplane.training.checkpoint import State, read_state
from tests.rings import LV, rings


def patient(size: int = 200) -> Patient:
    labels, cine = rings([[26, 24, 20], [20, 18, 14]], size=size, covers_beat=False)
    moved = {"voxels_TZHW": np.roll(cine.voxels_TZHW, (8, -13), (2, 3))}
    truth_TZHW = np.roll(labels == LV, (8, -13), (2, 3))
    return Patient("ring", replace(cine, **moved), truth_TZHW, truth_TZHW.any(axis=(2, 3)))


@pytest.mark.parametrize("name", degraded.DEGRADATIONS)
def test_a_degraded_patient_keeps_its_truth_on_the_blood(name: str) -> None:
    given, before = patient(), patient().cine.voxels_TZHW
    seen, again = (degraded.DEGRADATIONS[name](given) for _ in range(2))
    voxels_TZHW = seen.cine.voxels_TZHW
    assert np.array_equal(voxels_TZHW, again.cine.voxels_TZHW)
    assert np.array_equal(given.cine.voxels_TZHW, before)
    assert voxels_TZHW.shape == seen.truth_TZHW.shape
    assert np.median(voxels_TZHW[seen.truth_TZHW]) > np.percentile(voxels_TZHW[~seen.truth_TZHW], 90)
    plain = degraded.around(given)
    assert voxels_TZHW.shape != plain.cine.voxels_TZHW.shape or not np.array_equal(
        degraded.regreyed(degraded.gamma(1.0), given).cine.voxels_TZHW, voxels_TZHW
    )
    size = seen.truth_TZHW.sum() * (4 if seen.cine.spacing_mm else 1)
    assert size == pytest.approx(plain.truth_TZHW.sum(), rel=0.03)


def test_the_window_lies_around_the_cavity_even_at_the_pictures_edge() -> None:
    given = patient()
    far = {"truth_TZHW": np.roll(given.truth_TZHW, 70, 3)}
    cut = degraded.around(replace(given, **far))
    assert cut.truth_TZHW.sum() == given.truth_TZHW.sum()
    assert degraded.middle_of(cut) == pytest.approx((80, 80), abs=1)


def test_half_the_contrast_is_half_the_difference() -> None:
    given = degraded.regreyed(degraded.gamma(1.0), patient())
    pale = degraded.regreyed(degraded.pale, patient())
    differences = []
    for seen in (given, pale):
        grey, truth = seen.cine.voxels_TZHW, seen.truth_TZHW
        differences.append(float(np.median(grey[truth])) - float(grey[~truth].min()))
    assert differences[1] == pytest.approx(differences[0] / 2, rel=0.05)


def row(name: str, dice: float) -> Row:
    return Row(name, dice, dice, 1.0, 2.0, 60.0, 63.0, 0.9, ())


def test_what_is_lost_is_the_mean_of_each_patients_own_difference() -> None:
    lost = cmr_travel.loss([0.9, 0.5, 0.7], [0.8, 0.4, 0.6])
    assert (lost.mean, lost.low, lost.high) == pytest.approx((0.1, 0.1, 0.1))
    uneven = cmr_travel.loss([0.9, 0.9], [0.9, 0.5])
    assert (uneven.mean, uneven.low, uneven.high) == pytest.approx((0.2, 0.0, 0.4))


def test_the_page_says_whether_the_model_had_seen_the_patients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MEASURED", tmp_path)
    real = {cmr_travel.AS_THEY_ARE: [row("a", 0.9), row("b", 0.8)], "gamma 2": [row("a", 0.8), row("b", 0.7)]}
    one = {f"dice/{k}/{phase}": 0.9 for k in cmr_travel.STRUCTURES for phase in ("ed", "es")}
    other = next(name for name, each in cmr_travel.SYNTHETIC.items() if each.reference == cmr_travel.SEEN)
    synthetic = {cmr_travel.SEEN: [one], other: [{name: value - 0.1 for name, value in one.items()}]}
    texts = []
    for fold in (None, 2):
        cmr_travel.record(real, synthetic, fold)
        found = json.loads((tmp_path / "cmr-travel.json").read_text())
        texts.append(found["text"])
        values = {figure["figure"]: figure["value"] for figure in found["figures"]}
        assert values["real, gamma 2"] == "0.750, 0.750; 3.0; 0.100 (0.100 to 0.100)"
        assert values[f"synthetic, {other}"].endswith("; 0.100 (0.100 to 0.100)")
    assert "no test figures" in texts[0]
    assert "fold 2, which had left out" in texts[1]


def test_a_fold_is_measured_on_the_patients_that_it_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"SC-N-{k:02}" for k in range(1, 31)]
    everyone = [replace(patient(64), name=name) for name in names]
    monkeypatch.setattr(sunnybrook, "patients", lambda: everyone)
    for fold, left_out in enumerate(sunnybrook.folds(names)):
        found = {each.name for each in cmr_travel.chosen(fold, 30)}
        assert found == left_out - sunnybrook.MISDRAWN
    assert 5 <= len(cmr_travel.chosen(None, 8)) <= 8


def test_the_shipped_model_scores_each_patient_as_it_is_and_degraded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = runtimes.open(SHIPPED, InferenceSettings(precision="f32", threads=1))
    kept = {name: degraded.DEGRADATIONS[name] for name in ("noise 0.15", "pixels of 2.5 mm")}
    monkeypatch.setattr(cmr_travel, "DEGRADATIONS", kept)
    found = cmr_travel.travel(model, [patient()])
    assert list(found) == [cmr_travel.AS_THEY_ARE, *kept]
    assert all(row.patient == "ring" for rows in found.values() for row in rows)
    assert found[cmr_travel.AS_THEY_ARE][0].dice == pytest.approx(_by_hand(model), abs=1e-9)


def _by_hand(model: runtimes.OpenModel) -> float:
    """The Dice of the cavity at both phases, counted here."""
    cut = degraded.around(patient())
    found_TZHW = runtimes.answer(Study((), (cut.cine,)), model).result.masks["short-axis"] == LV
    both = [
        2 * (found_TZHW[t] & cut.truth_TZHW[t]).sum() / (found_TZHW[t].sum() + cut.truth_TZHW[t].sum()) for t in (0, 1)
    ]
    return float(np.mean(both))


NARROW = learning.Network(width=8)
CARD_BEFORE = """# cmr-segmentation

## Figures

30 real patients, all of them, each answered by a model of this recipe that had not seen it:
Dice of the LV cavity 0.933 at end diastole, 0.895 at end systole.

100 unseen synthetic patients, field seen in training: Dice lv 0.965.
"""


@pytest.fixture(scope="module")
def varied() -> list[Slice]:
    return cmr_training.adapting_slices(20_000)


def test_slices_of_any_size_are_framed_around_the_heart(varied: list[Slice]) -> None:
    assert {each.sample.shape for each in varied} == {(2, cmr_training.SIDE, cmr_training.SIDE)}
    assert {each.stratum for each in varied} == {STRATA + 3, STRATA + 4, STRATA + 5}
    assert {each.patient for each in varied} == {"phantom-20000"}
    for each in varied:
        drawn = np.argwhere(learning.DRAWN[each.sample[1]] > 0)
        if len(drawn):
            np.testing.assert_allclose(drawn.mean(axis=0), cmr_training.SIDE / 2, atol=12)


def test_beyond_the_edge_a_framed_slice_is_black_and_unknown(varied: list[Slice]) -> None:
    image_HW, target_HW = varied[0].sample[:, 90:130, 80:150]
    image, target = cmr_training.framed(image_HW + 1, target_HW)
    outside = image == 0
    assert outside.sum() == cmr_training.SIDE**2 - image_HW.size
    assert (target[outside] == unknown_of(target_HW)).all()


def test_a_bundle_is_adapted_and_says_what_was_not_measured(
    tmp_path: Path, varied: list[Slice], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    state = State(weights=learning.network(NARROW).state_dict())
    before = sealed(state, NARROW, tmp_path / "before", card=CARD_BEFORE, data_digest="0" * 64, abstain_below=0.75)
    monkeypatch.setattr(cmr_training, "WORK", tmp_path)
    for name, stratum in (("varied", None), ("sunnybrook", 0)):
        write_slices([each if stratum is None else _in(stratum, each) for each in varied], tmp_path / name)
    monkeypatch.setattr(cmr_training, "ADAPT", cmr_training.ADAPT.model_copy(update={"steps": 2, "epoch_steps": 2}))
    monkeypatch.setattr(cmr_training, "COUNTED_BATCHES", 2)
    monkeypatch.setattr(cmr_results, "_phantoms", lambda *_: {})
    after = read(cmr_training.adapt_bundle(before, NARROW, threads=1))
    assert after.id != read(before).id
    assert after.thresholds.model_dump()["abstain_below"] == 0.75
    shipped, trained = load_file(tmp_path / "candidate" / WEIGHTS), read_state(tmp_path / "adapt-unet").weights
    for name, tensor in ((name, each) for name, each in state.weights.items() if each.ndim > 1):
        assert not torch.equal(trained[name], tensor)
        torch.testing.assert_close(shipped[name].float(), (tensor.half() + trained[name]) / 2, rtol=1e-3, atol=1e-4)
    card = (tmp_path / "candidate" / "card.md").read_text()
    assert f"those of bundle {read(before).id[:12]}" in card
    assert "no real patient was left that the model had not seen" in card
    assert "30 real patients, all of them" in card
    assert "Dice lv 0.965" not in card


def test_a_card_without_figures_of_real_patients_is_refused(tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("# cmr-segmentation\n")
    with pytest.raises(ValueError, match="no figures of real patients"):
        real_lines_of(tmp_path)


def _in(stratum: int, each: Slice) -> Slice:
    return Slice(each.sample, stratum, f"{stratum}-{each.name}", f"{stratum}-{each.patient}", each.source)
