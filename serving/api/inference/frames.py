"""Frames of an uploaded study for display, as JPEG pictures in one pack: a clip's scan region alone, or all slices of a
cine MR. Nothing is kept.

A pack is a length (4 bytes, little endian), a header of that length in JSON (`PackHeader`), then the pictures one after
another; the header gives their sizes. Axes: T frame or phase, Z slice, H row, W column.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import cv2
import numpy as np
import simplejpeg
from pydantic import BaseModel, ConfigDict

from echoplane.errors import InputError
from echoplane.study.cine import Cine, display_turn, turned
from echoplane.study.pixels import to_eight_bits
from echoplane.study.scan_region import NO_SCAN, with_scan_region
from echoplane.study.study import Instance, Region
from echoplane.tasks.picture import IMAGE_KINDS, crop, scan_region
from serving.api.decoding.deadline import Deadline
from serving.api.decoding.pool import Decoders
from serving.api.inference.answer import StudyRefused

MAX_FRAMES = 200
MAX_PIXELS = 96 << 20
"""Maximum pixels of a clip that are decoded for display, over all frames: 200 frames of 600 x 800."""
MAX_SIDE = 720
"""Maximum longer side in pixels of a picture of the pack."""
MAX_TILE_SIDE = 256
"""Maximum longer side in pixels of one slice of a cine MR."""
QUALITY = 85
LENGTH_BYTES = 4


class Tiles(BaseModel):
    """Arrangement of the slices in a picture of a cine MR: tiles, row by row, each turned for the usual display."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    slices: int
    across: int
    """Number of tiles in a row."""
    rows: int
    """Rows of each tile."""
    columns: int
    """Columns of each tile."""
    turn: tuple[bool, bool, bool]
    """Turn of a stored slice: transposed, then rows flipped, then columns flipped."""


class PackHeader(BaseModel):
    """Header of a pack."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    frame_time_ms: float | None
    """Time from one picture of the pack to the next; None if the file does not state it."""
    frame_count: int
    """Number of frames in the file."""
    step: int
    """Every step-th frame is in the pack."""
    rows: int
    """Rows of each picture."""
    columns: int
    """Columns of each picture."""
    region: tuple[int, int, int, int]
    """Part of the file's frame that the pictures show: top, left, bottom, right, in pixels, half open."""
    region_is_known: bool
    """True if the scan region is stated or was found: the pictures then hold no text outside it."""
    lengths: tuple[int, ...]
    """Size of each picture in bytes."""
    tiles: Tiles | None = None
    """Slices of a cine MR, whose pictures are its phases; None for ultrasound."""


@dataclass(frozen=True)
class Pack:
    """Header and pictures of one clip."""

    header: PackHeader
    pictures: tuple[bytes, ...]

    def content(self) -> bytes:
        header = self.header.model_dump_json().encode()
        return b"".join((len(header).to_bytes(LENGTH_BYTES, "little"), header, *self.pictures))


def pack_file(file: BinaryIO, decoders: Decoders, deadline: Deadline, request_id: str) -> bytes:
    """Returns the pack of an uploaded clip, still or cine MR. Raises StudyRefused if it cannot be read, DeadlineReached
    at the deadline."""
    try:
        with decoders.reading(file, deadline, request_id) as study:
            return (pack_cine(study.cines[0]) if study.cines else pack(study.only)).content()
    except InputError as error:
        raise StudyRefused(error, None) from None


def pack(clip: Instance) -> Pack:
    """Returns the frames of a clip or still, thinned out evenly if there are too many."""
    clip = with_scan_region(clip)
    region, known = _shown_region(clip)
    most = max(1, min(MAX_FRAMES, MAX_PIXELS // (clip.rows * clip.columns)))
    step = -(-clip.frame_count // most)
    pictures = tuple(_jpegs(clip, region, range(0, clip.frame_count, step)))
    rows, columns, _, _ = simplejpeg.decode_jpeg_header(pictures[0])
    header = PackHeader(
        frame_time_ms=step * clip.frame_time_ms if clip.frame_time_ms else None,
        frame_count=clip.frame_count,
        step=step,
        rows=rows,
        columns=columns,
        region=(region.top, region.left, region.bottom, region.right),
        region_is_known=known,
        lengths=tuple(map(len, pictures)),
    )
    return Pack(header, pictures)


def pack_cine(cine: Cine) -> Pack:
    """Returns the phases of a cine MR, each a picture of all slices side by side."""
    turn = display_turn(cine.affine, cine.plane)
    shown_TZHW = turned(cine.voxels_TZHW, turn)
    rows, columns = (int(side) for side in shown_TZHW.shape[2:])
    scale = min(1.0, MAX_TILE_SIDE / max(rows, columns))
    rows, columns = max(1, round(rows * scale)), max(1, round(columns * scale))
    across = math.ceil(math.sqrt(cine.slices * 4 / 3))
    down = math.ceil(cine.slices / across)
    most = max(1, min(MAX_FRAMES, MAX_PIXELS // (down * across * rows * columns)))
    step = -(-cine.phases // most)
    low, high = np.percentile(shown_TZHW[:, :, ::4, ::4], (1, 99.5))
    pictures = []
    for slices_ZHW in shown_TZHW[::step]:
        montage_HW = np.zeros((down * rows, across * columns), np.uint8)
        for z, slice_HW in enumerate(slices_ZHW):
            grey_HW = to_eight_bits(slice_HW.astype(np.float32), (float(low), float(high)))
            top, left = z // across * rows, z % across * columns
            tile_HW = cv2.resize(grey_HW, (columns, rows), interpolation=cv2.INTER_AREA)
            montage_HW[top : top + rows, left : left + columns] = tile_HW
        pictures.append(simplejpeg.encode_jpeg(montage_HW[..., None], QUALITY, colorspace="GRAY"))
    header = PackHeader(
        frame_time_ms=step * cine.frame_time_ms if cine.frame_time_ms else None,
        frame_count=cine.phases,
        step=step,
        rows=down * rows,
        columns=across * columns,
        region=(0, 0, rows, columns),
        region_is_known=True,
        lengths=tuple(map(len, pictures)),
        tiles=Tiles(slices=cine.slices, across=across, rows=rows, columns=columns, turn=turn),
    )
    return Pack(header, tuple(pictures))


def _shown_region(clip: Instance) -> tuple[Region, bool]:
    """Returns the region to show, and False if none is known and it is the whole image."""
    for kinds in (IMAGE_KINDS, {region.kind for region in clip.regions} - set(NO_SCAN)):
        region, warnings = scan_region(clip, kinds)
        if not warnings:
            return region, True
    return region, False


def _jpegs(clip: Instance, region: Region, indices: range) -> Iterator[bytes]:
    side = min(clip.rows, clip.columns, MAX_SIDE)
    for frame_HW in clip.frames.grey(indices, smallest_side=side):
        shown_HW = _fitted(crop(frame_HW, region, clip))
        yield simplejpeg.encode_jpeg(np.ascontiguousarray(shown_HW[..., None]), QUALITY, colorspace="GRAY")


def _fitted(frame_HW: np.ndarray) -> np.ndarray:
    scale = MAX_SIDE / max(frame_HW.shape)
    if scale >= 1:
        return frame_HW
    rows, columns = (max(1, round(side * scale)) for side in frame_HW.shape)
    return np.asarray(cv2.resize(frame_HW, (columns, rows), interpolation=cv2.INTER_AREA))
