"""The pictures of a report: what is round in the patient is round on the page."""

import numpy as np
import pytest

from echoplane.study.cine import Cine
from echoplane.tasks.cmr_segmentation.outputs.report import TILE, heart_box, tile
from echoplane.tasks.cmr_segmentation.structures import LV_CAVITY


def disc(middle: tuple[int, int], spacing_mm: tuple[float, float]) -> tuple[Cine, np.ndarray]:
    """A bright disc of 14 mm radius in one slice of 72 x 72 pixels, and its labels."""
    row, column = np.mgrid[:72, :72]
    inside = np.hypot((row - middle[0]) * spacing_mm[0], (column - middle[1]) * spacing_mm[1]) < 14
    labels = np.where(inside, LV_CAVITY, 0).astype(np.uint8)[None, None]
    return Cine("short-axis", labels * np.uint8(200), spacing_mm, 8.0), labels


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (2.0, 1.0), (1.0, 2.5)])
@pytest.mark.parametrize("middle", [(36, 36), (14, 36), (36, 55), (15, 15)])
def test_a_round_heart_is_shown_round_wherever_it_lies(
    middle: tuple[int, int], spacing_mm: tuple[float, float]
) -> None:
    cine, labels = disc(middle, spacing_mm)
    picture = tile(cine, labels, 0, 0, heart_box(labels, spacing_mm))
    drawn = np.argwhere(picture[..., 0].astype(int) - picture[..., 1] > 60)  # the contour is red, all else is grey
    height, width = np.ptp(drawn, axis=0)
    assert height == pytest.approx(width, rel=0.08)
    assert height > 0.4 * TILE
    assert drawn.mean(axis=0) == pytest.approx([TILE / 2] * 2, abs=8)


def test_where_nothing_was_found_the_whole_picture_is_shown() -> None:
    labels = np.zeros((1, 1, 40, 72), np.uint8)
    rows, columns = heart_box(labels, (2.0, 1.0))
    assert rows.start <= 0 <= 40 <= rows.stop
    assert columns.start <= 0 <= 72 <= columns.stop
    assert 2 * (rows.stop - rows.start) == columns.stop - columns.start
    cine = Cine("short-axis", np.arange(labels.size, dtype=np.uint16).reshape(labels.shape), (2.0, 1.0))
    assert tile(cine, labels, 0, 0, (rows, columns)).shape == (TILE, TILE, 3)
