"""The MR phantom: exact masks of known volumes, and pictures that vary as scanners do."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from echoplane import cli
from echoplane.phantom import mr
from echoplane.phantom.cine import scan_mr
from echoplane.study.cine import display_turn, turned
from echoplane.study.cine_files import read_cines
from echoplane.tasks.cmr_segmentation.structures import SHOWN


def phases_of(patient: mr.MrPatient) -> np.ndarray:
    return np.array([0.0, patient.heart.systole_share])


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_masks_hold_the_volumes_of_the_solid_heart(seed: int) -> None:
    patient = mr.make_mr_patient(seed)
    stack = scan_mr(patient, phases_of(patient), spacing_mm=5.0)[0]
    volumes_T = (stack.labels_TZNM == mr.LV_CAVITY).sum(axis=(1, 2, 3)) * stack.cine.voxel_mm3 / 1000
    assert volumes_T[0] == pytest.approx(patient.heart.edv_ml, rel=0.05)
    assert volumes_T[1] == pytest.approx(patient.heart.esv_ml, rel=0.08)


def test_each_plane_shows_its_own_structures() -> None:
    patient = mr.make_mr_patient(21)
    for scan in scan_mr(patient, phases_of(patient)):
        assert set(np.unique(scan.labels_TZNM)) == set(SHOWN[scan.cine.plane])


def test_blood_is_brighter_than_muscle_and_lung_is_dark() -> None:
    patient = mr.make_mr_patient(22, "north")
    stack = scan_mr(patient, phases_of(patient))[0]
    middle = stack.cine.voxels_TZHW[0, 5].astype(float), stack.labels_TZNM[0, 5]
    blood, muscle = (float(np.median(middle[0][middle[1] == k])) for k in (mr.LV_CAVITY, mr.MYOCARDIUM))
    assert blood > 1.5 * muscle
    assert np.percentile(middle[0], 5) < 0.5 * muscle


def test_the_same_seed_gives_the_same_pictures_and_fields_differ() -> None:
    first, again, other = (
        scan_mr(p, phases_of(p))[0].cine.voxels_TZHW
        for p in (mr.make_mr_patient(23, "north"), mr.make_mr_patient(23, "north"), mr.make_mr_patient(23, "west"))
    )
    assert np.array_equal(first, again)
    assert first.shape == other.shape
    assert not np.array_equal(first, other)


def test_the_unseen_field_is_never_drawn() -> None:
    assert {mr.make_mr_patient(seed).field for seed in range(40)} == set(mr.FIELDS) - {mr.UNSEEN_FIELD}


def test_pictures_lie_as_scanners_store_them() -> None:
    patient = mr.make_mr_patient(24)
    for scan in scan_mr(patient, phases_of(patient)):
        assert display_turn(scan.cine.affine, scan.cine.plane) == (False, False, False)


@pytest.mark.parametrize("seed", [31, 32, 33])
def test_readers_see_the_right_atrium_to_the_left(seed: int) -> None:
    patient = mr.make_mr_patient(seed)
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
