"""Strokes over a moving sector that do not change while everything around them does, and that stand out.

Letters that are too grey, too small or too near the rim of the sector for their edges to be certain still have this:
what a machine draws has one value in every frame. Walls of the heart move, and those that do not are blurred by the
width of the beam and stand out less. Axes: T frame, H row, W column.
"""

import cv2
import numpy as np

_STILL, _LIT = 14, 40  # grey levels: maximum range over time of a stroke in lossy JPEG; its minimum brightness
_LEAST_RANGE, _TIMES, _AROUND = 8, 2.5, 31  # the mean range over _AROUND pixels is _TIMES that of the stroke
_MIN_PIXELS, _THICKEST = 8, 4.5  # of one stroke; half its thickness in pixels
_CONTRAST = 45  # grey levels of the mean over time; still walls of the phantom have at most 30
_RING = 3  # pixels
_MIN_VOTES, _MIN_LENGTH, _LONGEST_GAP, _LINE_THICKNESS = 25, 56, 100, 9  # pixels of a drawn line; letters are shorter


def find(sample_THW: np.ndarray, where_HW: np.ndarray) -> np.ndarray:
    """Returns the pixels of still strokes. where_HW: pixels of the sector; sample_THW: frames of a moving clip."""
    range_HW, mean_HW = np.ptp(sample_THW, axis=0), sample_THW.mean(axis=0, dtype=np.float32)
    around_HW = cv2.blur(range_HW.astype(np.float32), (_AROUND, _AROUND))
    still_HW = (range_HW <= _STILL) & (around_HW >= _TIMES * np.maximum(range_HW, _LEAST_RANGE))
    still_HW &= (sample_THW.min(axis=0) > _LIT) & where_HW
    _, labels_HW, stats, _ = cv2.connectedComponentsWithStats(still_HW.astype(np.uint8))
    found_HW = np.zeros_like(still_HW)
    for label in np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= _MIN_PIXELS) + 1:
        left, top, width, height, _ = stats[label]
        margin = _RING + 1
        box = np.s_[max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin]
        stroke_HW = labels_HW[box] == label
        if _stands_out(stroke_HW, mean_HW[box]):
            found_HW[box] |= stroke_HW
    return found_HW & ~_lines(found_HW)


def remain(strokes_HW: np.ndarray, keep_HW: np.ndarray) -> bool:
    """Returns True if most of any stroke is in the pixels that are kept."""
    count, labels_HW = cv2.connectedComponents(strokes_HW.astype(np.uint8))
    size = np.bincount(labels_HW.ravel(), minlength=count)[1:]
    kept = np.bincount(labels_HW[keep_HW], minlength=count)[1:]
    return bool(((kept > size / 2) & (kept >= _MIN_PIXELS)).any())


def _lines(strokes_HW: np.ndarray) -> np.ndarray:
    """Returns the pixels at drawn lines, such as the outline of a colour box or a cursor, also if they are broken."""
    lines_HW = strokes_HW.astype(np.uint8)
    ends = cv2.HoughLinesP(lines_HW, 1, np.pi / 180, _MIN_VOTES, minLineLength=_MIN_LENGTH, maxLineGap=_LONGEST_GAP)
    lines_HW[:] = 0
    for x0, y0, x1, y1 in ends.reshape(-1, 4) if ends is not None else ():
        cv2.line(lines_HW, (int(x0), int(y0)), (int(x1), int(y1)), 1, _LINE_THICKNESS)
    return lines_HW > 0


def _stands_out(stroke_HW: np.ndarray, mean_HW: np.ndarray) -> bool:
    """Returns True if a stroke is thin, and far brighter than what lies around it."""
    thin = cv2.distanceTransform(np.pad(stroke_HW, 1).astype(np.uint8), cv2.DIST_L2, 3).max() <= _THICKEST
    near_HW, far_HW = (
        cv2.dilate(stroke_HW.astype(np.uint8), np.ones((size, size), np.uint8)) > 0 for size in (3, 2 * _RING + 1)
    )
    ring_HW = far_HW & ~near_HW
    return bool(thin and ring_HW.any() and mean_HW[stroke_HW].mean() - np.median(mean_HW[ring_HW]) >= _CONTRAST)
