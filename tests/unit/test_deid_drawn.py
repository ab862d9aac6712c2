"""Burned-in letters over the sector that are no line of text, and drawn lines that are no letters."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.pixels import pixel_array

from echoplane.deid import drawn
from echoplane.deid.regions import Box, Mask
from tests.unit.test_deid_builder import echo, region, run, written
from tests.unit.test_deid_regions import SHAPE, fan

BOX = (32, 32, 336, 448)
FONT, HEAVY = cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX


def inked(text: str, at_xy: tuple[int, int], size: float, thick: int, font: int = FONT) -> np.ndarray:
    return cv2.putText(np.zeros(SHAPE, np.uint8), text, at_xy, font, size, 255, thick, cv2.LINE_AA) > 128


def far_apart() -> np.ndarray:
    return np.logical_or.reduce([inked(letter, (150 + 50 * k, 240), 0.8, 2) for k, letter in enumerate("LEEM")])


def dot_matrix() -> np.ndarray:
    small = cv2.putText(np.zeros((12, 50), np.uint8), "ROSALIND", (1, 9), FONT, 0.28, 255, 1) > 0
    dots = np.zeros(SHAPE, bool)
    for row, column in np.argwhere(small):
        dots[180 + 4 * row : 182 + 4 * row, 150 + 4 * column : 152 + 4 * column] = True
    return dots


def stacked() -> np.ndarray:
    return np.logical_or.reduce([inked(letter, (236, 120 + 26 * k), 0.7, 2) for k, letter in enumerate("ROSALI")])


def as_high_as_the_heart() -> np.ndarray:
    return inked("LEE", (140, 270), 4.6, 22, HEAVY)


def two_letters() -> np.ndarray:
    return inked("HU", (220, 230), 0.8, 2)


INK = {f.__name__: f for f in (far_apart, dot_matrix, stacked, as_high_as_the_heart, two_letters)}


def written_with(ink_HW: np.ndarray, level: int, folder: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Returns the clip before and after in grey, and the flags."""
    pixels = fan()
    pixels[:, ink_HW] = level
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[region(BOX)]), folder)
    return pixels[..., 0], pixel_array(written(outcome, folder))[..., 0], outcome.flags


@pytest.mark.parametrize("kind", INK)
def test_d12_letters_that_are_no_line_of_text_are_masked(tmp_path: Path, kind: str) -> None:
    ink_HW = INK[kind]()
    _, after, _ = written_with(ink_HW, 245, tmp_path)
    assert (after[:, ink_HW] <= 2).mean() > 0.98


def test_d12_faint_letters_that_may_be_left_take_the_claim_away(tmp_path: Path) -> None:
    pixels = fan()
    pixels[:, dot_matrix()] = 170
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[region(BOX)]), tmp_path)
    dataset = written(outcome, tmp_path)
    assert outcome.flags == ("text-not-excluded",)
    assert "BurnedInAnnotation" not in dataset
    assert "113101" not in [code.CodeValue for code in dataset.DeidentificationMethodCodeSequence]


def outline() -> np.ndarray:
    """The outline of a colour box."""
    corners = np.array([[190, 130], [290, 130], [320, 260], [160, 260]], np.int32)
    return cv2.polylines(np.zeros(SHAPE, np.uint8), [corners], isClosed=True, color=255) > 0


def cursor() -> np.ndarray:
    return cv2.line(np.zeros(SHAPE, np.uint8), (240, 60), (180, 280), 255, 1) > 0


@pytest.mark.parametrize("line", [outline, cursor], ids=lambda line: line.__name__)
def test_d12_a_drawn_line_is_no_letter_and_the_anatomy_under_it_stays(
    tmp_path: Path, line: Callable[[], np.ndarray]
) -> None:
    before, after, flags = written_with(line(), 230, tmp_path)
    assert flags == ()
    lit = before > 24
    assert (after[lit] <= 2).mean() < 0.001


def test_edges_of_one_side_are_a_wall_and_of_both_sides_a_stroke() -> None:
    clip_THW = np.full((6, 160, 240), 60, np.uint8)
    clip_THW[:, 60:63, 40:100] = clip_THW[:, 80:83, 40:100] = 250  # wide letters: strokes with two sides
    clip_THW[:, 60:83, 40:43] = clip_THW[:, 60:83, 97:100] = 250
    clip_THW[:, 60:100, 150:220] = np.linspace(250, 60, 40, dtype=np.uint8)[:, None]  # a wall: bright, then fading
    fan_HW, strips_HW = np.ones((2, 20, 30), bool)
    found = drawn.edges(clip_THW, fan_HW, ~strips_HW, Mask((Box(0, 0, 160, 240),)))
    wall_HW = np.zeros(found.min_HW.shape, bool)
    wall_HW[57:63, 155:215] = True
    stroke_HW = np.zeros_like(wall_HW)
    stroke_HW[55:68, 35:105] = True
    groups_HW = (found.min_HW > 20) & (wall_HW | stroke_HW)
    assert (groups_HW & wall_HW).any()
    assert (groups_HW & stroke_HW).any()
    kept_HW = drawn._with_both_sides(found, groups_HW)
    assert not (kept_HW & wall_HW).any()
    assert np.array_equal(kept_HW & stroke_HW, groups_HW & stroke_HW)
