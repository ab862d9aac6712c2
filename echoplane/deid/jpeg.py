"""Masking of baseline JPEG that leaves the kept part bit-identical (ISO/IEC 10918-1).

A frame is parsed marker by marker, its masked minimum coded units (MCU) get black coefficients, and it is written
with tables and scan alone: application and comment segments and bytes after the end are removed. An MCU is kept only
if all of its visible pixels are kept by the mask, so nothing outside remains; up to one MCU at the edge of the scan is
blackened with the border.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg

from echoplane.deid import energy, libjpeg
from echoplane.deid.reasons import FileRejected
from echoplane.deid.regions import Mask

_SOI, _EOI, _SOF0, _DHT, _SOS, _DQT, _DRI, _COM, _APP0, _APP14 = (
    0xD8, 0xD9, 0xC0, 0xC4, 0xDA, 0xDB, 0xDD, 0xFE, 0xE0, 0xEE,
)  # fmt: skip
# version 100, no flags, colour transform 0 (RGB) or 1 (YCC)
_ADOBE_MARKERS = tuple(b"Adobe\0\x64\0\0\0\0" + bytes([transform]) for transform in (0, 1))
_ROWS, _COLUMNS = np.divmod(np.arange(64), 8)
_DIAGONALS = _ROWS + _COLUMNS
_COLOUR_LEVELS = 6  # mean of a block of Cb or Cr above which it is coloured; a grey clip has at most 2
# position of each coefficient in the zigzag order, row by row (figure A.6): odd diagonals run down, even ones up
_ZIGZAG = np.argsort(np.lexsort((np.where(_DIAGONALS % 2, _ROWS, _COLUMNS), _DIAGONALS)))


@dataclass(frozen=True)
class Component:
    """Sampling factors of one component, and its quantisation table, row by row (not in zigzag order)."""

    horizontal: int
    vertical: int
    quantisers: tuple[int, ...]

    @property
    def dc_quantiser(self) -> int:
        """Quantisation step of the DC coefficient, which is the mean of the block."""
        return self.quantisers[0]


@dataclass(frozen=True)
class Layout:
    """Size and components from a frame's header; equal for all frames of a clip that share it."""

    rows: int
    columns: int
    components: tuple[Component, ...]

    @property
    def mcu_shape(self) -> tuple[int, int]:
        """Size of one MCU in pixels: rows, columns."""
        return 8 * max(c.vertical for c in self.components), 8 * max(c.horizontal for c in self.components)

    def blocks(self) -> list[tuple[int, int]]:
        """Returns the rows and columns of blocks of each component, in whole MCUs."""
        height, width = self.mcu_shape
        down, across = -(-self.rows // height), -(-self.columns // width)
        return [(down * c.vertical, across * c.horizontal) for c in self.components]


@dataclass(frozen=True)
class Frame:
    """Frame with its layout, its header (up to the end of the scan header), and its bytes up to the end marker."""

    layout: Layout
    header: bytes
    stream: bytes


def parse(data: bytes) -> Frame:
    """Parses the markers. Raises FileRejected if the frame is no complete, single-scan, 8-bit baseline JPEG."""
    if data[:2] != b"\xff\xd8":
        raise FileRejected("codec")
    quantisers: dict[int, tuple[int, ...]] = {}
    frame_header: bytes | None = None
    scan_start = 0
    for marker, segment, end in _segments(data):
        if marker == _DQT:
            quantisers |= _quantisers(segment)
        elif marker == _SOF0:
            frame_header = segment
        elif marker == _SOS:
            scan_start = end
            break
        elif marker not in (_DHT, _DRI, _COM) and not _APP0 <= marker <= _APP0 + 15:
            raise FileRejected("codec")
    else:
        raise FileRejected("codec")
    if frame_header is None:
        raise FileRejected("codec")
    return Frame(_layout(frame_header, quantisers), data[:scan_start], data[: _scan_end(data, scan_start)])


def _scan_end(data: bytes, start: int) -> int:
    """Returns the position after the end marker.

    Raises FileRejected if a marker other than a restart comes first (B.1.1.2).
    """
    values = np.frombuffer(data, np.uint8, offset=start)
    marks = np.flatnonzero(values[:-1] == 0xFF)
    following = values[marks + 1]
    stops = (following != 0) & (following != 0xFF) & ((following < 0xD0) | (following > 0xD7))
    first = int(np.argmax(stops)) if stops.any() else -1
    if first < 0 or following[first] != _EOI:
        raise FileRejected("codec")
    return start + int(marks[first]) + 2


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yields marker, segment and the position after it, up to and including the scan header."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise FileRejected("codec")
        if data[position + 1] == 0xFF:  # fill byte
            position += 1
            continue
        marker, length = data[position + 1], struct.unpack_from(">H", data, position + 2)[0]
        end = position + 2 + length
        if length < 2 or end > len(data):
            raise FileRejected("codec")
        yield marker, data[position + 4 : end], end
        position = end


def _quantisers(segment: bytes) -> dict[int, tuple[int, ...]]:
    """Returns the quantisers by table number, row by row (B.2.4.1)."""
    found, position = {}, 0
    while position < len(segment):
        precision, table = segment[position] >> 4, segment[position] & 15
        size = 64 * (precision + 1)
        if precision > 1 or position + 1 + size > len(segment):
            raise FileRejected("codec")
        steps = np.frombuffer(segment, ">u2" if precision else np.uint8, 64, position + 1)
        found[table] = tuple(int(step) for step in steps[_ZIGZAG])
        position += 1 + size
    return found


def _layout(segment: bytes, quantisers: dict[int, tuple[int, ...]]) -> Layout:
    if len(segment) < 6 or segment[0] != 8 or segment[5] not in (1, 3) or len(segment) != 6 + 3 * segment[5]:
        raise FileRejected("codec")
    rows, columns = struct.unpack_from(">HH", segment, 1)
    parts = [segment[6 + 3 * i : 9 + 3 * i] for i in range(segment[5])]
    if not rows or not columns or any(0 in quantisers.get(part[2], (0,)) for part in parts):
        raise FileRejected("codec")
    if len(parts) == 1:  # one component is never interleaved: its MCU is one block (A.2.2)
        return Layout(rows, columns, (Component(1, 1, quantisers[parts[0][2]]),))
    components = tuple(Component(part[1] >> 4, part[1] & 15, quantisers[part[2]]) for part in parts)
    if any(c.horizontal not in (1, 2, 4) or c.vertical not in (1, 2, 4) for c in components):
        raise FileRejected("codec")
    return Layout(rows, columns, components)


def kept_mcus(layout: Layout, mask: Mask) -> np.ndarray:
    """Returns the MCUs whose visible pixels are all kept by the mask, as (rows of MCUs, columns of MCUs)."""
    height, width = layout.mcu_shape
    keep = mask.keeps(layout.rows, layout.columns)
    keep = np.pad(keep, ((0, -layout.rows % height), (0, -layout.columns % width)), constant_values=True)
    down, across = keep.shape[0] // height, keep.shape[1] // width
    return np.asarray(keep.reshape(down, height, across, width).all(axis=(1, 3)))


def _masked_blocks(layout: Layout, mask: Mask) -> list[np.ndarray]:
    """Returns, per component, the indices of the blocks to blacken, row by row."""
    masked = ~kept_mcus(layout, mask)
    grids = (masked.repeat(c.vertical, 0).repeat(c.horizontal, 1) for c in layout.components)
    return [np.flatnonzero(grid) for grid in grids]


class Masker:
    """Masks the frames of one clip. Without a mask all pixels are kept, and only the stream is rewritten."""

    def __init__(self, rows: int, columns: int, mask: Mask | None, photometric: str) -> None:
        self.shape = rows, columns
        self.mask = mask
        self.photometric = photometric
        self.eighths: list[np.ndarray] = []
        """Mean luminance of every block, per frame after masking: the image at 1/8 of its size."""
        self.energies: list[np.ndarray] = []
        """Detail (see `energy`) of every block of luminance, per frame after masking."""
        self.coloured = False
        """True if any kept block is coloured."""
        self._proven: set[bytes] = set()
        self._blocks: dict[Layout, list[np.ndarray]] = {}

    def rewrite(self, data: bytes) -> bytes:
        """Returns the frame with everything that the mask does not keep black."""
        frame = parse(data)
        if (frame.layout.rows, frame.layout.columns) != self.shape:
            raise FileRejected("pixel-data")
        if (len(frame.layout.components) == 1) != self.photometric.startswith(("MONOCHROME", "PALETTE")):
            raise FileRejected("codec")  # viewers that follow the header would show noise
        self._prove(frame)
        result, warnings = libjpeg.transcode(
            frame.stream, frame.layout.blocks(), lambda space, parts: self._change(frame.layout, space, parts)
        )
        if warnings:
            raise FileRejected("codec")
        return strip(result)

    def _prove(self, frame: Frame) -> None:
        """Decodes a frame of each header once with a decoder that reports errors, because libjpeg ends the process."""
        if frame.header not in self._proven:
            try:
                simplejpeg.decode_jpeg(frame.stream, "GRAY", strict=True)
            except ValueError as error:
                raise FileRejected("codec") from error
            self._proven.add(frame.header)

    def _change(self, layout: Layout, colour_space: int, parts: list[np.ndarray]) -> None:
        if (colour_space == libjpeg.RGB) != (self.photometric == "RGB"):
            raise FileRejected("codec")  # viewers that follow the header would show teal for black
        if self.mask is not None:
            self._blacken(layout, self.mask, colour_space, parts)
            rows, columns = -(-layout.rows // 8), -(-layout.columns // 8)
            luminance, first = parts[0][:rows, :columns], layout.components[0]
            means = luminance[..., 0] * (first.dc_quantiser / 8) + 128
            self.eighths.append(np.clip(means, 0, 255).astype(np.uint8))
            self.energies.append(energy.of_coefficients(luminance, np.array(first.quantisers)))
            self.coloured |= colour_space == libjpeg.RGB or any(
                int(np.abs(part[..., 0]).max()) * component.dc_quantiser > 8 * _COLOUR_LEVELS
                for component, part in zip(layout.components[1:], parts[1:], strict=True)
            )

    def _blacken(self, layout: Layout, mask: Mask, colour_space: int, parts: list[np.ndarray]) -> None:
        if layout not in self._blocks:
            self._blocks[layout] = _masked_blocks(layout, mask)
        masked = self._blocks[layout]
        for index, (component, blocks, chosen) in enumerate(zip(layout.components, parts, masked, strict=True)):
            black = np.zeros(64, np.int16)
            if index == 0 or colour_space == libjpeg.RGB:
                # sample = DC * quantiser / 8 + 128: at most -1024 is black, at least 1016 white
                steps = -(-1024 // component.dc_quantiser)
                black[0] = steps if self.photometric == "MONOCHROME1" else -steps
            blocks.reshape(-1, 64)[chosen] = black


def holds_only_tables(header: bytes) -> bool:
    """Returns True if a frame's header has no segment that could hold text; a fixed Adobe colour marker is allowed."""
    return all(
        marker in (_DQT, _SOF0, _DHT, _DRI, _SOS) or (marker == _APP14 and segment in _ADOBE_MARKERS)
        for marker, segment, _ in _segments(header)
    )


def strip(stream: bytes) -> bytes:
    """Returns the stream without application and comment segments, except the writer's own Adobe colour marker."""
    parts = [stream[:2]]
    for marker, segment, end in _segments(stream):
        own_colour = marker == _APP14 and segment in _ADOBE_MARKERS
        if own_colour or not (_APP0 <= marker <= _APP0 + 15 or marker == _COM):
            parts.append(stream[end - len(segment) - 4 : end])
        if marker == _SOS:
            parts.append(stream[end:])
            break
    return b"".join(parts)
