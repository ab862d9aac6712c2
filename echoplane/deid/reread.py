"""Verification of the written pixels: every frame must be black outside the mask, and a second search finds no text.

Frames are decoded from the file by another decoder than the one that masked them. The second search uses frames that
the first has not inspected at full size. It searches for static rows of strokes, for blocks above black level outside
the sector, and, near masked blocks, for the rest of text that was found in part. Text that it finds is masked and
searched for again; if some remains, the file is rejected.
Axes: T frame, H row, W column, C colour; a block is 8 x 8 pixels.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol

import cv2
import numpy as np
import simplejpeg
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import JPEGBaseline8Bit

from echoplane.deid import energy, jpeg, letters, search, text
from echoplane.deid.reasons import FileRejected
from echoplane.deid.regions import Mask
from echoplane.deid.stored import Geometry, eight_bits_of, palette, shown
from echoplane.study import sector

_FRAMES = 5  # of the second search: the minimum for telling motion
_NEAR_BLOCKS = 4  # distance from masked blocks within which the rest of a text line may lie
_APART_BLOCKS = 2  # minimum distance from the sector, whose border flickers
_CAPTION_LEVELS, _STILL_LEVELS = 24, 6  # grey levels of a block's mean


def pixels(written: Dataset, shape: Geometry, mask: Mask | None, accepted: bool = False) -> np.ndarray | None:
    """Returns the blocks of the written file that hold text, or None.

    Raises FileRejected if a frame is not black outside the mask, or if there is text and nothing moves: then the blocks
    would not cover all of it. accepted: a person has accepted the pixels inside, so text is not searched for."""
    images = _opened(written, shape)
    eighths = [images.check(number, mask) for number in range(shape.frames)]
    return None if mask is None or accepted else _search(images, np.stack(eighths), mask)


class _Images(Protocol):
    """Frames of a written file."""

    def check(self, number: int, mask: Mask | None) -> np.ndarray:
        """Returns the block means of a frame in grey. Raises FileRejected if it is not black outside the mask."""

    def frame(self, number: int) -> np.ndarray:
        """Returns one frame in grey at full size."""


def _opened(written: Dataset, shape: Geometry) -> _Images:
    if written.file_meta.TransferSyntaxUID == JPEGBaseline8Bit:
        return _JpegImages(written, shape)
    return _PairedImages(written, shape) if shape.photometric == "YBR_FULL_422" else _NativeImages(written, shape)


class _JpegImages:
    """Baseline JPEG: its stream may hold only tables and scan, and it is checked in colour at 1/8 of its size.

    At this size a block is one pixel.
    """

    def __init__(self, written: Dataset, shape: Geometry) -> None:
        self._frames = list(generate_frames(written.PixelData, number_of_frames=shape.frames))
        if len(self._frames) != shape.frames:
            raise FileRejected("verify-pixels")
        self._inverted = shape.photometric == "MONOCHROME1"
        self._masked: np.ndarray | None = None

    def check(self, number: int, mask: Mask | None) -> np.ndarray:
        frame = self._frames[number]
        parsed = jpeg.parse(frame)
        if not jpeg.holds_only_tables(parsed.header) or len(frame) - len(parsed.stream) > 1:
            raise FileRejected("verify-pixels")
        if mask is None:
            return np.zeros((1, 1), np.uint8)
        # plain upsampling: smooth upsampling would spread the colour of the scan beyond the edge of the mask
        eighth_HWC = _decoded(frame, "RGB", fastupsample=True, min_height=1, min_width=1, min_factor=8)
        if self._masked is None:
            self._masked = _masked_eighths(parsed.layout, mask)
        if np.any(eighth_HWC[self._masked] != (255 if self._inverted else 0)):
            raise FileRejected("verify-pixels")
        grey_HW = cv2.cvtColor(eighth_HWC, cv2.COLOR_RGB2GRAY)
        return 255 - grey_HW if self._inverted else grey_HW

    def frame(self, number: int) -> np.ndarray:
        grey_HW = _decoded(self._frames[number], "GRAY")[..., 0]
        return 255 - grey_HW if self._inverted else grey_HW


def _decoded(frame: bytes, colours: str, **options: Any) -> np.ndarray:
    try:
        return np.asarray(simplejpeg.decode_jpeg(frame, colours, strict=True, **options))
    except ValueError as error:
        raise FileRejected("verify-pixels") from error


def _masked_eighths(layout: jpeg.Layout, mask: Mask) -> np.ndarray:
    """Returns the blocks with any visible pixel that is masked."""
    keep = np.pad(
        mask.keeps(layout.rows, layout.columns), ((0, -layout.rows % 8), (0, -layout.columns % 8)), mode="edge"
    )
    return ~np.asarray(keep.reshape(keep.shape[0] // 8, 8, keep.shape[1] // 8, 8).all(axis=(1, 3)))


class _PairedImages:
    """Native YBR_FULL_422: every pair of pixels that is not completely inside must be black."""

    def __init__(self, written: Dataset, shape: Geometry) -> None:
        size = shape.frames * shape.rows * shape.columns * 2
        self._pairs = np.frombuffer(written.PixelData, np.uint8, size).reshape(shape.frames, shape.rows, -1, 4)
        self._shape = shape

    def check(self, number: int, mask: Mask | None) -> np.ndarray:
        if mask is not None:
            keep = mask.keeps(self._shape.rows, self._shape.columns)
            if np.any(self._pairs[number, ~(keep[:, ::2] & keep[:, 1::2])] != (0, 0, 128, 128)):
                raise FileRejected("verify-pixels")
        return sector.block_means(self.frame(number))

    def frame(self, number: int) -> np.ndarray:
        return np.ascontiguousarray(self._pairs[number, ..., :2]).reshape(self._shape.rows, self._shape.columns)


class _NativeImages:
    """Other native pixels: all values outside the mask must be the black of the photometric interpretation."""

    def __init__(self, written: Dataset, shape: Geometry) -> None:
        dtype = np.dtype(f"<{'i' if written.get('PixelRepresentation') == 1 else 'u'}{shape.bits_allocated // 8}")
        count = shape.frames * shape.rows * shape.columns * shape.samples
        values = np.frombuffer(written.PixelData, dtype, count)
        size = (shape.frames, shape.rows, shape.columns) + ((3,) if shape.samples == 3 else ())
        self._frames = values.reshape(size)
        self._black = _black(written)
        self._shown = shown(written, written.PhotometricInterpretation, eight_bits_of(self._frames, shape))

    def check(self, number: int, mask: Mask | None) -> np.ndarray:
        if mask is None:
            return np.zeros((1, 1), np.uint8)
        outside = self._frames[number][~mask.keeps(*self._frames.shape[1:3])]
        if outside.size and not self._black(outside):
            raise FileRejected("verify-pixels")
        return sector.block_means(self.frame(number))

    def frame(self, number: int) -> np.ndarray:
        return self._shown(self._frames[number])


def _black(written: Dataset) -> Callable[[np.ndarray], bool]:
    """Returns a function that is True if all values, one row per pixel, are the same black."""
    photometric = written.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        first = int(written["RedPaletteColorLookupTableDescriptor"].value[1])
        brightness = np.sum([table.astype(int) for table in palette(written)], axis=0)
        darkest = brightness.min() + 3 * 8
        return lambda values: bool(np.all(values == values[0]) and brightness[int(values[0]) - first] <= darkest)
    if photometric.startswith("YBR"):
        return lambda values: bool(np.all(values == (0, 128, 128)))
    low = -(1 << written.BitsStored - 1) if written.get("PixelRepresentation") == 1 else 0
    black = low + (1 << written.BitsStored) - 1 if photometric == "MONOCHROME1" else low
    return lambda values: bool(np.all(values == black))


def others(frames: int) -> list[int]:
    """Returns frames between those of the first search; for a short clip, the frames of the first search."""
    seen = text.sample(frames)
    between = sorted({(before + after) // 2 for before, after in pairwise(seen)} - set(seen))
    if len(between) < _FRAMES:
        return seen
    return [between[round(place)] for place in np.linspace(0, len(between) - 1, _FRAMES)]


def between(frames: int) -> list[int]:
    """Returns the frames of both searches, from the first of `others` to the last.

    Static text found in `others` must be in these too; a wall that hardly moves is not."""
    looked = others(frames)
    return [n for n in sorted({*looked, *text.sample(frames)}) if looked[0] <= n <= looked[-1]]


def _search(images: _Images, eighth_THW: np.ndarray, mask: Mask) -> np.ndarray | None:
    """Returns the blocks of text, None unless two searches find some: static text must be in all frames in between."""
    found_HW = np.zeros(eighth_THW.shape[1:], bool)
    for numbers in (others(len(eighth_THW)), between(len(eighth_THW))):
        blocks_HW, moves = _text_in(images, numbers, eighth_THW, mask)
        if not blocks_HW.any():
            return None
        if not moves:
            raise FileRejected("text-in-pixels")
        found_HW |= blocks_HW
    return found_HW


def _text_in(images: _Images, numbers: list[int], eighth_THW: np.ndarray, mask: Mask) -> tuple[np.ndarray, bool]:
    """Returns the blocks with text, and True if the frames move."""
    sample_THW = np.stack([images.frame(number) for number in numbers])
    found = text.search(sample_THW, mask)
    blocks_HW = search.letters_of(found, sample_THW, mask) | _lit_beside(found, eighth_THW)
    if mask.text_blocks is not None and found.moves:
        blocks_HW |= _letters_near(found, sample_THW, mask.text_blocks)
    return blocks_HW, found.moves


def _lit_beside(found: text.Findings, eighth_THW: np.ndarray) -> np.ndarray:
    """Returns static blocks outside the sector that are bright in all frames, unlike dim speckle."""
    near_HW = cv2.dilate(found.fan.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=_APART_BLOCKS)
    still_HW = (eighth_THW.min(axis=0) > _CAPTION_LEVELS) & (np.ptp(eighth_THW, axis=0) <= _STILL_LEVELS)
    return still_HW & (near_HW == 0)


def _letters_near(found: text.Findings, sample_THW: np.ndarray, masked_HW: np.ndarray) -> np.ndarray:
    size = 2 * _NEAR_BLOCKS + 1
    near_HW = cv2.dilate(masked_HW.astype(np.uint8), np.ones((size, size), np.uint8)).astype(bool)
    where_HW = sector.shrink(found.fan, 2) & found.lit & near_HW & ~masked_HW
    energy_THW = np.stack([energy.of_pixels(frame_HW) for frame_HW in sample_THW])
    return letters.search(energy_THW, where_HW, sample_THW, lambda number: sample_THW[number])
