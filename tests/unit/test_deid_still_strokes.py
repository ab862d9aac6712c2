"""Grey and small letters, and letters at the rim of the sector, take away the claim; clean sectors keep it."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from echoplane.deid import still_strokes
from tests.unit.test_deid_builder import echo, region, run
from tests.unit.test_deid_regions import SHAPE, fan

BOX = (32, 32, 336, 448)
FLAG = "text-not-excluded"


def inked(text: str, at_xy: tuple[int, int], size: float, thick: int) -> np.ndarray:
    return cv2.putText(np.zeros(SHAPE, np.uint8), text, at_xy, cv2.FONT_HERSHEY_SIMPLEX, size, 255, thick) > 0


@pytest.mark.parametrize(
    ("text", "at_xy", "size", "level"),
    [
        ("J", (230, 240), 0.5, 150),
        ("Xi", (104, 236), 0.5, 230),
        ("l", (250, 210), 0.5, 160),
        ("o", (236, 98), 0.4, 200),
    ],
    ids=["grey J", "Xi at the rim", "grey stroke", "small o"],
)
def test_letters_that_are_hard_to_find_leave_no_claim(
    tmp_path: Path, text: str, at_xy: tuple[int, int], size: float, level: int
) -> None:
    pixels = fan()
    pixels[:, inked(text, at_xy, size, 2)] = level
    flags = run(echo(pixels, SequenceOfUltrasoundRegions=[region(BOX)]), tmp_path).flags
    assert FLAG in flags or "text-masked" in flags


@pytest.mark.parametrize("seed", range(3, 9))
def test_a_clean_sector_keeps_its_claim(tmp_path: Path, seed: int) -> None:
    outcome = run(echo(fan(seed=seed), SequenceOfUltrasoundRegions=[region(BOX)]), tmp_path)
    assert outcome.flags == ()


def strokes_of(change: np.ndarray, level: float) -> np.ndarray:
    grey_THW = fan()[..., 0].copy()
    grey_THW[:, change] = level
    return still_strokes.find(grey_THW, np.ones(SHAPE, bool))


def test_a_thin_still_stroke_is_found_and_a_thick_or_dim_area_is_not() -> None:
    assert strokes_of(inked("I", (240, 200), 0.7, 2), 170).any()
    wide = np.zeros(SHAPE, bool)
    wide[170:200, 220:260] = True
    assert not strokes_of(wide, 170).any()
    assert not strokes_of(inked("I", (240, 200), 0.7, 2), 120).any()


def test_a_stroke_of_which_most_is_masked_is_no_doubt() -> None:
    strokes_HW = inked("I", (240, 200), 0.7, 2)
    keep_HW = np.ones(SHAPE, bool)
    assert still_strokes.remain(strokes_HW, keep_HW)
    keep_HW[:196] = False
    assert not still_strokes.remain(strokes_HW, keep_HW)
