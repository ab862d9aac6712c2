"""Which series of a folder is the cine, and what is said of the rest: geometry decides, never a name."""

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from echoplane.errors import UnusableStudy
from echoplane.study.cine import Cine
from echoplane.study.cine_files import cines_in, read_cines
from echoplane.study.nifti import write_nifti
from echoplane.study.slice_groups import USUAL_AXIS
from tests.tiny_cine import slice_file

AXIS = USUAL_AXIS / np.linalg.norm(USUAL_AXIS)


def pixels(k: int) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 4000, (56, 64)).astype(np.uint16)


def write_stack(folder: Path, name: str = "a", phases: int = 4, slices: int = 4, **changes) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    data = np.stack([[pixels(100 * t + z) for z in range(slices)] for t in range(phases)])
    for t in range(phases):
        for z in range(slices):
            slice_file(folder, f"{name}{t}-{z}", 10.0 * z, 40.0 * t, data[t, z], **changes)
    return data


def test_a_slice_scanned_again_is_taken_from_one_series_alone(tmp_path: Path) -> None:
    data = write_stack(tmp_path / "s")
    for t in range(4):
        slice_file(tmp_path / "s", f"z{t}", 10.0, 40.0 * t, data[t, 1] // 2, SeriesInstanceUID="1.2.3")
    (found,) = read_cines(tmp_path / "s")
    assert found.phases == 4
    assert np.array_equal(found.voxels_TZHW[:, 1], data[:, 1] // 2)
    assert np.array_equal(found.voxels_TZHW[:, 0], data[:, 0])
    assert any("1 slice(s) were scanned more than once" in said for said in found.warnings)


def test_a_file_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    data = write_stack(tmp_path / "s")
    (tmp_path / "s" / "copy").write_bytes((tmp_path / "s" / "a0-0").read_bytes())
    (found,) = read_cines(tmp_path / "s")
    assert np.array_equal(found.voxels_TZHW, data)
    assert any("1 frame(s) were there twice" in said for said in found.warnings)


def test_a_series_a_phase_is_one_cine(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for t in range(4):
        for z in range(4):
            slice_file(tmp_path / "s", f"{t}{z}", 10.0 * z, 40.0 * t, pixels(z), SeriesInstanceUID=f"1.2.{t + 1}")
    (found,) = read_cines(tmp_path / "s")
    assert found.voxels_TZHW.shape[:2] == (4, 4)
    assert not any("scanned" in said for said in found.warnings)


def test_slices_turned_against_the_stack_are_left_out_and_said(tmp_path: Path) -> None:
    write_stack(tmp_path / "s")
    leaning = AXIS + 0.25 * np.cross(AXIS, [0, 0, 1.0])
    for t in range(4):
        slice_file(tmp_path / "s", f"t{t}", 60.0, 40.0 * t, pixels(t), axis=leaning / np.linalg.norm(leaning))
    found = read_cines(tmp_path / "s")[0]
    assert found.slices == 4
    assert any("1 slice(s) are turned" in said for said in found.warnings)


def test_phases_numbered_backwards_follow_the_beat_and_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for t in range(4):
        for z in range(4):
            slice_file(tmp_path / "s", f"{t}{z}", 10.0 * z, 40.0 * t, pixels(t), InstanceNumber=10 - t)
    (found,) = read_cines(tmp_path / "s")
    assert np.array_equal(found.voxels_TZHW[:, 0], [pixels(t) for t in range(4)])
    assert any("against the time in the beat" in said for said in found.warnings)


def nifti(phases: int, slices: int, normal: np.ndarray) -> bytes:
    right = np.cross([0, 0, 1.0], normal)
    right /= np.linalg.norm(right)
    affine = np.eye(4)
    directions = np.stack([right * 1.4, np.cross(normal, right) * 1.4, normal * 9.0], axis=1)
    affine[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ directions
    voxels = np.random.default_rng(phases).integers(0, 900, (phases, slices, 56, 64)).astype(np.int16)
    return write_nifti(voxels, Cine("short-axis", voxels, (1.4, 1.4), 9.0, 40.0, affine=affine))


def test_unnamed_niftis_are_told_apart_by_geometry(tmp_path: Path) -> None:
    flat = np.array([0.3, -0.2, 0.93]) - AXIS * (AXIS @ [0.3, -0.2, 0.93])
    flat /= np.linalg.norm(flat)
    files = {"x": nifti(6, 1, np.cross(AXIS, flat)), "y": nifti(6, 5, AXIS), "z": nifti(6, 1, flat)}
    for name, content in files.items():
        (tmp_path / f"{name}.nii.gz").write_bytes(content)
    found = {cine.plane: cine.slices for cine in read_cines(tmp_path)}
    assert found == {"short-axis": 5, "2-chamber": 1, "4-chamber": 1}


def test_niftis_without_a_stack_say_what_is_needed(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.nii.gz").write_bytes(nifti(6, 1, AXIS))
    with pytest.raises(UnusableStudy, match="3 slices or more"):
        read_cines(tmp_path)


def test_deep_pictures_keep_their_depth(tmp_path: Path) -> None:
    for z in range(3):
        for t in range(2):
            cv2.imwrite(str(tmp_path / f"X-IM-0001-{20 * z + 7 * t + 1:04d}.png"), pixels(z + t))
    (found,) = read_cines(tmp_path)
    assert found.voxels_TZHW.dtype == np.uint16
    assert np.array_equal(found.voxels_TZHW[0, 1], pixels(1))


def with_table(folder: Path) -> dict[str, bytes]:
    """DICOM frames that do not say where they lie, and the CSV that does."""
    lines = ["file,slice,phase,row_spacing_mm,column_spacing_mm,slice_spacing_mm"]
    for z in range(3):
        for t in range(2):
            name = f"{z}{t}.dcm"
            slice_file(folder, name, 0, 0, pixels(10 * z + t), ImagePositionPatient=None)
            lines.append(f"{name},{z},{t},1.4,1.3,9")
    (folder / "frames.csv").write_text("\n".join(lines))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_dicom_frames_are_placed_by_a_table_in_a_folder_and_in_a_zip_alike(tmp_path: Path) -> None:
    files, archive = with_table(tmp_path), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for name, content in files.items():
            packed.writestr(f"study/{name}", content)
    (found,), (again,) = read_cines(tmp_path), cines_in(archive.getvalue())
    assert found.voxel_mm3 == again.voxel_mm3 == pytest.approx(1.4 * 1.3 * 9)
    assert np.array_equal(found.voxels_TZHW, again.voxels_TZHW)
    assert np.array_equal(found.voxels_TZHW[1, 2], pixels(21))


def test_pictures_of_two_folders_are_not_mixed(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "P-IM-0001-0001.png"), pixels(0))
    with pytest.raises(UnusableStudy, match="2 folders"):
        read_cines(tmp_path)
