"""Ultrasound sector found in the pixels (module `study.sector`), if the header does not state it.

Axes: T frame, H row, W column; a block is 8 x 8 pixels.
"""

import numpy as np

from echoplane.deid import detector, text
from echoplane.deid.regions import Mask
from echoplane.study import sector


def find(sample_THW: np.ndarray) -> np.ndarray | None:
    """Returns the blocks of the sector, as (rows, columns) of blocks; None if it cannot be determined.

    sample_THW: some frames of the original in grey, spread over the clip."""
    if not sector.large_enough(sample_THW.shape):
        return None
    if len(sample_THW) >= sector.MIN_FRAMES:
        return sector.find_moving_sector(sample_THW)
    stills = [sector.find_still_sector(frame_HW, _text_blocks(frame_HW)) for frame_HW in sample_THW]
    found = [still for still in stills if still is not None]
    return np.logical_and.reduce(found).astype(bool) if len(found) == len(stills) else None


def _text_blocks(frame_HW: np.ndarray) -> np.ndarray:
    return sector.block_means(detector.lines(frame_HW).astype(np.uint8) * 255) > 0


def beside(sample_THW: np.ndarray, mask: Mask) -> np.ndarray:
    """Returns the blocks of stills above black level that are outside the sector in all of them.

    These are blackened as captions, and do not count as text over the scan.
    """
    found = [text.search(frame_HW[None], mask) for frame_HW in sample_THW]
    fan_HW = np.logical_or.reduce([one.fan for one in found])
    return np.asarray(np.logical_or.reduce([one.beside_fan for one in found]) & ~fan_HW)
