"""Anatomy inside a valid region stays, whatever the layout of the screen, and text in it still goes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from tests.unit.test_deid_builder import echo, region, run, set_frames, written
from tests.unit.test_deid_regions import fan

SCREEN = (480, 640)
MAX_LOST = 0.01
"""Of the lit pixels inside regions without text; the margin of one minimum coded unit is in it."""


def place(screen_THWC: np.ndarray, pixels_THWC: np.ndarray, box: tuple[int, int, int, int]) -> None:
    top, left, bottom, right = box
    for shown, frame in zip(screen_THWC, pixels_THWC, strict=True):
        shown[top:bottom, left:right] = cv2.resize(frame, (right - left, bottom - top), interpolation=cv2.INTER_AREA)


def strip(frames: int, spectral: bool) -> np.ndarray:
    """A trace over time that is drawn anew behind a running line: M-mode, or the velocities of blood."""
    rng = np.random.default_rng(8)
    speckle = cv2.GaussianBlur(rng.normal(size=(160, 560)), (0, 0), 1.5)
    row, column = np.mgrid[:160, :560]
    beat = 30 * np.abs(np.sin(column / 45))
    shape = (row > 120 - 3 * beat) & (row < 120) if spectral else np.abs(row - 80 - beat) > 12
    level = np.where(shape, np.clip(90 + 300 * speckle, 20, 220), 4)
    shown = np.stack([np.where(np.abs(column - 40 * number) < 4, 0, level) for number in range(frames)])
    return shown.astype(np.uint8)[..., None].repeat(3, 3)


def dual(frames: int) -> tuple[np.ndarray, list[Dataset]]:
    screen_THWC = np.zeros((frames, *SCREEN, 3), np.uint8)
    boxes = (64, 32, 352, 304), (96, 336, 320, 608)
    for number, box in enumerate(boxes):
        place(screen_THWC, fan(frames, seed=3 + number), box)
    return screen_THWC, [region(box) for box in boxes]


def above_strip(frames: int, spectral: bool) -> tuple[np.ndarray, list[Dataset]]:
    screen_THWC = np.zeros((frames, *SCREEN, 3), np.uint8)
    above, below = (48, 192, 240, 448), (272, 32, 448, 608)
    place(screen_THWC, fan(frames), above)
    place(screen_THWC, strip(frames, spectral), below)
    return screen_THWC, [region(above), region(below, *((3, 3) if spectral else (2, 1)))]


def cut(frames: int) -> tuple[np.ndarray, list[Dataset]]:
    """A sector that a vessel without echoes crosses from edge to edge."""
    screen_THWC = np.zeros((frames, *SCREEN, 3), np.uint8)
    box = (64, 64, 432, 576)
    place(screen_THWC, fan(frames), box)
    screen_THWC[:, 230:290] = 0
    return screen_THWC, [region(box)]


LAYOUTS = {
    "D15-dual": dual,
    "D15-spectral": lambda frames: above_strip(frames, spectral=True),
    "D15-m-mode": lambda frames: above_strip(frames, spectral=False),
    "D16-cut": cut,
}


@pytest.mark.parametrize("frames", [1, 12], ids=["still", "clip"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_d15_d16_every_valid_region_without_text_keeps_its_anatomy(tmp_path: Path, layout: str, frames: int) -> None:
    pixels, regions = LAYOUTS[layout](frames)
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=regions), tmp_path)
    if frames == 1 and outcome.reason == "text-in-still":
        return  # coarse speckle that a program can't tell from letters waits for a person, whole
    result = pixel_array(written(outcome, tmp_path)).reshape(pixels.shape)
    lit = (pixels > 24).any(axis=(0, 3))
    lost = lit & (result.max(axis=(0, 3)) <= 2)
    assert lost.sum() <= MAX_LOST * lit.sum()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_d15_captions_between_and_inside_the_regions_still_go(tmp_path: Path, layout: str) -> None:
    plain, regions = LAYOUTS[layout](12)
    pixels = plain.copy()
    for frame in pixels:
        cv2.putText(frame, "ZWETSCHGEN", (250, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
        cv2.putText(frame, "ROSALINDE", (230, 165), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 2)
    result = pixel_array(written(run(echo(pixels, SequenceOfUltrasoundRegions=regions), tmp_path), tmp_path))
    ink = (pixels != plain).any(axis=3)
    assert (result.max(axis=3)[ink] <= 2).mean() > 0.95


def test_the_share_of_the_scan_that_went_as_text_is_in_the_report_and_flagged(tmp_path: Path) -> None:
    pixels = fan()
    for frame in pixels:
        cv2.putText(frame, "ROSALINDE", (170, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[region((32, 32, 336, 448))]), tmp_path)
    assert 0.02 < outcome.scan_blackened < 0.3
    assert outcome.to_dict()["scan_blackened"] == outcome.scan_blackened
    assert "scan-blackened" in outcome.flags


def test_a_scan_of_which_most_would_go_is_held(tmp_path: Path) -> None:
    pixels = fan()
    for frame in pixels:
        for row in range(90, 320, 20):
            cv2.putText(frame, "ZWETSCHGEN ROSALINDE", (80, row), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[region((32, 32, 336, 448))]), tmp_path)
    assert (outcome.status, outcome.reason) == ("quarantined", "scan-blackened")


@pytest.mark.parametrize("colours", [1, 3])
def test_d18b_a_jpeg_of_another_number_of_components_than_the_header_says_is_held(tmp_path: Path, colours: int) -> None:
    dataset = echo(fan(), SequenceOfUltrasoundRegions=[region((32, 32, 336, 448))])
    if colours == 3:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        del dataset.PlanarConfiguration
    else:
        set_frames(dataset, [simplejpeg.encode_jpeg(frame[..., :1].copy(), 90, colorspace="GRAY") for frame in fan()])
    assert run(dataset, tmp_path).reason == "codec"


def test_a_frozen_second_picture_in_one_region_is_held_and_not_blackened(tmp_path: Path) -> None:
    pixels, _ = dual(12)
    pixels[:, :, 320:] = pixels[:1, :, 320:]
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[region((64, 32, 352, 608))]), tmp_path)
    assert (outcome.status, outcome.reason) == ("quarantined", "scan-blackened")
