"""Frames of an uploaded clip for display: the scan region alone, as JPEG pictures in one pack. Nothing is kept.

A pack is a length (4 bytes, little endian), a header of that length in JSON (`PackHeader`), then the pictures one after
another; the header gives their sizes. Axes: T frame, H row, W column.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import cv2
import numpy as np
import simplejpeg
from pydantic import BaseModel, ConfigDict

from echoplane.errors import InputError, UnusableStudy
from echoplane.study.scan_region import NO_SCAN, with_scan_region
from echoplane.study.study import Instance, Region
from echoplane.tasks.picture import IMAGE_KINDS, crop, scan_region
from serving.api.inference.answer import StudyRefused, read_study

MAX_FRAMES = 200
MAX_PIXELS = 96 << 20
"""Maximum pixels of a clip that are decoded for display, over all frames: 200 frames of 600 x 800."""
MAX_SIDE = 720
"""Maximum longer side in pixels of a picture of the pack."""
QUALITY = 85
LENGTH_BYTES = 4


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


@dataclass(frozen=True)
class Pack:
    """Header and pictures of one clip."""

    header: PackHeader
    pictures: tuple[bytes, ...]

    def content(self) -> bytes:
        header = self.header.model_dump_json().encode()
        return b"".join((len(header).to_bytes(LENGTH_BYTES, "little"), header, *self.pictures))


def pack_file(file: BinaryIO, request_id: str) -> bytes:
    """Returns the pack of an uploaded clip or still. Raises StudyRefused if it cannot be read, or is no ultrasound."""
    try:
        study = read_study(file.read(), request_id)
        if study.cines:
            raise UnusableStudy("frames are shown of ultrasound; a cine MR is shown from its own pictures.")
        return pack(study.only).content()
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
