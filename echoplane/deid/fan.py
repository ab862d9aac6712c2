"""The scan found in the pixels, where the header does not say where it is.

In a clip the heart moves and captions do not: the largest area that changes over time is the scan, and its hull is
the fan. A still gives less: there the scan is the largest area with the texture of speckle that is left without all
that the network takes for letters, and none of those may lie in its hull. Where neither is plain, nothing is found.
Axes: T frame, H row, W column; a block is 8 x 8 pixels.
"""

import cv2
import numpy as np

from echoplane.deid import detector, text
from echoplane.deid.regions import Mask

MIN_FRAMES = 5  # fewer say nothing of what moves
_MOVING_LEVELS = 3.0  # grey levels, of the mean of a block over time
_LIT = 10.0  # grey levels
_TEXTURE = 1.0  # mean |Laplacian|; flat bars behind captions have less
_MIN_SHARE = 0.08  # of the image; a moving trace or a clock is smaller
_OPENING_BLOCKS = 3  # lines of text are thinner
_SMALLEST_SIDE_BLOCKS = 12  # below it neither a fan nor letters can be told


def find(sample_THW: np.ndarray) -> np.ndarray | None:
    """Blocks of the scan, as (rows, columns) of blocks; None where it can't be told from the rest.

    sample_THW: some frames of the original in grey, spread over the clip."""
    if min(sample_THW.shape[1:]) < _SMALLEST_SIDE_BLOCKS * text.BLOCK:
        return None
    if len(sample_THW) < MIN_FRAMES:
        stills = [_still(frame_HW) for frame_HW in sample_THW]
        found = [still for still in stills if still is not None]
        return np.logical_and.reduce(found).astype(bool) if len(found) == len(stills) else None
    eighth_THW = np.stack([text.eighth(frame) for frame in sample_THW])
    return _largest(np.ptp(eighth_THW, axis=0) > _MOVING_LEVELS)


def _still(frame_HW: np.ndarray) -> np.ndarray | None:
    letters_HW = text.eighth(detector.lines(frame_HW).astype(np.uint8) * 255) > 0
    edges_HW = cv2.convertScaleAbs(cv2.Laplacian(frame_HW, cv2.CV_16S))
    lit_HW = (text.eighth(frame_HW) > _LIT) & (text.eighth(edges_HW) > _TEXTURE)
    found = _largest(lit_HW & ~letters_HW)
    return None if found is None or (text.shrunk(found, 1) & letters_HW).any() else found & ~letters_HW


def _largest(blocks_HW: np.ndarray) -> np.ndarray | None:
    """The hull of the largest connected area, where it is large enough to be a scan."""
    kernel = np.ones((_OPENING_BLOCKS, _OPENING_BLOCKS), np.uint8)
    opened = cv2.morphologyEx(blocks_HW.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    count, labels_HW, stats, _ = cv2.connectedComponentsWithStats(opened)
    if count < 2:
        return None
    label = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    hull_HW = np.zeros(blocks_HW.shape, np.uint8)
    points_xy = np.argwhere(labels_HW == label)[:, ::-1].astype(np.int32)
    cv2.fillConvexPoly(hull_HW, cv2.convexHull(points_xy), 1)
    return hull_HW.astype(bool) if hull_HW.mean() >= _MIN_SHARE else None


def beside(sample_THW: np.ndarray, mask: Mask) -> np.ndarray:
    """Of stills, the blocks that are lit but beside the fan in all of them; captions there are no letters over it."""
    found = [text.search(frame_HW[None], mask) for frame_HW in sample_THW]
    fan_HW = np.logical_or.reduce([one.fan for one in found])
    return np.asarray(np.logical_or.reduce([one.beside_fan for one in found]) & ~fan_HW)
