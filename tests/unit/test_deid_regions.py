"""Where the scan is, if the header does not say so or lies: listed devices, and the fan found in the pixels."""

import csv
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from tests.unit.test_deid_builder import COLUMNS, FRAMES, ROWS, clip, echo, frozen, region, run, set_native, written

SHAPE = (360, 480)
DOUBTS = [
    ([], "region-missing"),
    ([region(spatial_format=4, data_type=10)], "region-missing"),
    ([region((32, 32, ROWS + 40, 144))], "region-out-of-bounds"),
    ([region((32, 144, 112, 32))], "region-out-of-bounds"),
    ([region((0, 0, ROWS, COLUMNS))], "region-covers-image"),
]


def fan(frames: int = 12, seed: int = 3) -> np.ndarray:
    """A sector of moving speckle, with a bright wall that beats, on black: (frame, row, column, RGB)."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    depth, angle = np.hypot(row - 40, column - 240), np.arctan2(column - 240, row - 40)
    inside = (np.abs(angle) < 0.7) & (depth > 10) & (depth < 280)
    fans = []
    for number in range(frames):
        speckle = cv2.GaussianBlur(rng.normal(size=SHAPE), (0, 0), 1.5)
        level = np.clip(70 + 200 * speckle, 20, 160)
        level[np.abs(depth - 150 - 12 * np.sin(number)) < 5] = 200
        fans.append(np.where(inside, level, 0))
    return np.stack(fans).astype(np.uint8)[..., None].repeat(3, 3)


def screen(pixels: np.ndarray) -> np.ndarray:
    """What a scanner writes around the fan: a bar with a name, lines at the left, a clock that runs, a trace."""
    shown = pixels.copy()
    for number, frame in enumerate(shown):
        frame[:24] = (90, 60, 40)
        cv2.putText(frame, "ZWETSCHGEN, ROSALINDE", (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1)
        for line, text in enumerate(("MRN4711077", "17 MAR 2024", f"10:15:{number:02}", "HINTERWALD")):
            cv2.putText(frame, text, (4, 60 + 16 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 0), 1)
        cv2.line(frame, (20 + 10 * number, 350), (30 + 10 * number, 340 + number % 3), (0, 255, 0), 1)
    return shown


def ink(pixels: np.ndarray, plain: np.ndarray) -> np.ndarray:
    return np.asarray((pixels != plain).any(axis=3))


def test_case_16_halves_that_cover_the_image_together_are_a_region_over_all_of_it(tmp_path: Path) -> None:
    dataset = frozen()
    half = COLUMNS // 2
    dataset.SequenceOfUltrasoundRegions = [region((0, 0, ROWS, half)), region((0, half, ROWS, COLUMNS))]
    assert run(dataset, tmp_path).reason == "region-covers-image"


@pytest.mark.parametrize(("regions", "reason"), DOUBTS)
def test_case_16_a_region_that_cannot_be_right_is_held_where_nothing_moves(
    tmp_path: Path, regions: list[Dataset], reason: str
) -> None:
    dataset = frozen()
    dataset.SequenceOfUltrasoundRegions = regions
    outcome = run(dataset, tmp_path)
    assert (outcome.status, outcome.reason) == ("quarantined", reason)
    assert not (tmp_path / "out" / "dicom").exists()


@pytest.mark.parametrize(("regions", "reason"), DOUBTS)
def test_case_16_of_a_region_that_cannot_be_right_nothing_is_believed(
    tmp_path: Path, regions: list[Dataset], reason: str
) -> None:
    outcome = run(echo(SequenceOfUltrasoundRegions=regions), tmp_path)
    result = pixel_array(written(outcome, tmp_path))
    assert "region-found" in outcome.flags, reason
    assert result[:, :24].max() == 0  # the name in the border
    assert result[:, 48:96, 48:128].min() > 0  # the scan


@pytest.mark.parametrize("native", [False, True], ids=["jpeg", "native"])
def test_case_16_without_a_region_the_fan_that_moves_is_kept_and_all_captions_go(tmp_path: Path, native: bool) -> None:
    plain = fan()
    pixels = screen(plain)
    dataset = echo(pixels, SequenceOfUltrasoundRegions=[])
    if native:
        set_native(dataset, pixels, "RGB")
    outcome = run(dataset, tmp_path)
    result = pixel_array(written(outcome, tmp_path))
    assert result[ink(pixels, plain)].max() <= 2
    kept = (result.max(axis=(0, 3)) > 0) & (plain.max(axis=(0, 3)) > 0)
    assert kept.sum() > 0.9 * (plain.max(axis=(0, 3)) > 0).sum()
    assert "BurnedInAnnotation" in written(outcome, tmp_path)


def test_case_16_a_still_without_a_region_keeps_its_fan_and_makes_no_claim(tmp_path: Path) -> None:
    plain = fan(frames=1)
    pixels = screen(plain)
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[]), tmp_path)
    result = pixel_array(written(outcome, tmp_path))
    assert result[ink(pixels, plain)[0]].max() <= 2
    assert result[100:250, 220:260].max() > 0
    assert outcome.flags == ("region-found", "does-not-move")
    assert "BurnedInAnnotation" not in written(outcome, tmp_path)


def test_case_16_a_still_with_a_name_over_the_fan_is_held(tmp_path: Path) -> None:
    pixels = screen(fan(frames=1))
    cv2.putText(pixels[0], "ROSALINDE", (180, 190), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[]), tmp_path)
    assert outcome.reason in ("region-missing", "text-in-still")


def test_case_14_a_name_in_the_second_of_two_pictures_is_held(tmp_path: Path) -> None:
    pixels = fan(frames=2)
    cv2.putText(pixels[1], "ROSALINDE", (180, 190), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[region((32, 32, 336, 448))]), tmp_path)
    assert outcome.reason == "text-in-still"


def test_a_picture_too_small_to_tell_a_fan_from_letters_is_held(tmp_path: Path) -> None:
    dataset = echo(clip(shape=(60, 80)), SequenceOfUltrasoundRegions=[])
    assert run(dataset, tmp_path).reason == "region-missing"


def _devices() -> list[dict[str, str]]:
    with (resources.files("echoplane.deid") / "data" / "devices.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", _devices(), ids=lambda row: f"{row['model']} {row['rows']}x{row['columns']}")
def test_a_listed_device_has_its_scan_in_its_box(tmp_path: Path, row: dict[str, str]) -> None:
    shape = int(row["rows"]), int(row["columns"])
    top, left, bottom, right = (int(row[side]) for side in ("top", "left", "bottom", "right"))
    assert 0 <= top < bottom <= shape[0]
    assert 0 <= left < right <= shape[1]
    assert row["source"]
    rng = np.random.default_rng(5)
    pixels = np.stack([cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 2) for _ in range(FRAMES)])
    pixels = np.clip(110 + 300 * pixels, 30, 230).astype(np.uint8)[..., None].repeat(3, 3)
    machine = {"Manufacturer": row["manufacturer"].upper(), "ManufacturerModelName": row["model"] + " "}
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[], **machine), tmp_path)
    result = pixel_array(written(outcome, tmp_path)).max(axis=(0, 3))
    assert "region-of-device" in outcome.flags
    assert result[top + 16 : bottom - 16, left + 16 : right - 16].min() > 0
    result[top:bottom, left:right] = 0
    assert result.max() == 0


@pytest.mark.parametrize("row", _devices(), ids=lambda row: f"{row['model']} {row['rows']}x{row['columns']}")
def test_a_listed_device_leaves_out_a_border(row: dict[str, str]) -> None:
    top, left, bottom, right = (int(row[side]) for side in ("top", "left", "bottom", "right"))
    assert (bottom - top) * (right - left) <= 0.9 * int(row["rows"]) * int(row["columns"])


TIGHT = (45, 85, 321, 397)
"""Its sides cut coded units of 8 x 16 pixels; the sector of `fan` reaches the left and the right one."""


def kept(pixels: np.ndarray, folder: Path) -> np.ndarray:
    """Returns the lit pixels inside the box that are still lit."""
    result = pixel_array(written(run(echo(pixels, SequenceOfUltrasoundRegions=[region(TIGHT)]), folder), folder))
    box = np.s_[TIGHT[0] : TIGHT[2], TIGHT[1] : TIGHT[3]]
    lit = (pixels > 24).any(axis=(0, 3))[box]
    return np.asarray((result.max(axis=(0, 3))[box] > 2)[lit])


def test_a_scan_that_reaches_the_sides_of_its_region_keeps_its_border_in_jpeg(tmp_path: Path) -> None:
    pixels = fan()
    pixels[:, :, : TIGHT[1]] = pixels[:, :, TIGHT[3] :] = 0
    assert kept(pixels, tmp_path).mean() > 0.999


def test_beside_a_region_text_in_the_same_coded_unit_still_goes(tmp_path: Path) -> None:
    pixels = fan()
    pixels[:, :, : TIGHT[1]] = pixels[:, :, TIGHT[3] :] = 0
    cv2.putText(pixels[0], "|", (TIGHT[3], 180), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    beside = np.s_[:, :, TIGHT[3] : 400]
    for frame in pixels[1:]:
        frame[:, TIGHT[3] : 400] = pixels[0][:, TIGHT[3] : 400]
    assert pixels[beside].max() > 200
    dataset = echo(pixels, SequenceOfUltrasoundRegions=[region(TIGHT)])
    assert pixel_array(written(run(dataset, tmp_path), tmp_path))[beside].max() <= 2
