"""Folders that hold more than the cine: other patients, other series, earlier answers, previews."""

import csv
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from echoplane.errors import InputError, UnusableStudy
from echoplane.study import nifti
from echoplane.study.cine_files import read_cines
from echoplane.study.slice_groups import USUAL_AXIS
from tests.tiny_cine import STUDY, beating_heart, slice_file

PHASES, SLICES = 12, 5
PICTURES_TZHW = beating_heart(PHASES, SLICES, 64)[0]
AFFINE = np.diag([1.4, 1.4, 8, 1])


def write_series(folder: Path, uid: str = f"{STUDY}.1", phases: int = PHASES, step_ms: float = 40.0, **changes) -> None:
    """The beating heart, or as many slices of it as `slices` says, as single DICOM files."""
    folder.mkdir(parents=True, exist_ok=True)
    slices = changes.pop("slices", range(SLICES))
    brighter = changes.pop("brighter", 0)
    jitter_mm, shift_mm = changes.pop("jitter_mm", 0.0), changes.pop("shift_mm", 0.0)
    for t in range(phases):
        for z in slices:
            place_mm = z * 9 + 0.05 + shift_mm + jitter_mm * (-1) ** t
            name = f"{uid}-{t}-{z}.dcm"
            picture = PICTURES_TZHW[t % PHASES, z] + np.uint16(brighter)
            slice_file(folder, name, place_mm, t * step_ms, picture, SeriesInstanceUID=uid, **changes)


def write_nifti(path: Path, affine: np.ndarray = AFFINE, **header: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(PICTURES_TZHW.transpose(3, 2, 1, 0), affine)
    image.header.set_xyzt_units("mm", "msec")
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)


def write_numbered(folder: Path, phases: int, slices: int, prefix: str = "P-") -> None:
    """Numbered from slice to slice, each amid a body of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    bodies = np.random.default_rng(0).integers(0, 128, (slices, 64, 64), np.uint8)
    for k in range(phases * slices):
        picture = bodies[k // phases] + PICTURES_TZHW[k % phases * PHASES // phases, k // phases % SLICES] // 2
        cv2.imwrite(str(folder / f"{prefix}IM-0001-{k + 1:04d}.png"), picture)


def write_table(folder: Path, places: list[tuple[int, int]]) -> None:
    """Pictures with a CSV, at these (slice, phase); a picture is as bright as its phase says."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "frames.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "slice", "phase"])
        for z, t in places:
            cv2.imwrite(str(folder / f"{z}-{t}.png"), np.full((64, 64), t, np.uint8))
            table.writerow([f"{z}-{t}.png", z, t])


@pytest.mark.parametrize("at", [range(SLICES), range(SLICES - 2)])
def test_two_patients_are_no_heart(tmp_path: Path, at: range) -> None:
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", f"{STUDY}.9.1", slices=at, StudyInstanceUID=f"{STUDY}.9", PatientID="Zwetschgen")
    with pytest.raises(UnusableStudy, match="2 studies; send one patient's study at a time") as refused:
        read_cines(tmp_path)
    assert "Zwetschgen" not in str(refused.value)


def test_without_a_study_the_patient_tells_two_apart(tmp_path: Path) -> None:
    for name in "ab":
        write_series(tmp_path / name, f"{STUDY}.{ord(name)}", StudyInstanceUID=None, PatientID=name)
    with pytest.raises(UnusableStudy, match="send one patient's study at a time"):
        read_cines(tmp_path)


@pytest.mark.parametrize("names", [("a/sa.nii", "b/sa.nii"), ("a/sa.nii", "b/la_2ch.nii"), ("a/one.nii", "b/two.nii")])
def test_nifti_of_two_patients_is_no_heart_either(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        write_nifti(tmp_path / name)
    with pytest.raises(UnusableStudy, match="send one patient's"):
        read_cines(tmp_path)


@pytest.mark.parametrize("spacing", [[1.4, 1.3], [2.0, 2.0]])
def test_a_series_over_many_beats_is_no_cine_whatever_its_grid(tmp_path: Path, spacing: list[float]) -> None:
    write_series(tmp_path)
    write_series(tmp_path, f"{STUDY}.7", 40, 800.0, slices=range(1, 4), PixelSpacing=spacing)
    found = read_cines(tmp_path)[0]
    assert (found.phases, found.slices, found.spacing_mm) == (PHASES, SLICES, (1.4, 1.3))
    assert any("longer than a heart beats" in said for said in found.warnings)


def test_perfusion_alone_is_no_cine(tmp_path: Path) -> None:
    write_series(tmp_path, f"{STUDY}.7", 40, 800.0, slices=range(3))
    with pytest.raises(UnusableStudy, match="longer than a heart beats: no cine"):
        read_cines(tmp_path)


@pytest.mark.parametrize("series_a_slice", [True, False])
@pytest.mark.parametrize(("others", "shift_mm"), [({"phases": 1}, 0.0), ({"phases": 1}, 4.5), ({"phases": 40}, 0.0)])
def test_other_series_on_the_grid_of_the_cine_stay_out_of_it(
    tmp_path: Path, series_a_slice: bool, others: dict, shift_mm: float
) -> None:
    """Late enhancement at the cine's places or between them, at more of them; perfusion that states no times."""
    at = range(5) if others["phases"] == 1 else range(1, 3)
    write_series(tmp_path / "a", f"{STUDY}.7", slices=at, shift_mm=shift_mm, TriggerTime=None, **others)
    for z in range(1, 5):
        write_series(tmp_path / f"cine-{z}", f"{STUDY}.8.{z * series_a_slice}", slices=[z])
    found = read_cines(tmp_path)[0]
    assert (found.phases, found.slices, found.slice_spacing_mm) == (PHASES, 4, 9)
    assert all("scanned more than once" in said or "far fewer phases" in said for said in found.warnings)
    assert found.warnings
    assert np.array_equal(found.voxels_TZHW, PICTURES_TZHW[:, 1:])


def test_a_patient_of_many_series_gives_the_cines(tmp_path: Path) -> None:
    """The Sunnybrook patients came so: short axis, long axis, late enhancement and scouts, a folder each."""
    axis = USUAL_AXIS / np.linalg.norm(USUAL_AXIS)
    stands, lies = np.cross(axis, [0, 0, 1.0]), np.cross(axis, np.cross([0, 0, 1.0], axis))
    write_series(tmp_path / "CINESAX_300", f"{STUDY}.3", 20)
    for k, normal in enumerate([stands, lies]):
        write_series(tmp_path / f"CINELAX_{k}", f"{STUDY}.4.{k}", 20, slices=[0], axis=normal / np.linalg.norm(normal))
    write_series(tmp_path / "DE", f"{STUDY}.5", 1, slices=range(1, 5))
    for k, normal in enumerate(np.eye(3)[:2]):
        write_series(tmp_path / f"Localizers_{k}", f"{STUDY}.6.{k}", 1, axis=normal)
    found = read_cines(tmp_path)
    assert [(cine.plane, cine.phases, cine.slices) for cine in found] == [
        ("short-axis", 20, SLICES), ("2-chamber", 20, 1), ("4-chamber", 20, 1),
    ]  # fmt: skip


def test_of_two_moving_stacks_that_of_more_slices_is_taken_where_both_hold_a_beat(tmp_path: Path) -> None:
    write_series(tmp_path)
    write_series(tmp_path, f"{STUDY}.7", 30, 20.0, slices=range(3), PixelSpacing=[2.0, 2.0])
    assert (read_cines(tmp_path)[0].phases, read_cines(tmp_path)[0].slices) == (PHASES, SLICES)


def test_a_slice_scanned_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    write_series(tmp_path)
    write_series(tmp_path, f"{STUDY}.8", slices=[2], brighter=7)
    found = read_cines(tmp_path)[0]
    assert {source for (t, z), (source, _) in found.sources.items() if z == 2}.isdisjoint(
        source for (t, z), (source, _) in found.sources.items() if z != 2
    )
    assert any("1 slice(s) were scanned more than once" in said for said in found.warnings)


def test_places_that_differ_by_rounding_are_one(tmp_path: Path) -> None:
    write_series(tmp_path, jitter_mm=1e-4)
    found = read_cines(tmp_path)[0]
    assert (found.phases, found.slices) == (PHASES, SLICES)
    assert found.present_TZ.all()


def test_a_preview_beside_a_series_is_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path)
    cv2.imwrite(str(tmp_path / "preview.png"), PICTURES_TZHW[0, 0])
    assert read_cines(tmp_path)[0].phases == PHASES


def test_what_measure_wrote_is_no_cine(tmp_path: Path) -> None:
    write_nifti(tmp_path / "any.nii")
    write_nifti(tmp_path / "answer" / "mask.nii.gz", AFFINE * 3)
    assert read_cines(tmp_path)[0].slice_spacing_mm == pytest.approx(8)


def test_names_that_can_not_mean_20_phases_a_slice_are_refused(tmp_path: Path) -> None:
    write_numbered(tmp_path / "25", 25, 10)
    with pytest.raises(UnusableStudy, match="no whole number of slices of 20 phases"):
        read_cines(tmp_path / "25")
    for phases, slices in ((25, 8), (30, 10), (40, 5)):
        write_numbered(tmp_path / f"{phases}x{slices}", phases, slices)
        with pytest.raises(UnusableStudy, match="change most elsewhere than where slices of 20 phases end"):
            read_cines(tmp_path / f"{phases}x{slices}")
    write_numbered(tmp_path / "20", 20, 4, prefix="")
    found = read_cines(tmp_path / "20")[0]
    assert (found.phases, found.slices) == (20, 4)
    assert any("20 were taken" in said for said in found.warnings)


def test_pictures_of_other_phases_are_matched_by_their_place_in_the_beat(tmp_path: Path) -> None:
    write_table(tmp_path / "es", [(z, t) for z in range(4) for t in ((0, 10) if z < 2 else (0, 11))])
    found = read_cines(tmp_path / "es")[0]
    assert found.voxels_TZHW[:, :, 0, 0].tolist() == [[0, 0, 0, 0], [10, 10, 11, 11]]
    write_table(tmp_path / "few", [(z, t) for z in range(4) for t in range(20 if z else 18)])
    found = read_cines(tmp_path / "few")[0]
    assert found.present_TZ.all()
    assert (found.voxels_TZHW[-1, 0, 0, 0], found.voxels_TZHW[-1, 1, 0, 0]) == (17, 19)
    assert any("matched by their place in the beat" in said for said in found.warnings)
    write_table(tmp_path / "half", [(z, t) for z in range(4) for t in range(20 if z else 9)])
    with pytest.raises(UnusableStudy, match="9 to 20 phases"):
        read_cines(tmp_path / "half")


def test_the_table_of_the_pictures_is_found_beside_another(tmp_path: Path) -> None:
    write_table(tmp_path, [(z, t) for z in range(4) for t in range(2)])
    (tmp_path / "a_readers.csv").write_text("reader,date\n1,2\n")
    assert read_cines(tmp_path)[0].phases == 2


@pytest.mark.parametrize("thickness_mm", [6.0, 1.0])
def test_two_spacings_that_differ_give_no_millilitres(tmp_path: Path, thickness_mm: float) -> None:
    write_nifti(tmp_path / "cine.nii", pixdim=[1, 1.4, 1.4, thickness_mm, 40, 0, 0, 0])
    found = read_cines(tmp_path / "cine.nii")[0]
    assert found.voxel_mm3 is None
    assert any("1.4 x 1.4 x 8 mm" in said for said in found.warnings)


def test_the_affine_of_a_file_in_metres_is_in_millimetres_too(tmp_path: Path) -> None:
    affine = np.diag([0.0014, 0.0014, 0.008, 1])
    affine[0, 3] = -0.09
    write_nifti(tmp_path / "cine.nii", affine, xyzt_units=1)
    found = read_cines(tmp_path / "cine.nii")[0]
    assert found.slice_spacing_mm == pytest.approx(8)
    assert found.affine is not None
    assert np.allclose(np.diag(found.affine), [1.4, 1.4, 8, 1])
    assert found.affine[0, 3] == pytest.approx(-90)


def test_a_nifti_2_and_a_slope_that_is_no_number(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(PICTURES_TZHW.transpose(3, 2, 1, 0), AFFINE), tmp_path / "two.nii")
    with pytest.raises(InputError, match="NIfTI-2; save the cine as NIfTI-1"):
        read_cines(tmp_path / "two.nii")
    write_nifti(tmp_path / "cine.nii")
    header = np.frombuffer((tmp_path / "cine.nii").read_bytes()[:352], nifti.HEADER, 1).copy()
    header["scl_slope"] = np.nan
    (tmp_path / "cine.nii").write_bytes(header.tobytes() + (tmp_path / "cine.nii").read_bytes()[348:])
    assert np.array_equal(read_cines(tmp_path / "cine.nii")[0].voxels_TZHW, PICTURES_TZHW)


def test_a_voxel_that_is_no_number_is_black_and_one_beyond_bounds_is_damage(tmp_path: Path) -> None:
    values_XYZT = PICTURES_TZHW.transpose(3, 2, 1, 0).astype(np.float64)
    for at, value in enumerate((np.nan, np.inf, -np.inf)):
        values_XYZT[at, 0, 0, 0] = value
    nibabel.save(nibabel.Nifti1Image(values_XYZT, AFFINE), tmp_path / "cine.nii")
    assert read_cines(tmp_path / "cine.nii")[0].voxels_TZHW[0, 0, 0, :3].tolist() == [0, 0, 0]
    assert read_cines(tmp_path / "cine.nii")[0].voxels_TZHW.max() == PICTURES_TZHW.max()
    values_XYZT[0, 0, 0, 0] = 1e300
    nibabel.save(nibabel.Nifti1Image(values_XYZT, AFFINE), tmp_path / "cine.nii")
    with pytest.raises(InputError, match="it is damaged"):
        read_cines(tmp_path / "cine.nii")


def test_a_text_file_or_an_empty_folder_is_told_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# no cine\n" * 100)
    (tmp_path / "empty").mkdir()
    for name, why in (("README.md", "this is no cine MR. Give a NIfTI"), ("empty", "there is no file in it")):
        with pytest.raises(InputError, match=why):
            read_cines(tmp_path / name)
