"""Shared picture processing of the echo view tasks: scan region, size, and a check that the picture shows anything at
all.

Axes: T frame, H row, W column.
"""

import itertools
from collections.abc import Collection

import cv2
import numpy as np

from echoplane.study.scan_region import MIN_SIDE
from echoplane.study.study import Instance, Region

IMAGE_KINDS = ("tissue", "colour-flow")
CHECKED = 120
"""Maximum number of rows and columns at which a picture is checked."""
MIN_STRUCTURE = 15
"""Minimum difference in grey levels between the darkest and the brightest parts of a picture. Real ones have at least
90, the faintest synthetic ones 39, white noise 5."""
MIN_NEIGHBOUR_CORRELATION = 0.6
"""Minimum correlation of adjacent pixels. Real pictures have at least 0.87, synthetic ones 0.77, white noise 0.0."""
MAX_STILL_CHANGE = 0.35
"""Maximum mean change in grey levels between frames of a frozen picture: lossy compression changes about as much."""
MIN_FRAME_CORRELATION = 0.2
"""Minimum correlation of successive frames. Frames with less have nothing in common: a beating heart has at least
0.6."""


def scan_region(clip: Instance, kinds: Collection[str] = IMAGE_KINDS) -> tuple[Region, tuple[str, ...]]:
    """Returns the largest region of `kinds`, clipped to the image, or the whole image with a warning."""
    whole = Region("other", 0, 0, clip.rows, clip.columns)
    scans = [_clipped(region, clip) for region in clip.regions if region.kind in kinds]
    scans = [r for r in scans if min(r.bottom - r.top, r.right - r.left) >= MIN_SIDE]
    if not scans:
        return whole, ("no usable scan region in the file: the whole image was used, text included",)
    return max(scans, key=lambda region: region.area), ()


def _clipped(region: Region, clip: Instance) -> Region:
    return Region(
        region.kind,
        max(0, region.top),
        max(0, region.left),
        min(clip.rows, region.bottom),
        min(clip.columns, region.right),
        region.spacing_mm,
    )


def decoded_side(clip: Instance, region: Region, pixels: int) -> int:
    """Returns the shorter side of a decoded frame at which the region's longer side still has `pixels`."""
    longest = max(region.bottom - region.top, region.right - region.left)
    return int(np.ceil(min(clip.rows, clip.columns) * min(1.0, pixels / longest)))


def crop(frame_HW: np.ndarray, region: Region, clip: Instance) -> np.ndarray:
    """Returns the region of a frame, which may have been decoded at a smaller scale."""
    down, across = frame_HW.shape[0] / clip.rows, frame_HW.shape[1] / clip.columns
    top, bottom = round(region.top * down), round(region.bottom * down)
    left, right = round(region.left * across), round(region.right * across)
    return frame_HW[top:bottom, left:right]


def letterbox(frame_HW: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Returns a frame fitted into `rows` x `columns`, its aspect kept, with a black margin."""
    scale = min(rows / frame_HW.shape[0], columns / frame_HW.shape[1])
    height, width = (max(1, round(side * scale)) for side in frame_HW.shape)
    box = np.zeros((rows, columns), np.uint8)
    top, left = (rows - height) // 2, (columns - width) // 2
    box[top : top + height, left : left + width] = cv2.resize(frame_HW, (width, height), interpolation=cv2.INTER_AREA)
    return box


def reason_for_doubt(frames_THW: list[np.ndarray], frame_count: int) -> str:
    """Returns the reason why no view can be seen in cropped frames: no structure, noise, or no motion; empty if none
    applies.

    `frame_count` is that of the file: a still is not expected to move.
    """
    small = [_small(frame_HW) for frame_HW in frames_THW]
    if all(_structure(frame_HW) < MIN_STRUCTURE for frame_HW in small):
        return "the picture shows no structure: it is black, white or noise"
    if all(_neighbour_correlation(frame_HW) < MIN_NEIGHBOUR_CORRELATION for frame_HW in small):
        return "the picture is noise: adjacent pixels have nothing in common"
    if frame_count == 1 or len(small) == 1:
        return ""
    pairs = [(a.astype(np.float32), b.astype(np.float32)) for a, b in itertools.pairwise(small)]
    if max(float(np.abs(a - b).mean()) for a, b in pairs) < MAX_STILL_CHANGE:
        return "no motion: all frames show the same picture"
    if all(_correlation(a, b) < MIN_FRAME_CORRELATION for a, b in pairs):
        return "the frames have nothing in common"
    return ""


def _small(frame_HW: np.ndarray) -> np.ndarray:
    scale = min(1.0, CHECKED / max(frame_HW.shape))
    rows, columns = (max(1, round(side * scale)) for side in frame_HW.shape)
    return np.asarray(cv2.resize(frame_HW, (columns, rows), interpolation=cv2.INTER_AREA))


def _structure(frame_HW: np.ndarray) -> float:
    """Returns the difference in grey levels between bright and dark parts, each a twelfth of the sides."""
    parts = cv2.resize(frame_HW, (12, 12), interpolation=cv2.INTER_AREA).astype(float)
    low, high = np.percentile(parts, (5, 95))
    return float(high - low)


def _neighbour_correlation(frame_HW: np.ndarray) -> float:
    """Returns the correlation of adjacent lit pixels, along rows or columns, whichever is higher."""
    pairs = ((frame_HW[:, :-1], frame_HW[:, 1:]), (frame_HW[:-1], frame_HW[1:]))
    lit = [(a[(a > 0) & (b > 0)], b[(a > 0) & (b > 0)]) for a, b in pairs]
    return max(_correlation(a, b) for a, b in lit)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the correlation; 0 if one of the two is constant."""
    if len(one) < 2 or one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
