"""Wall thickness and thickening by segment, on walls of known thickness."""

from collections.abc import Callable

import numpy as np
import pytest

from echoplane.study.cine import SHOWN_ALONG, Cine
from echoplane.tasks.cmr_segmentation.segments import NAMES, Wall, wall_segments
from echoplane.tasks.cmr_segmentation.structures import LV_CAVITY, MYOCARDIUM, RV_CAVITY

SPACING_MM, SLICES, SIZE = (1.5, 1.3), 9, 110


def displayed_affine() -> np.ndarray:
    """RAS affine of a stack that is stored as it is displayed: the septum left, the anterior wall up."""
    right, down = (axis / np.linalg.norm(axis) for axis in SHOWN_ALONG["short-axis"])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = right * SPACING_MM[1], down * SPACING_MM[0]
    affine[:3, 2] = 8 * np.cross(right, down)
    return affine


def heart(wall_mm: Callable[[np.ndarray], np.ndarray], taper: float, radius_mm: float = 24.0) -> np.ndarray:
    """Labels (slice, row, column) of a cone of blood in a wall whose thickness goes by angle, clockwise from right.

    The right ventricle lies left of it and touches from 130 to 230 degrees."""
    row, column = np.mgrid[:SIZE, :SIZE]
    y, x = (row - SIZE / 2 + 0.3) * SPACING_MM[0], (column - SIZE / 2 - 0.2) * SPACING_MM[1]
    r, degrees = np.hypot(x, y), np.degrees(np.arctan2(y, x)) % 360
    labels = np.zeros((SLICES, SIZE, SIZE), np.uint8)
    for z in range(SLICES):
        inner = radius_mm - taper * z
        outer = inner + wall_mm(degrees)
        labels[z][(np.abs(degrees - 180) < 50) & (r < outer + 15)] = RV_CAVITY
        labels[z][r < outer] = MYOCARDIUM
        labels[z][r < inner] = LV_CAVITY
    return labels


def measured(ed: np.ndarray, es: np.ndarray, turn: Callable[[np.ndarray], np.ndarray] = lambda a: a, **known) -> Wall:
    labels = np.stack([turn(ed), turn(es)])
    given = {"spacing_mm": SPACING_MM, "slice_spacing_mm": 8.0, "affine": displayed_affine()} | known
    stack = Cine("short-axis", np.zeros(labels.shape, np.uint8), covers_beat=False, **given)
    return wall_segments(labels, stack, 0, 1)


@pytest.mark.parametrize("taper", [0.3, 1.2])
def test_the_wall_of_a_cylinder_or_cone_is_as_thick_as_it_was_made(taper: float) -> None:
    wall = measured(heart(lambda a: a * 0 + 8.0, taper), heart(lambda a: a * 0 + 12.0, taper, radius_mm=17.0))
    assert [segment.name for segment in wall.segments] == list(NAMES)
    for segment in wall.segments[:16]:
        assert segment.ed_mm == pytest.approx(8, rel=0.05)
        assert segment.es_mm == pytest.approx(12, rel=0.05)
        assert segment.thickening_percent == pytest.approx(50, abs=8)
    assert wall.segments[16].ed_mm is None, "the apex lies along a short axis slice"


@pytest.mark.parametrize(
    ("at", "basal", "apical"),
    [(260, 1, 13), (205, 2, 14), (155, 3, 14), (100, 4, 15), (30, 5, 16), (330, 6, 16)],
)
def test_a_wall_thickened_in_one_sector_shows_in_its_segment(at: float, basal: int, apical: int) -> None:
    def bulge(degrees: np.ndarray) -> np.ndarray:
        return 8 + 6 * (np.abs((degrees - at + 180) % 360 - 180) < 18)

    thin = heart(lambda a: a * 0 + 8.0, 0.3)
    wall = measured(heart(bulge, 0.3), thin)
    thickest = [max(wall.segments[a:b], key=lambda s: s.ed_mm).number for a, b in ((0, 6), (6, 12))]
    assert thickest == [basal, basal + 6]
    others = [s.ed_mm for s in wall.segments[:6] if s.number != basal]
    assert wall.segments[basal - 1].ed_mm > 1.15 * max(others)
    assert wall.segments[apical - 1].ed_mm > 8.5


def test_segments_do_not_depend_on_how_the_picture_is_stored() -> None:
    ed = heart(lambda a: 8 + 4 * (np.abs(a - 280) < 25), 0.3)
    plain, thin = displayed_affine(), heart(lambda a: a * 0 + 9.0, 0.3, radius_mm=18.0)
    mirrored = plain.copy()
    mirrored[:3, 0] *= -1
    transposed = plain[:, [1, 0, 2, 3]]
    expected = measured(ed, thin).as_json()
    assert measured(ed, thin, lambda a: a[..., ::-1], affine=mirrored).as_json() == expected
    other = measured(ed, thin, lambda a: a.swapaxes(1, 2), affine=transposed, spacing_mm=SPACING_MM[::-1])
    assert other.as_json() == expected


def test_a_missing_or_open_slice_is_not_measured() -> None:
    ed = heart(lambda a: a * 0 + 8.0, 0.3)
    ed[0, :40] = np.where(ed[0, :40] == MYOCARDIUM, 0, ed[0, :40])  # the outflow tract: no muscle above
    ed[1] = heart(lambda a: a * 0 + 14.0, 0.3)[1]
    present = np.ones((2, SLICES), bool)
    present[0, 1] = False
    wall = measured(ed, heart(lambda a: a * 0 + 8.0, 0.3), present_TZ=present)
    assert wall.segments[0].ed_mm == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize(
    ("known", "reason"), [({"affine": None}, "no orientation"), ({"spacing_mm": None}, "no pixel size")]
)
def test_what_the_files_do_not_state_is_said(known: dict, reason: str) -> None:
    ed = heart(lambda a: a * 0 + 8.0, 0.3)
    wall = measured(ed, ed, **known)
    assert not wall.segments
    assert reason in wall.missing


def test_without_a_right_ventricle_no_segment_is_named() -> None:
    ed = heart(lambda a: a * 0 + 8.0, 0.3)
    ed[ed == RV_CAVITY] = 0
    assert "right ventricle" in measured(ed, ed).missing


def test_a_cavity_of_a_single_pixel_is_passed_over() -> None:
    ed = heart(lambda a: a * 0 + 8.0, 0.3)
    ed[-1][ed[-1] == LV_CAVITY] = MYOCARDIUM
    ed[-1][SIZE // 2, SIZE // 2] = LV_CAVITY
    wall = measured(ed, ed)
    assert [segment.ed_mm for segment in wall.segments[12:16]] == pytest.approx([8] * 4, rel=0.05)
