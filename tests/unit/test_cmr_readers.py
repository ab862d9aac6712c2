"""Cines from NIfTI, DICOM and folders of pictures; what is unusable gets a reason."""

import csv
import gzip
import io
import tracemalloc
import zipfile
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from echoplane.errors import InputError, NotAnImage, TooLarge, UnusableStudy
from echoplane.study import cine as cines
from echoplane.study import nifti
from echoplane.study.cine_files import cines_in, read_cines
from echoplane.study.mr_slices import ENHANCED_MR
from echoplane.study.slice_groups import USUAL_AXIS
from tests.tiny_cine import slice_file

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "cmr"
SHAPE_XYZT = (64, 56, 4, 3)


def values(seed: int = 0, shape: tuple[int, ...] = SHAPE_XYZT) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4000, shape).astype(np.int16)


def nifti_bytes(
    tmp_path: Path, data: np.ndarray, affine: np.ndarray | None, zooms=None, suffix: str = ".nii.gz", **header
):
    image = nibabel.Nifti1Image(data, affine)
    if zooms:
        image.header.set_zooms(zooms)
    if "units" in header:
        image.header.set_xyzt_units(*header["units"])
    nibabel.save(image, tmp_path / f"cine{suffix}")
    return (tmp_path / f"cine{suffix}").read_bytes()


OBLIQUE = np.array([[-1.0, 0.5, -4, 10], [0.8, 1.1, 3, -20], [0.3, -0.9, 7, 5], [0, 0, 0, 1]])


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float32, np.uint16])
def test_a_nifti_reads_as_nibabel_reads_it(tmp_path: Path, kind: type) -> None:
    data = (values() // (16 if kind == np.uint8 else 1)).astype(kind)
    read = nifti.read_nifti(nifti_bytes(tmp_path, data, OBLIQUE, units=("mm", "sec")))
    image = nibabel.load(tmp_path / "cine.nii.gz")
    assert np.array_equal(read.voxels_TZHW, np.asarray(image.dataobj).transpose(3, 2, 1, 0))
    assert np.allclose(read.affine, image.affine, atol=1e-6)
    sides = image.header.get_zooms()
    assert read.spacing_mm == pytest.approx((sides[1], sides[0]))
    assert read.slice_spacing_mm == pytest.approx(sides[2])


def test_scaled_and_big_endian_nifti_read_as_nibabel_reads_them(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(values().astype(">i2"), OBLIQUE, nibabel.Nifti1Header(endianness=">"))
    image.header.set_slope_inter(0.5, 3)
    path = tmp_path / "cine.nii"
    nibabel.save(image, path)
    read = nifti.read_nifti(path.read_bytes())
    assert np.allclose(read.voxels_TZHW, nibabel.load(path).get_fdata().transpose(3, 2, 1, 0))


def test_a_qform_alone_gives_the_affine(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(values(), None)
    rotation = np.linalg.qr(OBLIQUE[:3, :3])[0] * [1.2, 1.3, 8]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation, (1, 2, 3)
    image.set_qform(affine, code=1)
    image.set_sform(None, code=0)
    nibabel.save(image, tmp_path / "cine.nii.gz")
    read = nifti.read_nifti((tmp_path / "cine.nii.gz").read_bytes())
    assert np.allclose(read.affine, nibabel.load(tmp_path / "cine.nii.gz").affine, atol=1e-5)


def test_a_mask_lies_on_the_input_grid_with_its_affine(tmp_path: Path) -> None:
    read = nifti.read_nifti(nifti_bytes(tmp_path, values(), OBLIQUE, units=("mm", "msec")))
    mask_TZHW = (read.voxels_TZHW > 2000).astype(np.uint8)
    (tmp_path / "mask.nii.gz").write_bytes(nifti.write_nifti(mask_TZHW, read))
    mask, source = nibabel.load(tmp_path / "mask.nii.gz"), nibabel.load(tmp_path / "cine.nii.gz")
    assert mask.shape == source.shape
    assert np.array_equal(mask.affine, source.affine)
    assert np.array_equal(np.asarray(mask.dataobj), (np.asarray(source.dataobj) > 2000).astype(np.uint8))
    assert mask.header.get_zooms()[:3] == pytest.approx(source.header.get_zooms()[:3])


@pytest.mark.parametrize(
    ("units", "step", "expected"),
    [(("mm", "msec"), 40.0, 40.0), (("mm", "sec"), 0.04, 40.0), (("mm", "sec"), 1.0, None), (("mm",), 0.035, 35.0)],
)
def test_the_time_between_phases_follows_its_unit(tmp_path: Path, units, step: float, expected: float | None) -> None:
    data = nifti_bytes(tmp_path, values(), np.diag([1.2, 1.2, 8, 1]), (1.2, 1.2, 8, step), units=units)
    found = nifti.read_nifti(data)
    assert found.frame_time_ms == (expected and pytest.approx(expected, rel=1e-4))
    assert (expected is None) == any("no time between phases" in said for said in found.warnings)


def test_metres_become_millimetres(tmp_path: Path) -> None:
    data = nifti_bytes(tmp_path, values(), np.eye(4), (0.5, 0.25, 8, 1), units=("meter",))
    assert nifti.read_nifti(data).spacing_mm is None  # half a metre a pixel is no heart


def test_a_nifti_without_spacing_is_never_taken_for_1_mm(tmp_path: Path) -> None:
    read = nifti.read_nifti(nifti_bytes(tmp_path, values(), None))
    assert read.spacing_mm is None
    assert read.slice_spacing_mm is None
    assert read.voxel_mm3 is None
    assert any("no millilitres" in said for said in read.warnings)


@pytest.mark.parametrize(
    ("shape", "word"), [((64, 56, 4), "one phase"), ((64, 56), "one phase"), ((64, 56, 4, 3, 3), "single channel")]
)
def test_a_nifti_of_another_shape_says_why(tmp_path: Path, shape: tuple[int, ...], word: str) -> None:
    with pytest.raises(UnusableStudy, match=word):
        nifti.read_nifti(nifti_bytes(tmp_path, values(shape=shape), np.eye(4)))


def test_a_colour_nifti_says_three_channels(tmp_path: Path) -> None:
    rgb = np.zeros(SHAPE_XYZT, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    with pytest.raises(UnusableStudy, match="3 colour channels"):
        nifti.read_nifti(nifti_bytes(tmp_path, rgb, np.eye(4)))


def test_a_stream_is_inflated_no_further_than_its_header_is_good_for(tmp_path: Path) -> None:
    plain = nifti_bytes(tmp_path, values(shape=(64, 56, 4, 1)), np.eye(4), suffix=".nii")
    bomb = gzip.compress(plain + bytes(64 << 20), 1)
    tracemalloc.start()
    with pytest.raises(UnusableStudy, match="one phase"):
        nifti.read_nifti(bomb)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 4 << 20


def test_what_is_inflated_has_a_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = nifti_bytes(tmp_path, values(), np.eye(4), suffix=".nii")
    assert nifti.read_nifti(gzip.compress(plain + bytes(1000))).voxels_TZHW.any()  # what follows the voxels is no harm
    monkeypatch.setattr(nifti, "MAX_BYTES", len(plain) + 999)
    with pytest.raises(TooLarge, match="inflated"):
        nifti.read_nifti(gzip.compress(plain + bytes(2000)))
    monkeypatch.setattr(nifti, "MAX_BYTES", len(plain) - 1)
    for data in (plain, gzip.compress(plain)):
        with pytest.raises(TooLarge, match="holds"):
            nifti.read_nifti(data)


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    damaged = bytearray(nifti_bytes(tmp_path, values(), np.eye(4)))
    damaged[-6] ^= 1
    with pytest.raises(NotAnImage, match="damaged"):
        nifti.read_nifti(bytes(damaged))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a.nii", nifti_bytes(tmp_path, values(), np.eye(4), suffix=".nii"))
    damaged = bytearray(archive.getvalue())
    damaged[1000] ^= 1
    with pytest.raises(NotAnImage, match="checksum"):
        cines_in(bytes(damaged))


@pytest.mark.parametrize("offset", [1.0, -1.0, np.nan, np.inf, 3e9])
def test_voxels_that_begin_nowhere_are_a_damaged_file(tmp_path: Path, offset: float) -> None:
    data = nifti_bytes(tmp_path, values(), np.eye(4), suffix=".nii")
    damaged = data[:108] + np.float32(offset).tobytes() + data[112:]
    for sent in (damaged, gzip.compress(damaged)):
        with pytest.raises(NotAnImage, match="begin"):
            nifti.read_nifti(sent)


@pytest.mark.parametrize("keep", [10, 300, 2000])
def test_a_nifti_that_is_cut_off_is_no_image(tmp_path: Path, keep: int) -> None:
    data = nifti_bytes(tmp_path, values(), np.eye(4), suffix=".nii")
    with pytest.raises(NotAnImage):
        nifti.read_nifti(data[:keep])
    zipped = nifti_bytes(tmp_path, values(), np.eye(4))
    with pytest.raises(NotAnImage):
        nifti.read_nifti(zipped[: len(zipped) // 2])


def test_a_nifti_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    data = bytearray(nifti_bytes(tmp_path, values(), np.eye(4), suffix=".nii"))
    data[42:50] = np.array([30000, 30000, 100, 50], "<i2").tobytes()
    with pytest.raises(TooLarge):
        nifti.read_nifti(bytes(data))


# One short axis stack as DICOM


def write_stack(folder: Path, places_mm=(0, 10, 20, 30), phases: int = 3, skip=(), **changes) -> np.ndarray:
    """Files in a shuffled order of names; the values (T, Z, H, W)."""
    folder.mkdir(exist_ok=True)
    data = values(3, (phases, len(places_mm), 56, 64)) % 4000
    names = iter(np.random.default_rng(1).permutation(phases * len(places_mm)))
    for z, at_mm in enumerate(places_mm):
        for t in range(phases):
            if (t, z) not in skip:
                slice_file(folder, f"IM{next(names):04d}", at_mm, 40.0 * t, data[t, z], **changes)
    return data


def test_a_dicom_stack_is_sorted_by_place_and_time_not_by_name(tmp_path: Path) -> None:
    data = write_stack(tmp_path / "s")
    (found,) = read_cines(tmp_path / "s")
    assert np.array_equal(found.voxels_TZHW, data)
    assert found.spacing_mm == (1.4, 1.3)
    assert found.slice_spacing_mm == pytest.approx(10, abs=0.01)
    assert found.frame_time_ms == pytest.approx(40)
    assert np.linalg.norm(found.affine[:3, 0]) == pytest.approx(1.3, abs=1e-4)  # along a row: the column spacing
    assert np.linalg.norm(found.affine[:3, 1]) == pytest.approx(1.4, abs=1e-4)
    assert found.affine[:3, 3] == pytest.approx([-5, 3, 2], abs=1e-4)  # RAS of the first slice's LPS place


@pytest.mark.parametrize(("bits", "signed", "turned"), [(12, 0, 4095), (16, 1, -1)])
def test_monochrome1_has_its_brightest_value_at_the_top(tmp_path: Path, bits: int, signed: int, turned: int) -> None:
    changes = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": signed}
    stored = write_stack(tmp_path / "s", PhotometricInterpretation="MONOCHROME1", **changes)
    (found,) = read_cines(tmp_path / "s")
    assert np.array_equal(found.voxels_TZHW, turned - stored.astype(int))


def test_a_missing_slice_is_found_and_said(tmp_path: Path) -> None:
    write_stack(tmp_path / "s", places_mm=(0, 10, 30, 40))
    (found,) = read_cines(tmp_path / "s")
    assert found.present_TZ[0].tolist() == [True, True, False, True, True]
    assert any("1 slice(s) are missing" in said for said in found.warnings)


def test_unequal_phases_are_matched_and_said(tmp_path: Path) -> None:
    write_stack(tmp_path / "s", phases=4, skip=[(3, 2)])
    (found,) = read_cines(tmp_path / "s")
    assert found.phases == 4
    assert any("3 to 4 phases" in said for said in found.warnings)


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({"places_mm": (0, 10, 17, 30)}, "apart"),
        ({"phases": 1}, "one phase"),
        ({"places_mm": (0,)}, "1 slice"),
        ({"ImagePositionPatient": None}, "where its slice lies"),
        ({"SamplesPerPixel": 3}, "3 colour channels"),
    ],
)
def test_an_unusable_dicom_series_says_why(tmp_path: Path, how: dict, word: str) -> None:
    write_stack(tmp_path / "s", **how)
    with pytest.raises(UnusableStudy, match=word):
        read_cines(tmp_path / "s")


def test_dicom_without_pixel_spacing_gives_no_millilitres(tmp_path: Path) -> None:
    write_stack(tmp_path / "s", PixelSpacing=None)
    (found,) = read_cines(tmp_path / "s")
    assert found.voxel_mm3 is None
    assert any("no millilitres" in said for said in found.warnings)


def test_long_axis_planes_are_told_by_their_geometry(tmp_path: Path) -> None:
    write_stack(tmp_path / "s")
    heart = USUAL_AXIS / np.linalg.norm(USUAL_AXIS)
    flat = np.array([0.3, -0.2, 0.93]) - heart * (heart @ [0.3, -0.2, 0.93])
    for name, normal in (("four", flat), ("two", np.cross(heart, flat))):
        for t in range(3):
            slice_file(
                tmp_path / "s", f"{name}{t}", 0, 40.0 * t, values(t, (56, 64)), axis=normal / np.linalg.norm(normal)
            )
    assert [c.plane for c in read_cines(tmp_path / "s")] == ["short-axis", "4-chamber", "2-chamber"]


def test_a_still_or_another_modality_beside_the_cine_is_passed_over(tmp_path: Path) -> None:
    write_stack(tmp_path / "s")
    (tmp_path / "s" / "readme.txt").write_text("no image")
    (found,) = read_cines(tmp_path / "s")
    assert any("1 file(s) that are no MR image" in said for said in found.warnings)


def enhanced(folder: Path, data_TZHW: np.ndarray) -> None:
    """The stack of `write_stack` as one Enhanced MR file, its frames in no order."""
    slice_file(folder, "one", 0, 0, data_TZHW.reshape(-1, data_TZHW.shape[-1]), ImagePositionPatient=None)
    file = pydicom.dcmread(folder / "one")
    orientation, spacing = file.ImageOrientationPatient, file.PixelSpacing
    normal = np.cross(np.array(orientation[:3], float), np.array(orientation[3:], float))
    for keyword in ("ImageOrientationPatient", "PixelSpacing", "TriggerTime"):
        delattr(file, keyword)
    phases, slices, rows, _ = data_TZHW.shape
    order = np.random.default_rng(2).permutation(phases * slices)
    file.update({"SOPClassUID": ENHANCED_MR, "NumberOfFrames": len(order), "Rows": rows})
    file.PixelData = np.concatenate([data_TZHW.reshape(-1, rows, data_TZHW.shape[-1])[k] for k in order]).tobytes()
    shared, frames = Dataset(), []
    shared.PlaneOrientationSequence = [dataset(ImageOrientationPatient=orientation)]
    shared.PixelMeasuresSequence = [dataset(PixelSpacing=spacing)]
    for k in order:
        place = [round(float(v), 8) for v in normal * 10 * (k % slices)]
        groups = {"PlanePositionSequence": [dataset(ImagePositionPatient=place)]}
        groups["CardiacSynchronizationSequence"] = [dataset(NominalCardiacTriggerDelayTime=40.0 * (k // slices))]
        frames.append(dataset(**groups))
    file.SharedFunctionalGroupsSequence, file.PerFrameFunctionalGroupsSequence = [shared], frames
    file.save_as(folder / "one", enforce_file_format=True)


def dataset(**values: object) -> Dataset:
    made = Dataset()
    made.update(values)
    return made


def test_an_enhanced_mr_gives_the_same_cine_as_single_slices(tmp_path: Path) -> None:
    data = values(4, (3, 4, 56, 64)).astype(np.uint16)
    enhanced(tmp_path, data)
    (found,) = read_cines(tmp_path / "one")
    assert np.array_equal(found.voxels_TZHW, data)
    assert found.spacing_mm == (1.4, 1.3)
    assert found.slice_spacing_mm == pytest.approx(10, abs=0.01)
    assert found.frame_time_ms == pytest.approx(40)


@pytest.mark.parametrize("name", ["emri_small.dcm", "emri_small_RLE.dcm", "emri_small_jpeg_2k_lossless.dcm"])
def test_a_real_enhanced_mr_without_a_place_says_so(name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip("the public test data are not there")
    with pytest.raises(UnusableStudy, match="where its slice lies"):
        cines_in((DATA / name).read_bytes())


@pytest.mark.parametrize("name", ["SamplesPerPixel", "NumberOfFrames"])
def test_an_mr_header_with_two_numbers_for_one_is_a_damaged_file(tmp_path: Path, name: str) -> None:
    slice_file(tmp_path, "one", 0, 0, values(4, (56, 64)).astype(np.uint16), **{name: [1, 1]})
    with pytest.raises(NotAnImage, match="damaged"):
        cines_in((tmp_path / "one").read_bytes())


# Folders of pictures


def write_pictures(folder: Path, table: bool = True, colour: bool = False, **stated) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    data = (values(5, (2, 4, 60, 64)) // 16).astype(np.uint8)
    rows = []
    for t in range(2):
        for z in range(4):
            name = f"a{t}{z}.png" if table else f"SC-X-01-IM-0001-{20 * z + 7 * t + 1:04d}.dcm.png"
            picture = data[t, z] if not colour else np.dstack([data[t, z]] * 2 + [data[t, z] // 2])
            cv2.imwrite(str(folder / name), picture)
            rows.append({"file": name, "slice": z + 3, "phase": 7 * t} | stated)
    if table:
        with (folder / "frames.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return data


@pytest.mark.parametrize("table", [True, False])
def test_pictures_read_by_their_csv_or_by_their_numbers(tmp_path: Path, table: bool) -> None:
    data = write_pictures(tmp_path / "p", table=table)
    (found,) = read_cines(tmp_path / "p")
    assert np.array_equal(found.voxels_TZHW, data)
    assert found.voxel_mm3 is None
    assert not found.covers_beat


def test_spacings_of_the_csv_are_taken(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", row_spacing_mm=1.3, column_spacing_mm=1.2, slice_spacing_mm=8)
    (found,) = read_cines(tmp_path / "p")
    assert found.voxel_mm3 == pytest.approx(1.3 * 1.2 * 8)


def test_colour_pictures_say_three_channels(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", colour=True)
    with pytest.raises(UnusableStudy, match="3 different colour channels"):
        read_cines(tmp_path / "p")


def test_a_slice_missing_in_one_phase_is_absent_there(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", table=False)
    (tmp_path / "p" / "SC-X-01-IM-0001-0061.dcm.png").unlink()
    (found,) = read_cines(tmp_path / "p")
    assert found.present_TZ.tolist() == [[True, True, True, False], [True] * 4]


@pytest.mark.parametrize("content", [b"", b"hello", bytes(400)])
def test_what_is_no_image_is_refused_as_such(content: bytes) -> None:
    with pytest.raises(InputError):
        cines_in(content)


# The cine itself


@pytest.mark.parametrize(
    ("shape", "word"), [((1, 5, 64, 64), "phase"), ((4, 1, 64, 64), "slice"), ((4, 5, 32, 64), "48")]
)
def test_a_stack_that_can_not_be_measured_says_why(shape: tuple[int, ...], word: str) -> None:
    stack = cines.Cine("short-axis", np.arange(np.prod(shape)).reshape(shape))
    with pytest.raises(UnusableStudy, match=word):
        cines.check_short_axis(stack)


def test_turning_a_slice_and_back_changes_nothing_and_shows_it_as_scanners_do() -> None:
    right, down = np.array([-0.8, -0.6, 0.0]), np.array([0.0, -0.3, -0.95])  # RAS
    picture = values(1, (2, 3, 40, 50))
    for transpose in (False, True):
        for rows, columns in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
            affine = np.eye(4)
            axes = (rows * down, columns * right) if transpose else (columns * right, rows * down)
            affine[:3, 0], affine[:3, 1] = axes
            turn = cines.display_turn(affine)
            assert turn[0] == transpose
            stored = cines.turned_back(picture, turn)
            assert np.array_equal(cines.turned(stored, turn), picture)
