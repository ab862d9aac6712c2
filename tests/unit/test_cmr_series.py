"""Which of a study's series is the cine, which pictures belong to one phase, and how bright they are."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from echoplane.errors import UnusableStudy
from echoplane.study.cine_files import read_cines
from tests.tiny_cine import STUDY, beating_heart, slice_file
from tests.unit.test_cmr_folders import PHASES, PICTURES_TZHW, SLICES, write_series

ROWS, COLUMNS = np.mgrid[:64, :64]
TAGS = (0.6 + 0.4 * np.cos(2 * np.pi * ROWS * 1.4 / 7)) * (0.6 + 0.4 * np.cos(2 * np.pi * COLUMNS * 1.3 / 7))


def times_of(folder: Path) -> dict[str, float]:
    """Trigger time by SOP instance UID."""
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.rglob("*.dcm")]
    return {str(header.SOPInstanceUID): float(header.TriggerTime) for header in headers}


@pytest.mark.parametrize(
    "attributes",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "P", "RETRO"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "VELOCITY MAP", "P", "PCA"]},
        {"ComplexImageComponent": "PHASE"},
        {"AcquisitionContrast": "TAGGING"},
        {"Tagging": "GRID"},
        {"PhaseContrast": "YES"},
    ],
)
def test_m7_a_later_series_that_is_no_plain_magnitude_stays_out(tmp_path: Path, attributes: dict) -> None:
    write_series(tmp_path, ImageType=["ORIGINAL", "PRIMARY", "M", "RETRO"])
    write_series(tmp_path, f"{STUDY}.7", brighter=90, **attributes)
    found = read_cines(tmp_path)[0]
    assert np.array_equal(found.voxels_TZHW, PICTURES_TZHW)
    assert any("phases, velocities or tags" in warning for warning in found.warnings)


def test_m7_a_tagged_cine_that_does_not_say_so_is_known_by_its_lines(tmp_path: Path) -> None:
    write_series(tmp_path, AcquisitionTime="101500")
    for t, z in np.ndindex(PHASES, SLICES):
        picture = (PICTURES_TZHW[t, z] * TAGS).astype(np.uint16)
        slice_file(tmp_path, f"tags-{t}-{z}.dcm", 9 * z + 0.05, 40.0 * t, picture,
                   SeriesInstanceUID=f"{STUDY}.7", AcquisitionTime="103000")  # fmt: skip
    assert np.array_equal(read_cines(tmp_path)[0].voxels_TZHW, PICTURES_TZHW)


def test_m7_phase_images_alone_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, ImageType=["ORIGINAL", "PRIMARY", "P"])
    with pytest.raises(UnusableStudy, match="no magnitude picture"):
        read_cines(tmp_path)


@pytest.mark.parametrize("later", ["a", "z"])
def test_m7_of_two_scans_of_a_stack_the_later_one_is_taken_whatever_its_name(tmp_path: Path, later: str) -> None:
    for name in "az":
        write_series(tmp_path / name, f"{STUDY}.{ord(name)}", AcquisitionTime="1100" if name == later else "1000",
                     brighter=5 if name == later else 0)  # fmt: skip
    assert np.array_equal(read_cines(tmp_path)[0].voxels_TZHW, PICTURES_TZHW + 5)


def test_m10_slope_and_intercept_differ_per_slice(tmp_path: Path) -> None:
    for t, z in np.ndindex(PHASES, SLICES):
        slope, intercept = 1 + 0.5 * z, 10.0 * z - 5
        slice_file(tmp_path, f"{t}-{z}.dcm", 9.0 * z, 40.0 * t, PICTURES_TZHW[t, z].astype(np.uint16),
                   RescaleSlope=slope, RescaleIntercept=intercept)  # fmt: skip
    found = read_cines(tmp_path)[0].voxels_TZHW
    for z in range(SLICES):
        assert np.allclose(found[:, z], PICTURES_TZHW[:, z] * (1 + 0.5 * z) + 10 * z - 5)


def test_m11_phases_of_unequal_slices_are_matched_by_trigger_time(tmp_path: Path) -> None:
    pictures = beating_heart(20, SLICES, 64)[0]
    moments = {0: range(20), 1: (0, 1), 2: (0, 8), 3: (0, 8), 4: (0, 8)}
    for z, phases in moments.items():
        for t in phases:
            slice_file(tmp_path, f"{t}-{z}.dcm", 9.0 * z, 40.0 * t, pictures[t, z].astype(np.uint16))
    found, times = read_cines(tmp_path)[0], times_of(tmp_path)
    assert found.phases == 2
    for t, expected_ms in enumerate((0.0, 320.0)):
        assert {times[found.sources[t, z][0]] for z in range(SLICES) if found.present_TZ[t, z]} == {expected_ms}
    assert found.present_TZ.tolist() == [[True] * 5, [True, False, True, True, True]]
    assert any("matched by trigger time" in warning for warning in found.warnings)


def test_m11_a_slice_of_more_phases_is_matched_to_its_neighbours_beat(tmp_path: Path) -> None:
    for z in range(SLICES):
        phases = 30 if z == 2 else 20
        pictures = beating_heart(phases, SLICES, 64)[0]
        for t in range(phases):
            slice_file(tmp_path, f"{t}-{z}.dcm", 9.0 * z, 800.0 / phases * t, pictures[t, z].astype(np.uint16))
    found, times = read_cines(tmp_path)[0], times_of(tmp_path)
    assert found.phases == 20
    assert found.present_TZ.all()
    for t in range(20):
        assert abs(times[found.sources[t, 2][0]] - 40 * t) <= 800 / 30 / 2 + 1


def test_m11_a_lost_picture_is_missing_at_its_own_phase(tmp_path: Path) -> None:
    write_series(tmp_path)
    (tmp_path / f"{STUDY}.1-4-2.dcm").unlink()
    found = read_cines(tmp_path)[0]
    assert np.argwhere(~found.present_TZ).tolist() == [[4, 2]]
    kept = found.present_TZ
    assert np.array_equal(found.voxels_TZHW[kept], PICTURES_TZHW[kept])


@pytest.mark.parametrize("series", [f"{STUDY}.1", f"{STUDY}.77"])
def test_m12_files_under_new_uids_are_named_as_doublets(tmp_path: Path, series: str) -> None:
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", series)
    found = read_cines(tmp_path)[0]
    assert (found.phases, found.slices) == (PHASES, SLICES)
    assert np.array_equal(found.voxels_TZHW, PICTURES_TZHW)
    assert [warning for warning in found.warnings if "doublets" in warning] == list(found.warnings)
    assert f"{PHASES * SLICES} file(s)" in found.warnings[0]


def test_m13_slices_a_little_unevenly_spaced_are_read_with_a_warning(tmp_path: Path) -> None:
    places_mm = np.cumsum([0, 9.7, 10.3, 10.0, 9.7])
    for t, z in np.ndindex(PHASES, SLICES):
        slice_file(tmp_path, f"{t}-{z}.dcm", places_mm[z], 40.0 * t, PICTURES_TZHW[t, z].astype(np.uint16))
    found = read_cines(tmp_path)[0]
    assert found.slice_spacing_mm == pytest.approx(places_mm[-1] / 4)
    assert any("9.7 to 10.3 mm apart" in warning for warning in found.warnings)


def test_m13_slices_of_two_spacings_are_still_refused(tmp_path: Path) -> None:
    for t, z in np.ndindex(PHASES, SLICES):
        slice_file(tmp_path, f"{t}-{z}.dcm", [0, 8, 16, 28, 40][z], 40.0 * t, PICTURES_TZHW[t, z].astype(np.uint16))
    with pytest.raises(UnusableStudy, match=r"8\.0 to 12\.0 mm apart"):
        read_cines(tmp_path)
