"""Readers' masks on the platform's path: catalogue, training samples, thresholds, scores, and the figures of many."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from echoplane.errors import ConfigError, StageError, UnusableStudy
from echoplane.evaluation.intervals import bootstrap
from echoplane.files import digest_of
from echoplane.stages import dataset, phantom
from echoplane.stages.outputs import Studies
from echoplane.stages.stage import Manifest, file_digests
from echoplane.study.masks import UNDRAWN, Masks, read_masks
from echoplane.study.nifti import write_nifti
from echoplane.study.reading import read_study_at
from echoplane.study.study import Study
from echoplane.tasks import Result, Samples
from echoplane.tasks import cmr_segmentation as task
from echoplane.tasks.cmr_segmentation import measures
from echoplane.tasks.cmr_segmentation.calibrating import abstention
from echoplane.tasks.cmr_segmentation.figures import Segmentation
from echoplane.tasks.cmr_segmentation.measures import HEADERS
from echoplane.tasks.cmr_segmentation.overlap import dice
from echoplane.tasks.cmr_segmentation.quality import Flag
from echoplane.tasks.cmr_segmentation.structures import CLASSES, LV_CAVITY, MYOCARDIUM, target_of
from tests.tiny_masks import heart, write_studies

ED, ES = 0, 3


def samples_of(masks: Masks) -> Samples:
    cine, _ = heart()
    study = Study((), (cine,))
    return task.samples(study, task.preprocess(study, task.Preprocessing()), masks)


def answer(labels_TZHW: np.ndarray, *flags: Flag) -> Segmentation:
    """An answer whose masks are these, with the measures that follow from them."""
    cine, _ = heart()
    found = measures.ventricles(labels_TZHW, cine, ED, ES)
    return Segmentation(
        label=None if flags else "measured",
        confidence=0.9,
        measures={name: found.get(name) for name in HEADERS},
        masks={"short-axis": labels_TZHW},
        ed=ED,
        es=ES,
        flags=flags,
    )


def row_of(labels_TZHW: np.ndarray, masks: Masks, *flags: Flag) -> dict:
    cine, _ = heart()
    return task.score(answer(labels_TZHW, *flags), Study((), (cine,)), masks)


def test_samples_are_the_slices_at_both_ends_of_systole_with_their_masks() -> None:
    cine, labels = heart()
    found = samples_of(Masks({"short-axis": labels}))
    assert found.samples.shape == (2 * cine.slices, 2, 80, 80)
    drawn = [sample[1] for sample in found.samples]
    sizes = [int((target & 0b111111 == 1 << LV_CAVITY).sum()) for target in drawn]
    assert sum(sizes[: cine.slices]) == (labels[ED] == LV_CAVITY).sum()
    assert sum(sizes[cine.slices :]) == (labels[ES] == LV_CAVITY).sum()
    assert found.labels == (0,) * 2 * cine.slices


def test_what_nobody_drew_may_be_anything_and_an_undrawn_slice_is_no_sample() -> None:
    cine, labels = heart()
    cavity = np.where(labels == LV_CAVITY, LV_CAVITY, 0).astype(np.uint8)
    cavity[ES, 2] = UNDRAWN
    found = samples_of(Masks({"short-axis": cavity}, drawn=("lv-cavity",)))
    assert len(found.samples) == 2 * cine.slices - 1
    rest = found.samples[0, 1][4, 4] & 0b111111
    assert rest & 1 << MYOCARDIUM
    assert not rest & 1 << LV_CAVITY


def test_a_pixel_that_nobody_looked_at_may_be_anything() -> None:
    _, labels = heart()
    part = labels.copy()
    part[ED, 0, :5] = UNDRAWN
    whole, partly = (samples_of(Masks({"short-axis": drawn})).samples[0, 1] & 0b111111 for drawn in (labels, part))
    beyond = 80 * 80 - labels[ED, 0].size  # what the batch is padded with is not known either
    assert (whole == 0b1111).sum() == beyond
    assert (partly == 0b1111).sum() == beyond + part[ED, 0, :5].size


def test_a_mask_of_another_grid_or_with_a_strange_value_says_so(tmp_path: Path) -> None:
    folder = write_studies(tmp_path, 1) / "studies" / "s00"
    study = read_study_at(folder)
    assert np.array_equal(read_masks(folder, study).labels["short-axis"], heart()[1])
    cine, labels = heart()
    (folder / "sa_mask.nii.gz").write_bytes(write_nifti(labels[:, :4], cine))
    with pytest.raises(UnusableStudy, match="Draw on the cine itself"):
        read_masks(folder, study)
    strange = labels.copy()
    strange[0, 0, 0, 0] = 9
    with pytest.raises(UnusableStudy, match="values \\[9\\]"):
        samples_of(Masks({"short-axis": strange}))


def test_a_perfect_answer_has_a_dice_of_one_no_distance_and_no_error() -> None:
    _, labels = heart()
    row = row_of(labels, Masks({"short-axis": labels}))
    for structure in ("lv-cavity", "lv-myocardium"):
        for end in ("ed", "es"):
            assert row[f"dice/{structure}/{end}"] == 1
            assert row[f"distance_mm/{structure}/{end}"] == row[f"hausdorff_mm/{structure}/{end}"] == 0
    assert row["error/lvedv_ml"] == row["error/lvef_percent"] == row["error/lvm_g"] == 0
    assert np.isnan(row["dice/left-atrium"])


def test_slices_and_structures_that_nobody_drew_do_not_count() -> None:
    _, labels = heart()
    wrong = labels.copy()
    wrong[ED, 1] = LV_CAVITY
    undrawn = labels.copy()
    undrawn[ED, 1] = UNDRAWN
    seen = row_of(wrong, Masks({"short-axis": labels}))
    unseen = row_of(wrong, Masks({"short-axis": undrawn}, drawn=("lv-cavity",)))
    assert seen["dice/lv-cavity/ed"] == pytest.approx(dice(wrong[ED] == LV_CAVITY, labels[ED] == LV_CAVITY))
    assert seen["dice/lv-cavity/ed"] < 0.9
    assert unseen["dice/lv-cavity/ed"] == 1
    assert np.isnan(unseen["dice/lv-myocardium"])
    assert np.isnan(unseen["error/lvedv_ml"]), "a stack with a slice that nobody drew has no true volume"


def test_figures_are_means_over_studies_and_failures_are_named() -> None:
    _, labels = heart()
    masks = Masks({"short-axis": labels})
    lost = np.where(labels == LV_CAVITY, 0, labels).astype(np.uint8)
    scored = [row_of(labels, masks), row_of(lost, masks, Flag("no-lv", "none was found")), row_of(labels, masks)]
    rows = {name: np.array([row[name] for row in scored]) for name in scored[0]}
    rows |= {name: np.array([f"{name}{k}" for k in range(3)]) for name in ("patient", "sample", "manufacturer")}
    rows["abstained"] = np.array([False, True, False])
    figures, said = task.summary(rows), task.details(rows)
    assert figures["dice/lv-cavity"] == pytest.approx(2 / 3)
    assert figures["flagged"] == pytest.approx(1 / 3)
    error = scored[1]["error/lvedv_ml"]
    assert figures["mae/lvedv_ml"] == pytest.approx(abs(error) / 3)
    assert said["agreement"]["lvedv_ml"]["bias"] == pytest.approx(error / 3)
    assert said["agreement"]["lvedv_ml"]["low"] == pytest.approx(error / 3 - 1.96 * np.std([0, error, 0], ddof=1))
    assert [failure["sample"] for failure in said["failures"]] == ["sample1"]
    assert said["failures"][0]["flags"] == ["no-lv"]
    intervals = bootstrap(rows, task.summary, resamples=100)
    assert intervals["dice/lv-cavity"][0] < 2 / 3 < intervals["dice/lv-cavity"][1]
    assert json.loads(json.dumps(said)) == said


def test_a_measure_that_was_not_found_is_wrong_by_all_of_it() -> None:
    cine, labels = heart()
    nothing = replace(answer(labels), measures=dict.fromkeys(HEADERS))
    row = task.score(nothing, Study((), (cine,)), Masks({"short-axis": labels}))
    assert row["error/lvedv_ml"] == -row["truth/lvedv_ml"] < 0
    assert np.isnan(row["error/rvedv_ml"]) or row["truth/rvedv_ml"] == 0


def test_what_is_no_segmentation_is_not_scored() -> None:
    cine, labels = heart()
    with pytest.raises(TypeError):
        task.score(Result("a", 1.0, {}), Study((), (cine,)), Masks({"short-axis": labels}))


def test_calibration_finds_the_dice_of_the_cavity_study_by_study() -> None:
    _, labels = heart()
    targets = np.stack([target_of(labels_HW, "short-axis") for labels_HW in labels[ED]])
    right = 9.0 * (labels[ED][:, None] == np.arange(CLASSES)[None, :, None, None])
    names = np.array(["a"] * len(targets))
    wrong = right[:, [0, 2, 1, 3, 4, 5]]  # cavity and myocardium taken for each other
    found = task.calibrate([(right, targets, names), (wrong, targets, np.array(["b"] * len(targets)))])
    assert found.figures["studies"] == 2
    assert found.figures["dice"] == pytest.approx(0.5)
    assert found.thresholds.model_fields_set == {"abstain_below"}
    assert "2 validation studies" in found.sentence


def test_the_threshold_is_lowered_where_too_many_good_answers_lie_under_it() -> None:
    dice_N = np.array([0.95] * 20 + [0.5] * 5)
    assert abstention(np.r_[np.full(20, 0.97), np.full(5, 0.6)], dice_N) == 0.85
    unsure = np.r_[np.linspace(0.5, 0.98, 20), np.full(5, 0.3)]
    below = abstention(unsure, dice_N)
    assert below < 0.85
    assert (unsure[:20] < below).mean() <= 0.10


def test_a_data_set_of_folders_is_catalogued_split_and_sharded_like_any_other(tmp_path: Path) -> None:
    studies = write_studies(tmp_path / "in", 6)
    (studies / "studies" / "s05" / "sa_mask.nii.gz").unlink()
    manifest = studies / "manifest.json"
    output = Studies(unit="folder", count=6, identity="unknown")
    Manifest(stage="phantom", key="0", digest="0", folder=str(studies), counts={}, output=output, duration_s=0).write(
        manifest
    )
    split = {"validation": 0.2, "test": 0.4}
    given = {"root": str(tmp_path / "run"), "studies": str(manifest), "task": task.NAME, "split": split, "workers": 1}
    with pytest.raises(ConfigError, match="without a de-identification report"):
        dataset.run(dataset.Config(**given))
    made = dataset.run(dataset.Config(**given, public="rings of this test"))
    rows = pq.read_table(made.path / "catalogue.parquet").to_pylist()
    assert [row["patient"] for row in rows] == [f"P{k:02d}" for k in range(5)]
    assert {row["mask_uri"] for row in rows} == {f"studies/s{k:02d}/sa_mask.nii.gz" for k in range(5)}
    assert {(row["label"], row["deid"], row["manufacturer"], row["frames"]) for row in rows} == {
        (None, "public: rings of this test", "Rings", 6)
    }
    assert made.counts["left_out"] == {"no mask": 1}
    index = pq.read_table(made.path / "index.parquet").to_pylist()
    assert {row["patient"] for row in index} == {r["patient"] for r in rows if r["split"] != "test"}
    assert len(index) == 3 * 10


def test_synthetic_studies_need_no_report_as_long_as_nobody_added_to_them(tmp_path: Path) -> None:
    studies = write_studies(tmp_path / "in", 3)
    made = Manifest(
        stage="phantom",
        key="0",
        digest=digest_of(file_digests(studies)),
        folder=str(studies),
        counts={},
        output=Studies(unit="folder", count=3, identity="none"),
        duration_s=0,
    )
    made.write(studies / "manifest.json")
    given = {"studies": str(studies / "manifest.json"), "task": task.NAME, "workers": 1}
    found = dataset.run(dataset.Config(root=str(tmp_path / "a"), **given))
    rows = pq.read_table(found.path / "catalogue.parquet").to_pylist()
    assert {row["deid"] for row in rows} == {f"public: {dataset.SYNTHETIC}"}
    shutil.copytree(studies / "studies" / "s00", studies / "studies" / "DOE_JANE")
    with pytest.raises(StageError, match="changed since `phantom` made it"):
        dataset.run(dataset.Config(root=str(tmp_path / "b"), **given))


def test_ones_own_studies_are_copied_and_need_somebody_who_published_them(tmp_path: Path) -> None:
    own = write_studies(tmp_path / "own", 3) / "studies"
    given = {"root": str(tmp_path / "run"), "kind": "cmr", "source": str(own)}
    made = phantom.run(phantom.Config(**given))
    assert made.counts == {"patients": 0, "cines": 0, "studies": 3}
    assert phantom.run(phantom.Config(**given)) == made
    studies = {"root": str(tmp_path / "run"), "studies": f"{made.folder}/manifest.json", "task": task.NAME}
    with pytest.raises(ConfigError, match="who published them"):
        dataset.run(dataset.Config(**studies))
    (own / "s00" / "sa_mask.nii.gz").unlink()
    assert phantom.run(phantom.Config(**given)).digest != made.digest
