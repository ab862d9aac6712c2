"""The MR phantom: exact masks of known volumes, and pictures that vary as scanners do."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from echoplane import cli
from echoplane.phantom import mr, mr_patient
from echoplane.phantom.cine import scan_mr
from echoplane.phantom.mr_look import PERICARDIUM_ED_MM
from echoplane.phantom.mr_patient import FIELDS, UNSEEN_FIELD, MrPatient, make_mr_patient
from echoplane.phantom.mr_planes import Grid, short_axis_planes
from echoplane.study.cine import display_turn, turned
from echoplane.study.cine_files import read_cines
from echoplane.tasks.cmr_segmentation.structures import SHOWN


def phases_of(patient: MrPatient) -> np.ndarray:
    return np.array([0.0, patient.heart.systole_share])


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_masks_hold_the_volumes_of_the_solid_heart(seed: int) -> None:
    patient = make_mr_patient(seed)
    stack = scan_mr(patient, phases_of(patient), spacing_mm=5.0)[0]
    volumes_T = (stack.labels_TZNM == mr.LV_CAVITY).sum(axis=(1, 2, 3)) * stack.cine.voxel_mm3 / 1000
    assert volumes_T[0] == pytest.approx(patient.heart.edv_ml, rel=0.05)
    assert volumes_T[1] == pytest.approx(patient.heart.esv_ml, rel=0.08)


@pytest.mark.parametrize("seed", [7, 11, 5003, 5008])
def test_m15_both_ventricles_eject_the_same_volume(seed: int) -> None:
    patient = make_mr_patient(seed)
    stack = scan_mr(patient, phases_of(patient), spacing_mm=8.0)[0]
    volumes = {k: (stack.labels_TZNM == k).sum(axis=(1, 2, 3)) * stack.cine.voxel_mm3 for k in (1, 3)}
    left, right = ((volumes_T[0] - volumes_T[1]) / 1000 for volumes_T in volumes.values())
    assert right == pytest.approx(left, rel=0.15)
    assert 0.35 < right * 1000 / volumes[mr.RV_CAVITY][0] < 0.7


def test_each_plane_shows_its_own_structures() -> None:
    patient = make_mr_patient(21)
    for scan in scan_mr(patient, phases_of(patient)):
        assert set(np.unique(scan.labels_TZNM)) == set(SHOWN[scan.cine.plane])


def test_blood_is_brighter_than_muscle_and_lung_is_dark() -> None:
    patient = make_mr_patient(22, "north")
    stack = scan_mr(patient, phases_of(patient))[0]
    middle = stack.cine.voxels_TZHW[0, 5].astype(float), stack.labels_TZNM[0, 5]
    blood, muscle = (float(np.median(middle[0][middle[1] == k])) for k in (mr.LV_CAVITY, mr.MYOCARDIUM))
    assert blood > 1.5 * muscle
    assert np.percentile(middle[0], 5) < 0.5 * muscle


@pytest.mark.parametrize("seed", [22, 26, 30, 32])
def test_fat_begins_behind_a_pericardium_as_thin_as_mr_shows_it(seed: int) -> None:
    patient = make_mr_patient(seed, "east")
    patient = replace(patient, chest=replace(patient.chest, epicardial_mm=10.0))
    planes = short_axis_planes(patient)
    grid = Grid(rows=400, columns=400, pixel_mm=0.35, thickness_mm=1.0)
    signal_TNM, labels_TNM = mr.scan_plane(patient, planes[len(planes) // 2], grid, phases_of(patient))
    ed_mm, es_mm = (
        _fat_begins_mm(signal, labels, grid.pixel_mm) for signal, labels in zip(signal_TNM, labels_TNM, strict=True)
    )
    low, high = PERICARDIUM_ED_MM
    assert low - 0.3 < ed_mm < high + 0.3
    assert 0.3 < es_mm - ed_mm < 0.8


def _fat_begins_mm(signal_NM: np.ndarray, labels_NM: np.ndarray, pixel_mm: float) -> float:
    """Outside of muscle and far from the right ventricle: where the signal is halfway from the darkest to fat."""
    away_mm = distance_transform_edt(~np.isin(labels_NM, (mr.LV_CAVITY, mr.MYOCARDIUM))) * pixel_mm
    free = distance_transform_edt(labels_NM != mr.RV_CAVITY) * pixel_mm > 15
    edges_mm = np.arange(0.01, 4.5, 0.25)
    profile = np.array(
        [np.median(signal_NM[free & (away_mm > at) & (away_mm <= at + 0.5)]) for at in edges_mm], dtype=float
    )
    return float(edges_mm[np.argmax(profile > (profile.min() + profile.max()) / 2)]) + 0.25


def test_the_same_seed_gives_the_same_pictures_and_fields_differ() -> None:
    first, again, other = (
        scan_mr(p, phases_of(p))[0].cine.voxels_TZHW
        for p in (make_mr_patient(23, "north"), make_mr_patient(23, "north"), make_mr_patient(23, "west"))
    )
    assert np.array_equal(first, again)
    assert first.shape == other.shape
    assert not np.array_equal(first, other)


def test_the_unseen_field_is_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mr_patient, "with_equal_strokes", lambda heart: heart)  # slow, and of no account here
    assert {make_mr_patient(seed).field for seed in range(40)} == set(FIELDS) - {UNSEEN_FIELD}


def test_pictures_lie_as_scanners_store_them() -> None:
    patient = make_mr_patient(24)
    for scan in scan_mr(patient, phases_of(patient)):
        assert display_turn(scan.cine.affine, scan.cine.plane) == (False, False, False)


@pytest.mark.parametrize("seed", [31, 32, 33])
def test_readers_see_the_right_atrium_to_the_left(seed: int) -> None:
    patient = make_mr_patient(seed)
    cine, labels = (lambda s: (s.cine, s.labels_TZNM))(scan_mr(patient, phases_of(patient))[2])
    seen = turned(labels[0, 0], display_turn(cine.affine, cine.plane))
    left, right = (np.argwhere(seen == k).mean(axis=0) for k in (mr.LEFT_ATRIUM, mr.RIGHT_ATRIUM))
    assert right[1] < left[1] - 10


def test_the_command_writes_cines_that_the_reader_reads(tmp_path: Path) -> None:
    out = tmp_path / "made"
    assert cli.main(["phantom", "cmr", str(out), "--patients", "1", "--frames", "8"]) == 0
    (patient,) = out.iterdir()
    truth = json.loads((patient / "truth.json").read_text())
    mask = nibabel.load(patient / "sa_mask.nii.gz")
    assert np.allclose(mask.affine, nibabel.load(patient / "sa.nii.gz").affine)
    volume_ml = (np.asarray(mask.dataobj)[..., 0] == 1).sum() * np.prod(mask.header.get_zooms()[:3]) / 1000
    assert truth["lvedv_ml"] == pytest.approx(volume_ml, rel=1e-3)
    for path in patient.glob("*_mask.nii.gz"):
        path.unlink()
    assert [cine.plane for cine in read_cines(patient)] == ["short-axis", "2-chamber", "4-chamber"]
