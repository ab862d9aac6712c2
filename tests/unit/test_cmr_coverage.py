"""Slices that are missing or there twice, and where the ventricle ends: volumes stay right, or are flagged."""

from dataclasses import replace

import numpy as np
import pytest

from echoplane.phantom.cine import scan_mr
from echoplane.phantom.mr_patient import make_mr_patient
from echoplane.study.cine import Cine
from echoplane.study.study import Study
from echoplane.tasks import cmr_segmentation as task
from echoplane.tasks.cmr_segmentation.answers import clean_masks
from echoplane.tasks.cmr_segmentation.base_plane import valve_slices, ventricle_without_atrium
from tests.rings import LA, LV, MYO, rings
from tests.unit.test_cmr_task import names

FIGURES = ("lvedv_ml", "lvesv_ml", "lvm_g", "rvedv_ml", "rvesv_ml")


def measured(labels_TZHW: np.ndarray, cine: Cine, *others: tuple[np.ndarray, Cine]) -> task.Segmentation:
    """What the task makes of these labels of a network."""
    raw = {cine.plane: labels_TZHW} | {plane.plane: labels for labels, plane in others}
    study = Study((), (cine, *(plane for _, plane in others)))
    masks, warnings = clean_masks(raw, study)
    return task.from_masks(masks, study, expected_dice=1.0, warnings=warnings)


def without(cine: Cine, labels_TZHW: np.ndarray, z: int) -> tuple[np.ndarray, Cine]:
    """The stack as a reader gives it if the files of slice `z` are lost; at an end it is shorter."""
    if z in (0, cine.slices - 1):
        kept = [k for k in range(cine.slices) if k != z]
        voxels_TZHW = cine.voxels_TZHW[:, kept]
        affine = None if cine.affine is None else cine.affine.copy()
        if affine is not None and z == 0:
            affine[:3, 3] += affine[:3, 2]
        shorter = replace(cine, voxels_TZHW=voxels_TZHW, present_TZ=cine.present_TZ[:, kept], affine=affine)
        return labels_TZHW[:, kept], shorter
    present_TZ = cine.present_TZ.copy()
    present_TZ[:, z] = False
    return labels_TZHW, replace(cine, present_TZ=present_TZ)


@pytest.mark.parametrize("seed", range(5300, 5312))
def test_m1_a_lost_slice_changes_no_volume_by_more_than_five_percent_or_is_flagged(seed: int) -> None:
    patient = make_mr_patient(seed)
    scan, *others = scan_mr(patient, np.array([0.0, patient.heart.systole_share]))
    planes = [(plane.labels_TZNM, plane.cine) for plane in others]
    whole = measured(scan.labels_TZNM, scan.cine, *planes)
    for z in range(scan.cine.slices):
        found = measured(*without(scan.cine, scan.labels_TZNM, z), *planes)
        lost = max(abs(found.measures[name] / whole.measures[name] - 1) for name in ("lvedv_ml", "lvesv_ml"))
        assert lost < 0.05 or {"missing-slices", "base-cut", "apex-cut"} & names(found.flags), f"slice {z}: {lost:.2f}"


def test_m1_both_halves_of_a_heart_with_a_gap_are_kept() -> None:
    labels, cine = rings([[20, 20, 19, 18, 16, 14, 10], [15, 15, 14, 13, 11, 9, 6]], slice_spacing_mm=10.0,
                         spacing_mm=(1.5, 1.5), covers_beat=False)  # fmt: skip
    whole = measured(labels, cine)
    found = measured(*without(cine, labels, 3))
    for z in (0, 1, 2, 4, 5, 6):
        assert np.array_equal(found.masks["short-axis"][:, z], whole.masks["short-axis"][:, z])
    assert found.measures["lvedv_ml"] == pytest.approx(whole.measures["lvedv_ml"], rel=0.01)
    assert "gap" not in names(found.flags)


def test_m1_a_picture_lost_in_one_phase_is_interpolated_over_time() -> None:
    radii = [[round(r * (0.85 + 0.15 * np.cos(2 * np.pi * t / 20))) for r in (20, 19, 17, 13)] for t in range(20)]
    labels, cine = rings(radii, spacing_mm=(1.5, 1.5), slice_spacing_mm=10.0, frame_time_ms=42.0)
    whole = measured(labels, cine)
    for t, z in [(0, 0), (0, 2), (9, 1), (10, 0), (10, 2), (11, 3), (19, 1)]:
        present_TZ = cine.present_TZ.copy()
        present_TZ[t, z] = False
        found = measured(labels, replace(cine, present_TZ=present_TZ))
        for name in ("lvedv_ml", "lvesv_ml", "lvm_g"):
            assert found.measures[name] == pytest.approx(whole.measures[name], rel=0.05)


def test_m1_two_neighbouring_slices_that_are_missing_are_flagged() -> None:
    labels, cine = rings([[20] * 7, [15] * 7], spacing_mm=(1.5, 1.5), slice_spacing_mm=10.0, covers_beat=False)
    labels, cine = without(cine, labels, 3)
    present_TZ = cine.present_TZ.copy()
    present_TZ[:, 4] = False
    assert "missing-slices" in names(measured(labels, replace(cine, present_TZ=present_TZ)).flags)


def test_m1_a_slice_that_is_there_twice_is_flagged() -> None:
    labels, cine = rings([[20, 18, 14, 8], [15, 13, 10, 5]], spacing_mm=(1.5, 1.5), slice_spacing_mm=10.0)
    rng = np.random.default_rng(0)
    cine = replace(cine, voxels_TZHW=cine.voxels_TZHW + rng.integers(0, 9, cine.voxels_TZHW.shape).astype(np.uint8))
    assert "repeated-slice" not in names(measured(labels, cine).flags)
    twice = [0, 1, 1, 2, 3]
    repeated = replace(cine, voxels_TZHW=cine.voxels_TZHW[:, twice], present_TZ=np.ones((2, 5), bool))
    found = measured(labels[:, twice], repeated)
    (flag,) = [flag for flag in found.flags if flag.name == "repeated-slice"]
    assert "Slices 2 and 3" in flag.sentence
    assert set(FIGURES) <= set(found.doubtful)


def test_m2_an_atrium_beyond_the_base_of_end_diastole_is_not_counted() -> None:
    labels, cine = rings([[0, 20, 18, 14, 8], [17, 15, 13, 10, 5]], covers_beat=False)
    labels[0, 0] = 0
    labels[1, 0][labels[1, 0] == MYO] = 0
    for flip in (False, True):
        given = labels[:, ::-1] if flip else labels
        kept, removed = ventricle_without_atrium(given, cine, 0, None)
        base = -1 if flip else 0
        assert removed == 1
        assert not (kept[1, base] == LV).any()
        assert np.array_equal(np.delete(kept, base, axis=1), np.delete(given, base, axis=1))


def test_m2_a_basal_slice_counts_if_muscle_surrounds_half_of_its_blood() -> None:
    labels, cine = rings([[20, 20, 18, 14, 8]] * 2, covers_beat=False)
    row, column = np.mgrid[:80, :80]
    for share, counted in ((0.35, False), (0.65, True)):
        opened = labels.copy()
        angle = np.mod(np.arctan2(row - 40, column - 40), 2 * np.pi) / (2 * np.pi)
        opened[1, 0][(opened[1, 0] == MYO) & (angle > share)] = 0
        kept, _ = ventricle_without_atrium(opened, cine, 0, None)
        assert (kept[1, 0] == LV).any() == counted
        assert (kept[0] == labels[0]).all()


@pytest.mark.parametrize("seed", [5200, 5204, 5205])
def test_m2_the_left_atrium_of_the_long_axis_planes_says_where_the_ventricle_ends(seed: int) -> None:
    patient = make_mr_patient(seed)
    stack, *planes = scan_mr(patient, np.array([0.0, patient.heart.systole_share]))
    labels = stack.labels_TZNM.copy()
    first = int(np.argmax((labels[1] == LV).any(axis=(1, 2))))
    labels[1, :first] = np.where(np.isin(labels[1, first + 1], (LV, MYO)), labels[1, first + 1], labels[1, :first])
    found = measured(labels, stack.cine, *((plane.labels_TZNM, plane.cine) for plane in planes))
    truth = measured(stack.labels_TZNM, stack.cine)
    assert found.measures["lvesv_ml"] == pytest.approx(truth.measures["lvesv_ml"], rel=0.12)
    assert any("by the long axis planes" in warning for warning in found.warnings)


def test_m2_without_an_atrium_no_valve_is_known() -> None:
    labels, cine = rings([[20, 18, 14]] * 2, covers_beat=False)
    plane = Cine("2-chamber", cine.voxels_TZHW[:, :1], affine=np.eye(4))
    given = replace(cine, affine=np.eye(4))
    masks = {"short-axis": labels, "2-chamber": np.full((2, 1, 80, 80), LA, np.uint8)}
    assert valve_slices(masks, {"short-axis": given, "2-chamber": plane}, given) is not None
    masks["2-chamber"][:] = 0
    assert valve_slices(masks, {"short-axis": given, "2-chamber": plane}, given) is None


def test_m2_a_basal_slice_that_grows_in_systole_makes_the_fraction_doubtful() -> None:
    labels, cine = rings([[8, 20, 18, 14, 8], [18, 15, 13, 10, 5]], spacing_mm=(1.5, 1.5), slice_spacing_mm=10.0,
                         covers_beat=False)  # fmt: skip
    found = measured(labels, cine)
    assert "basal-growth" in names(found.flags)
    assert {"lvesv_ml", "lvef_percent"} <= set(found.doubtful)
    assert "lvedv_ml" not in [name for flag in found.flags if flag.name == "basal-growth" for name in flag.measures]


def test_m14_a_very_large_heart_is_not_flagged_for_its_size() -> None:
    radii = [[45, 45, 44, 42, 38, 30, 20], [43, 43, 42, 40, 36, 28, 18]]
    labels, cine = rings(radii, size=128, spacing_mm=(1.4, 1.4), slice_spacing_mm=9.0, covers_beat=False)
    found = measured(labels, cine)
    assert found.measures["lvedv_ml"] > 490
    assert "implausible" not in names(found.flags)
