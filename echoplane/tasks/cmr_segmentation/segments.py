"""Thickness and thickening of the left ventricle's wall in the 17 segments of the American Heart Association.

Segments follow Cerqueira et al., Circulation 2002; 105: 539: thirds from base to apex; in the basal and middle third
the insertions of the right ventricle bound two septal segments, and the free wall is divided into four; in the apical
third the septal segment is a quarter around the middle of the septum. Segment 17, the apex beyond the cavity, lies
along a short axis slice and has no thickness there.

Thickness lies in the plane of the slice, so an oblique wall near the apex is measured a little too thick. Axes:
T phase, Z slice, H row, W column."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from echoplane.study.cine import Cine, display_turn, turned
from echoplane.tasks.cmr_segmentation.base_plane import from_base, surrounded_share
from echoplane.tasks.cmr_segmentation.structures import LV_CAVITY, MYOCARDIUM, RV_CAVITY

SOURCE = "Cerqueira et al., Circulation 2002; 105: 539"
LEVELS = ("basal", "mid", "apical")
AROUND = ("anterior", "anteroseptal", "inferoseptal", "inferior", "inferolateral", "anterolateral")
NAMES = (
    *(f"{level} {wall}" for level in LEVELS[:2] for wall in AROUND),
    *("apical anterior", "apical septal", "apical inferior", "apical lateral", "apex"),
)
"""Names of segments 1 to 17."""
CLOCKWISE = ((1, 6, 5, 4, 3, 2), (7, 12, 11, 10, 9, 8), (13, 16, 15, 14))
"""Segments of each level in clockwise order from the anterior insertion, as seen from the apex, the septum left."""
CLOSED_SHARE = 0.95
"""Minimum share of the cavity's outline along muscle for a slice to be measured: all around, as the source has it."""
FINE_MM = 0.4
"""Pixel to which masks are resampled before distances are measured."""
SMOOTHING_PIXELS = 0.7
"""Deviation of the smoothing of masks before that, in their own pixels: from the corners of a staircase, distances to
the other border are too short."""
MARGIN_MM = 12.0
TOUCH_MM = 3.0
"""Maximum distance of right ventricular blood from septal muscle, about the thickness of the right ventricle's wall."""
BIN_DEGREES = 4
MAX_GAP_BINS = 5
SEPTUM_DEGREES = (40.0, 200.0)
"""Plausible angle of the septum as seen from the cavity's centre; of another one no insertions are taken."""
MIN_PIXELS = 20


@dataclass(frozen=True)
class Segment:
    """Mean wall thickness of one segment; None where no slice with a closed ring of muscle shows it."""

    number: int
    name: str
    ed_mm: float | None = None
    es_mm: float | None = None

    @property
    def thickening_percent(self) -> float | None:
        """Returns 100 (ES - ED) / ED."""
        if self.ed_mm is None or self.es_mm is None:
            return None
        return 100 * (self.es_mm - self.ed_mm) / self.ed_mm

    def as_json(self) -> dict[str, Any]:
        values = {"ed_mm": self.ed_mm, "es_mm": self.es_mm, "thickening_percent": self.thickening_percent}
        shown = {name: None if value is None else round(value, 1) for name, value in values.items()}
        return {"number": self.number, "name": self.name} | shown


@dataclass(frozen=True)
class Wall:
    """The 17 segments, or the reason why there are none."""

    segments: tuple[Segment, ...] = ()
    missing: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"source": SOURCE, "missing": self.missing, "segments": [s.as_json() for s in self.segments]}


@dataclass(frozen=True)
class _Slice:
    """Wall of one slice: thickness and clockwise angle of each of its pixels, and the septum's angles."""

    thickness_mm: np.ndarray
    degrees: np.ndarray
    septum: tuple[float, float] | None
    """Angle of the inferior insertion, and the angle from there clockwise to the anterior one."""


def wall_segments(labels_TZHW: np.ndarray, stack: Cine, ed: int, es: int) -> Wall:
    """Returns the wall's segments at both ends of systole.

    Without a pixel size there are no millimetres, and without an orientation anterior and inferior can't be told apart.
    """
    if stack.spacing_mm is None:
        return Wall(missing="the files state no pixel size")
    if stack.affine is None:
        return Wall(missing="the files state no orientation, so anterior and inferior wall are not told apart")
    found = [_phase(labels_TZHW[t], stack, stack.present_TZ[t]) for t in (ed, es)]
    if not any(found):
        return Wall(missing="no slice shows a closed ring of muscle beside the right ventricle")
    ed_mm, es_mm = found
    return Wall(tuple(Segment(k, name, ed_mm.get(k), es_mm.get(k)) for k, name in enumerate(NAMES, 1)))


def _phase(labels_ZHW: np.ndarray, stack: Cine, present_Z: np.ndarray) -> dict[int, float]:
    """Returns the thickness (mm) by segment at one phase; empty if the right ventricle's insertions are not seen."""
    turn = display_turn(stack.affine, stack.plane)
    shown_ZHW, (row_mm, column_mm) = turned(labels_ZHW, turn), stack.spacing_mm or (0.0, 0.0)
    spacing_mm = (column_mm, row_mm) if turn[0] else (row_mm, column_mm)
    order = from_base(labels_ZHW)
    there = [k for k, z in enumerate(order) if (labels_ZHW[z] == LV_CAVITY).any()]
    levels: list[list[_Slice]] = [[] for _ in LEVELS]
    for k, z in enumerate(order):
        if k in there and present_Z[z] and surrounded_share(labels_ZHW[z]) >= CLOSED_SHARE:
            share = (k - there[0] + 0.5) / (there[-1] - there[0] + 1)
            found_slice = _slice(np.ascontiguousarray(shown_ZHW[z]), spacing_mm)
            levels[int(share * len(LEVELS))] += [found_slice] if found_slice else []
    septa = [_mean_septum(slices) for slices in levels[:2]]
    known = [septum for septum in septa if septum]
    if not known:
        return {}
    found: dict[int, float] = {}
    for slices, septum, numbers in zip(levels, (*septa, known[-1]), CLOCKWISE, strict=True):
        edges = _edges(septum or known[0], len(numbers))
        for number, start, end in zip(numbers, edges, edges[1:], strict=False):
            means = [mean for each in slices if (mean := _mean_between(each, start, end)) is not None]
            if means:
                found[number] = float(np.mean(means))
    return found


def _edges(septum: tuple[float, float], count: int) -> list[float]:
    """Returns the angles at which the segments of a level begin, clockwise; the last is where the first begins."""
    inferior, wide = septum
    if count == len(CLOCKWISE[-1]):
        first = inferior + wide / 2 + 45
        return [first + 90 * k for k in range(count + 1)]
    free = (360 - wide) / 4
    steps = [free, free, free, free, wide / 2, wide / 2]
    return [inferior + wide + sum(steps[:k]) for k in range(count + 1)]


def _mean_between(found: _Slice, start: float, end: float) -> float | None:
    inside = (found.degrees - start) % 360 < end - start
    return float(found.thickness_mm[inside].mean()) if inside.sum() >= MIN_PIXELS else None


def _slice(labels_HW: np.ndarray, spacing_mm: tuple[float, float]) -> _Slice | None:
    """Measures one slice as displayed: thickness is the sum of a pixel's distances to both borders of the wall.

    None if its cavity is so small that smoothing leaves none.
    """
    fine = _fine(labels_HW, spacing_mm)
    cavity, inside, right = (np.ascontiguousarray(mask, np.uint8) for mask in fine)
    if not cavity.any():
        return None
    to_cavity, to_outside = (
        cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for mask in (1 - cavity, inside)
    )
    wall = (inside == 1) & (cavity == 0)
    rows, columns = np.nonzero(wall)
    middle = np.argwhere(cavity).mean(axis=0)
    degrees = np.degrees(np.arctan2(rows - middle[0], columns - middle[1])) % 360
    thickness_mm = (to_cavity + to_outside - 1)[wall] * FINE_MM
    septum = None
    if right.any():
        to_right_mm = cv2.distanceTransform(1 - right, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[wall] * FINE_MM
        septum = _septum(degrees[(to_outside[wall] < 2) & (to_right_mm <= TOUCH_MM)])
    return _Slice(thickness_mm, degrees, septum)


def _fine(labels_HW: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns masks of the cavity, of cavity and wall, and of the right ventricle around them, in pixels of FINE_MM."""
    rows, columns = np.nonzero(np.isin(labels_HW, (LV_CAVITY, MYOCARDIUM)))
    margins = [int(np.ceil(MARGIN_MM / mm)) for mm in spacing_mm]
    cut_HW = np.pad(labels_HW, [(m, m) for m in margins])[
        rows.min() : rows.max() + 2 * margins[0] + 1, columns.min() : columns.max() + 2 * margins[1] + 1
    ]
    height, width = (max(1, round(n * mm / FINE_MM)) for n, mm in zip(cut_HW.shape, spacing_mm, strict=True))
    across, down = (SMOOTHING_PIXELS * mm / FINE_MM for mm in reversed(spacing_mm))

    def smooth(*values: int) -> np.ndarray:
        mask = cv2.resize(np.isin(cut_HW, values).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), across, sigmaY=down) > 0.5)

    return smooth(LV_CAVITY), smooth(LV_CAVITY, MYOCARDIUM), smooth(RV_CAVITY)


def _septum(degrees: np.ndarray) -> tuple[float, float] | None:
    """Returns where the longest run of these angles begins, clockwise, and how long it is; None if implausible."""
    count = 360 // BIN_DEGREES
    touches = np.bincount((degrees // BIN_DEGREES).astype(int) % count, minlength=count) > 0
    closed = touches.astype(np.uint8)[None]
    kernel = np.ones((1, MAX_GAP_BINS), np.uint8)
    wrapped = cv2.morphologyEx(np.tile(closed, 3), cv2.MORPH_CLOSE, kernel)[0, count : 2 * count].astype(bool)
    if wrapped.all() or not wrapped.any():
        return None
    free = int(np.flatnonzero(~wrapped)[0])
    rolled = np.roll(wrapped, -free)
    ends = np.flatnonzero(np.diff(np.concatenate([[0], rolled.astype(int), [0]]))).reshape(-1, 2)
    first, last = max(ends, key=lambda run: run[1] - run[0])
    wide = float((last - first) * BIN_DEGREES)
    low, high = SEPTUM_DEGREES
    return ((first + free) * BIN_DEGREES % 360, wide) if low <= wide <= high else None


def _mean_septum(slices: list[_Slice]) -> tuple[float, float] | None:
    """Returns the mean of both insertions over slices; None if no slice shows them."""
    septa = [each.septum for each in slices if each.septum]
    if not septa:
        return None
    inferior, anterior = (
        _mean_degrees(ends) for ends in ([s for s, _ in septa], [start + wide for start, wide in septa])
    )
    return inferior, (anterior - inferior) % 360


def _mean_degrees(degrees: list[float]) -> float:
    return float(np.degrees(np.angle(np.exp(1j * np.radians(degrees)).mean())) % 360)
