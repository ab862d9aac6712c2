"""Scan region of a clip whose header does not state it: found in its pixels, as de-identification finds it.

Axes: T frame, H row, W column; a block is 8 x 8 pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from echoplane.study import sector
from echoplane.study.study import Frames, Instance, Region

NO_SCAN = ("trace", "other")
"""Kinds of region that contain no scan."""
MIN_SIDE = 32
"""Minimum side in pixels; smaller regions are cropped thumbnails or errors."""
SAMPLED_FRAMES = 9
FOUND = "no usable scan region in the file: it was found in the pixels"


def with_scan_region(clip: Instance) -> Instance:
    """Returns the clip unchanged if its header states the scan region, else with its moving sector as its region.

    Pixels outside the sector are then black, as after de-identification. A clip whose sector cannot be found is
    returned unchanged.
    """
    if any(region.kind not in NO_SCAN and _is_usable(region, clip) for region in clip.regions):
        return clip
    if clip.frame_count < sector.MIN_FRAMES or not sector.large_enough((clip.rows, clip.columns)):
        return clip
    indices = np.linspace(0, clip.frame_count - 1, min(clip.frame_count, SAMPLED_FRAMES)).round().astype(int)
    blocks_HW = sector.find_moving_sector(clip.frames.grey(indices.tolist()))
    if blocks_HW is None:
        return clip
    scan_HW = sector.to_pixels(blocks_HW, clip.rows, clip.columns)
    return replace(
        clip,
        frames=SectorFrames(clip.frames, scan_HW),
        regions=(*clip.regions, _bounding_box(scan_HW)),
        warnings=(*clip.warnings, FOUND),
    )


def _is_usable(region: Region, clip: Instance) -> bool:
    rows = min(clip.rows, region.bottom) - max(0, region.top)
    columns = min(clip.columns, region.right) - max(0, region.left)
    return min(rows, columns) >= MIN_SIDE


def _bounding_box(scan_HW: np.ndarray) -> Region:
    rows, columns = np.flatnonzero(scan_HW.any(axis=1)), np.flatnonzero(scan_HW.any(axis=0))
    return Region("tissue", int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


@dataclass(frozen=True)
class SectorFrames:
    """Frames of a clip, black outside its sector."""

    frames: Frames
    scan_HW: np.ndarray
    """True inside the sector, in pixels of a whole frame."""

    def grey(self, indices: Sequence[int], smallest_side: int | None = None) -> np.ndarray:
        """Returns frames `indices` as uint8 (frame, row, column); see `echoplane.study.study.Frames`."""
        frames_THW = self.frames.grey(indices, smallest_side)
        size = (frames_THW.shape[2], frames_THW.shape[1])
        scan_HW = cv2.resize(self.scan_HW.astype(np.uint8), size, interpolation=cv2.INTER_AREA)
        return frames_THW * (scan_HW > 0)
