"""What of a NIfTI header is believed: sform, qform, sizes, units, order of the axes; cines that come in parts."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from echoplane.errors import UnusableStudy
from echoplane.study.cine_files import read_cines
from echoplane.study.nifti import write_nifti
from tests.tiny_cine import beating_heart

PICTURES = beating_heart(12, 5, 64)[0]
XYZT = PICTURES.transpose(3, 2, 1, 0)
SIZES = (1.4, 1.4, 9.0)
PLACED = np.array([[-1.4, 0, 0, 90], [0, -1.4, 0, 80], [0, 0, 9, -10], [0, 0, 0, 1]], float)


def save(path: Path, data: np.ndarray = XYZT, sform: np.ndarray | None = None, qform: np.ndarray | None = None,
         time_ms: float = 70.0) -> Path:  # fmt: skip
    """A NIfTI of SIZES whose sform and qform are set independently."""
    image = nibabel.Nifti1Image(data, None)
    image.header.set_zooms((*SIZES, time_ms, 1.0)[: data.ndim] if data.ndim != 5 else (*SIZES, 1.0, time_ms))
    image.header.set_xyzt_units("mm", "msec")
    if qform is not None:
        image.header.set_qform(qform, code=1)
    if sform is not None:
        image.header.set_sform(sform, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, None, image.header), path)
    return path


def read(path: Path):
    return read_cines(path)[0]


def test_m3_an_sform_without_scales_gives_way_to_the_qform(tmp_path: Path) -> None:
    found = read(save(tmp_path / "c.nii", sform=np.diag([-1.0, -1, 1, 1]), qform=PLACED))
    assert found.voxel_mm3 == pytest.approx(np.prod(SIZES))
    assert np.allclose(found.affine, PLACED, atol=1e-4)
    assert any("sform states other voxel sizes" in warning for warning in found.warnings)


def test_m3_the_mask_repeats_the_affine_of_the_file(tmp_path: Path) -> None:
    for name, sform in (("a", np.diag([-1.0, -1, 1, 1])), ("b", np.diag([*SIZES, 1.0])), ("c", PLACED)):
        path = save(tmp_path / f"{name}.nii", sform=sform, qform=PLACED)
        (tmp_path / "mask.nii.gz").write_bytes(write_nifti(np.zeros(PICTURES.shape, np.uint8), read(path)))
        mask, source = nibabel.load(tmp_path / "mask.nii.gz"), nibabel.load(path)
        assert np.allclose(mask.affine, source.affine)
        assert np.allclose(mask.header.get_zooms()[:3], source.header.get_zooms()[:3])


@pytest.mark.parametrize("sform", [np.eye(4), np.diag([*SIZES, 1.0])])
def test_m4_an_affine_that_repeats_the_sizes_states_no_orientation(tmp_path: Path, sform: np.ndarray) -> None:
    found = read(save(tmp_path / "c.nii", sform=sform))
    assert found.affine is None
    assert found.voxel_mm3 == pytest.approx(np.prod(SIZES))
    assert any("orientation of the slices is unknown" in w or "other voxel sizes" in w for w in found.warnings)


def test_m4_a_diagonal_affine_with_an_origin_is_believed(tmp_path: Path) -> None:
    affine = np.diag([*SIZES, 1.0])
    affine[:3, 3] = -90, -80, -40
    assert read(save(tmp_path / "c.nii", sform=affine)).affine is not None


@pytest.mark.parametrize("how", ["exchanged", "mixed"])
def test_m5_phases_and_slices_that_are_mixed_are_refused(tmp_path: Path, how: str) -> None:
    bodies = np.random.default_rng(0).integers(0, 120, (12, 64, 64))
    pictures = beating_heart(12, 12, 64)[0] if how == "exchanged" else PICTURES
    cine_TZHW = (pictures + bodies[: pictures.shape[1]]).astype(np.int16)
    assert read(save(tmp_path / "right.nii", cine_TZHW.transpose(3, 2, 1, 0), PLACED)).phases == 12
    wrong_TZHW = cine_TZHW.swapaxes(0, 1).reshape(cine_TZHW.shape)
    path = save(tmp_path / "wrong.nii", wrong_TZHW.transpose(3, 2, 1, 0), PLACED)
    with pytest.raises(UnusableStudy, match="slices and phases are mixed"):
        read(path)


def test_m6_a_time_of_the_nifti_header_is_not_taken_without_a_caveat(tmp_path: Path) -> None:
    found = read(save(tmp_path / "c.nii", sform=PLACED, time_ms=40.0))
    assert any("40 ms" in warning and "repetition time" in warning for warning in found.warnings)


def test_m8_end_diastole_and_end_systole_in_two_files_are_joined(tmp_path: Path) -> None:
    for name, t in (("patient001_frame01", 0), ("patient001_frame12", 6)):
        save(tmp_path / f"{name}.nii.gz", XYZT[..., t], PLACED)
        save(tmp_path / f"{name}_gt.nii.gz", (XYZT[..., t] > 150).astype(np.uint8), PLACED)
    found = read(tmp_path)
    assert np.array_equal(found.voxels_TZHW, PICTURES[[0, 6]])
    assert not found.covers_beat
    assert any("2 files of one phase each were joined" in warning for warning in found.warnings)


def test_m8_files_of_two_grids_say_why_they_are_no_cine(tmp_path: Path) -> None:
    save(tmp_path / "ed.nii.gz", XYZT[..., 0], PLACED)
    save(tmp_path / "es.nii.gz", XYZT[:-4, :, :, 6], PLACED)
    with pytest.raises(UnusableStudy, match="2 NIfTI files hold one phase each"):
        read(tmp_path)


def test_m8_a_file_per_slice_is_one_stack_in_the_order_of_their_places(tmp_path: Path) -> None:
    for z in range(5):
        affine = PLACED.copy()
        affine[2, 3] += 9 * z
        save(tmp_path / f"series_{(3 * z) % 5}.nii.gz", XYZT[:, :, z : z + 1], affine)
    found = read(tmp_path)
    assert np.array_equal(found.voxels_TZHW, PICTURES)
    assert found.voxel_mm3 == pytest.approx(np.prod(SIZES))
    assert np.allclose(found.affine, PLACED, atol=1e-4)


def test_m13_a_channel_axis_before_time_is_read_with_a_warning(tmp_path: Path) -> None:
    found = read(save(tmp_path / "c.nii", XYZT[:, :, :, None], PLACED))
    assert np.array_equal(found.voxels_TZHW, PICTURES)
    assert found.frame_time_ms == pytest.approx(70)
    assert any("fifth was taken for time" in warning for warning in found.warnings)
