"""Finds the ultrasound sector in the pixels, for files whose header does not state it.

In a clip the heart moves and captions do not: the largest area that changes over time is the scan, and its hull is
the sector. In a still the scan is the largest area with the texture of speckle after all blocks that a text detector
has marked are removed, and no marked block may lie inside its hull. If the area is not clear, no sector is found.
Axes: T frame, H row, W column; a block is 8 x 8 pixels.
"""

import cv2
import numpy as np

BLOCK = 8
"""Pixels per side of a block."""
MIN_FRAMES = 5
"""Fewer frames do not show what moves."""
_MOVING_LEVELS = 3.0  # grey levels, of the mean of a block over time
_LIT_LEVELS = 10.0
_TEXTURE = 1.0  # mean |Laplacian|; flat bars behind captions have less
_MIN_SHARE = 0.08  # of the image; a moving trace or a clock is smaller
_MIN_PART = 0.01  # of the largest area; a clock or a number that changes is smaller
_OPENING_BLOCKS = 3  # lines of text are thinner
_TIP_BLOCKS, _WIDE_BLOCKS = 3, 8  # height of a tip; width that a tip does not reach
_MIN_SIDE_BLOCKS = 12  # a sector cannot be distinguished from letters in smaller pictures


def large_enough(shape: tuple[int, ...]) -> bool:
    """Returns True if a sector can be distinguished from letters in pictures of this shape, (..., rows, columns)."""
    return min(shape[-2:]) >= _MIN_SIDE_BLOCKS * BLOCK


def find_moving_sector(sample_THW: np.ndarray) -> np.ndarray | None:
    """Returns the blocks of the hull of what moves, as (rows, columns) of blocks; None if no area is large enough.

    sample_THW: at least MIN_FRAMES grey frames, spread over the clip."""
    means_THW = np.stack([block_means(frame_HW) for frame_HW in sample_THW])
    return _large_hull(np.ptp(means_THW, axis=0) > _MOVING_LEVELS)


def find_still_sector(frame_HW: np.ndarray, text_HW: np.ndarray) -> np.ndarray | None:
    """Returns the blocks of the hull of what has texture; None if it is small, or if text lies inside it.

    text_HW: blocks that a text detector has marked."""
    lit_HW = (block_means(frame_HW) > _LIT_LEVELS) & has_texture(frame_HW)
    hull_HW = _large_hull(lit_HW & ~text_HW)
    return None if hull_HW is None or (shrink(hull_HW) & text_HW).any() else hull_HW & ~text_HW


def has_texture(frame_HW: np.ndarray) -> np.ndarray:
    """Returns the blocks that have texture, as speckle has."""
    return np.asarray(block_means(cv2.convertScaleAbs(cv2.Laplacian(frame_HW, cv2.CV_16S))) > _TEXTURE)


def scan_hull(lit_HW: np.ndarray, tissue_HW: np.ndarray) -> np.ndarray:
    """Returns the hull of the scan in one region, one block wider; empty if nothing is lit.

    Of what is lit the largest area is the scan, and of what moves or looks as tissue does every area that is not small
    beside it: a dark vessel or cavity can cut a sector in two. The opening separates the scan from lines of text."""
    lit, tissue = _areas(lit_HW), _areas(_closed(tissue_HW))
    largest = max((int(area.sum()) for area in lit[:1] + tissue[:1]), default=0)
    parts = lit[:1] + [area for area in tissue if area.sum() >= _MIN_PART * largest]
    if not parts:
        return np.zeros(lit_HW.shape, bool)
    return grow(hull(_with_tip(np.logical_or.reduce(parts), lit_HW | tissue_HW)))


def _with_tip(parts_HW: np.ndarray, scan_HW: np.ndarray) -> np.ndarray:
    """Returns the parts with what the opening has cut off above and below them: the tip of a sector is narrow.

    Lines of text, which are wide, are left out."""
    wide_HW = cv2.morphologyEx(scan_HW.astype(np.uint8), cv2.MORPH_OPEN, np.ones((1, _WIDE_BLOCKS), np.uint8))
    narrow_HW = scan_HW & (wide_HW == 0)
    for _ in range(_TIP_BLOCKS):
        above_below = cv2.dilate(parts_HW.astype(np.uint8), np.ones((3, 1), np.uint8)).astype(bool)
        parts_HW = parts_HW | (above_below & narrow_HW)
    return parts_HW


def _large_hull(blocks_HW: np.ndarray) -> np.ndarray | None:
    hull_HW = _largest_hull(blocks_HW)
    return hull_HW if hull_HW.mean() >= _MIN_SHARE else None


def _largest_hull(blocks_HW: np.ndarray) -> np.ndarray:
    areas = _areas(blocks_HW)
    return hull(areas[0]) if areas else np.zeros(blocks_HW.shape, bool)


def _areas(blocks_HW: np.ndarray) -> list[np.ndarray]:
    """Returns the connected areas that remain after an opening, the largest first."""
    _, labels_HW, stats, _ = cv2.connectedComponentsWithStats(opened(blocks_HW).astype(np.uint8))
    order = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")
    return [labels_HW == label for label in order]


def opened(blocks_HW: np.ndarray) -> np.ndarray:
    """Returns the blocks of areas that are thicker than a line of text."""
    kernel = np.ones((_OPENING_BLOCKS, _OPENING_BLOCKS), np.uint8)
    return np.asarray(cv2.morphologyEx(blocks_HW.astype(np.uint8), cv2.MORPH_OPEN, kernel).astype(bool))


def _closed(blocks_HW: np.ndarray) -> np.ndarray:
    kernel = np.ones((_OPENING_BLOCKS, _OPENING_BLOCKS), np.uint8)
    return cv2.morphologyEx(blocks_HW.astype(np.uint8), cv2.MORPH_CLOSE, kernel).astype(bool)


def hull(blocks_HW: np.ndarray) -> np.ndarray:
    """Returns the convex hull of at least one block."""
    filled_HW = np.zeros(blocks_HW.shape, np.uint8)
    cv2.fillConvexPoly(filled_HW, cv2.convexHull(np.argwhere(blocks_HW)[:, ::-1].astype(np.int32)), 1)
    return filled_HW.astype(bool)


def block_means(grey_HW: np.ndarray) -> np.ndarray:
    """Returns the mean of every block."""
    rows, columns = grey_HW.shape
    padded = np.pad(grey_HW, ((0, -rows % BLOCK), (0, -columns % BLOCK)))
    size = padded.shape[1] // BLOCK, padded.shape[0] // BLOCK
    return np.asarray(cv2.resize(padded, size, interpolation=cv2.INTER_AREA))


def to_pixels(blocks_HW: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Returns the pixels of blocks, as (rows, columns) of pixels."""
    return blocks_HW.repeat(BLOCK, 0).repeat(BLOCK, 1)[:rows, :columns]


def grow(blocks_HW: np.ndarray) -> np.ndarray:
    """Returns the blocks with their neighbours."""
    return cv2.dilate(blocks_HW.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)


def shrink(blocks_HW: np.ndarray, steps: int = 1) -> np.ndarray:
    """Returns the blocks without their outermost ones."""
    return cv2.erode(blocks_HW.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=steps).astype(bool)
