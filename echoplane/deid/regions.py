"""Scan regions: the boxes of an ultrasound image that may keep their pixels (PS3.3 C.8.5.5).

Only regions that show the scan itself count: 2D tissue and colour flow, M-mode, spectral Doppler. Traces (ECG,
respiration), colour bars and graphics hold labels and are blackened with the border. An invalid region is not
repaired: for a listed device the layout of `data/devices.csv` is used, else the scan must be found in the pixels.

Boxes are (top, left, bottom, right) in pixels, bottom and right exclusive. A block is 8 x 8 pixels.
"""

from dataclasses import dataclass, replace

import numpy as np
from pydicom.dataset import Dataset

from echoplane.deid import rules
from echoplane.deid.reasons import FileRejected
from echoplane.study.sector import to_pixels

# (RegionSpatialFormat, RegionDataType)
_SCAN = frozenset(((1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (3, 4)))
_SECTOR_FORMAT = 1  # 2D; the others run over time
# a larger share leaves no border for the text that every scanner writes, so the text must be inside the region
_MAX_AREA_FRACTION = 0.9
_BLACK = 32  # grey levels; the ringing of JPEG beside the border of the sector has less


@dataclass(frozen=True)
class Box:
    """Region of the scan."""

    top: int
    left: int
    bottom: int
    right: int
    is_strip: bool = False
    """True for M-mode and spectral Doppler, which fill their region: there is no sector with text outside it."""


@dataclass(frozen=True)
class Region:
    """Boxes of one file, and the reason if they are not those of the header."""

    boxes: tuple[Box, ...]
    doubt: str | None = None
    """Reason code if the box is the whole image and the scan has yet to be found in it; else None."""
    by_device: bool = False
    text_blocks: np.ndarray | None = None
    """Blocks in which text was found in the written pixels."""


@dataclass(frozen=True)
class Mask:
    """Kept pixels: the boxes, limited to the scan if it was found in the pixels, without blocks of text."""

    boxes: tuple[Box, ...]
    text_blocks: np.ndarray | None = None
    scan_blocks: np.ndarray | None = None
    """Blocks of the scan as found in the pixels, if the boxes are not reliable."""

    def without(self, blocks: np.ndarray) -> "Mask":
        """Returns the mask with these blocks blackened too."""
        if not blocks.any():
            return self
        found = blocks if self.text_blocks is None else self.text_blocks | blocks
        return replace(self, text_blocks=found)

    def keeps(self, rows: int, columns: int) -> np.ndarray:
        """Returns a mask of the kept pixels, as (rows, columns)."""
        keep = np.zeros((rows, columns), bool)
        for box in self.boxes:
            keep[box.top : box.bottom, box.left : box.right] = True
        if self.text_blocks is not None:
            keep &= ~to_pixels(self.text_blocks, rows, columns)
        if self.scan_blocks is not None:
            keep &= to_pixels(self.scan_blocks, rows, columns)
        return keep


def region_of(dataset: Dataset, rows: int, columns: int) -> Region:
    """Returns the boxes of the header, else those of a listed device, else the whole image with the reason."""
    try:
        return Region(scan_boxes(dataset, rows, columns))
    except FileRejected as held:
        reason = held.reason
    listed = rules.devices().get(_device(dataset, rows, columns))
    if listed is not None:
        return Region((Box(*listed),), by_device=True)
    return Region((Box(0, 0, rows, columns),), reason)


def _device(dataset: Dataset, rows: int, columns: int) -> tuple[str, str, int, int]:
    manufacturer, model = (str(dataset.get(name) or "") for name in ("Manufacturer", "ManufacturerModelName"))
    return manufacturer.strip().casefold(), model.strip().casefold(), rows, columns


def scan_boxes(dataset: Dataset, rows: int, columns: int) -> tuple[Box, ...]:
    """Returns the validated boxes of the scan. Raises FileRejected if there are none, or if one is invalid."""
    regions = dataset.get("SequenceOfUltrasoundRegions") or ()
    boxes = tuple(_box(region) for region in regions if _shows_scan(region))
    if not boxes:
        raise FileRejected("region-missing")
    boxes = tuple(_clipped(box, rows, columns) for box in boxes)
    for box in boxes:
        if not (0 <= box.top < box.bottom <= rows and 0 <= box.left < box.right <= columns):
            raise FileRejected("region-out-of-bounds")
    if Mask(boxes).keeps(rows, columns).mean() > _MAX_AREA_FRACTION:  # of all boxes: two halves cover it too
        raise FileRejected("region-covers-image")
    return boxes


def with_whole_units(boxes: tuple[Box, ...], unit: tuple[int, int], sample_THW: np.ndarray) -> tuple[Box, ...]:
    """Returns the boxes widened to whole coded units of JPEG, at each side where that adds nothing but black.

    A unit is kept or blackened as a whole, so that otherwise the scan would lose up to a unit at the sides of a box.
    What is added is searched for text like the rest. unit: rows, columns; sample_THW: frames of the original."""
    lit_HW = sample_THW.max(axis=0) > _BLACK
    return tuple(_widened(box, unit, lit_HW) for box in boxes)


def _widened(box: Box, unit: tuple[int, int], lit_HW: np.ndarray) -> Box:
    (height, width), (rows, columns) = unit, lit_HW.shape
    top, left = box.top // height * height, box.left // width * width
    bottom, right = min(rows, -(-box.bottom // height) * height), min(columns, -(-box.right // width) * width)
    found = box
    if not lit_HW[top : box.top, box.left : box.right].any():
        found = replace(found, top=top)
    if not lit_HW[box.bottom : bottom, box.left : box.right].any():
        found = replace(found, bottom=bottom)
    if not lit_HW[found.top : found.bottom, left : box.left].any():
        found = replace(found, left=left)
    if not lit_HW[found.top : found.bottom, box.right : right].any():
        found = replace(found, right=right)
    return found


def _clipped(box: Box, rows: int, columns: int) -> Box:
    # some scanners write the first pixel outside as the maximum
    bottom = rows if box.bottom == rows + 1 else box.bottom
    right = columns if box.right == columns + 1 else box.right
    return replace(box, bottom=bottom, right=right)


def _shows_scan(region: Dataset) -> bool:
    return (region.get("RegionSpatialFormat"), region.get("RegionDataType")) in _SCAN


def _box(region: Dataset) -> Box:
    names = ("RegionLocationMinY0", "RegionLocationMinX0", "RegionLocationMaxY1", "RegionLocationMaxX1")
    corners = [region.get(name) for name in names]
    if not all(isinstance(corner, int) for corner in corners):
        raise FileRejected("region-out-of-bounds")
    top, left, bottom, right = corners
    # the standard's maximum is the last pixel inside
    return Box(top, left, bottom + 1, right + 1, region.get("RegionSpatialFormat") != _SECTOR_FORMAT)
