"""Finds the frames of encapsulated pixel data (PS3.5 A.4) by the start of each compressed image.

Offset tables are often wrong, so they decide only if the compressed images themselves do not.
"""

import struct
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from echoplane.errors import NotAnImage

ITEM = b"\xfe\xff\x00\xe0"
SEQUENCE_DELIMITER = b"\xfe\xff\xdd\xe0"
IMAGE_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
"""First bytes of JPEG and JPEG-LS, of a JPEG 2000 codestream, and of one in a JP2 file."""
RLE_HEADER_BYTES = 64

Fragment = tuple[int, int]
"""Bytes of one fragment in the pixel data: (start, end)."""


class EncapsulatedFrames:
    """Compressed frames of one instance.

    `frame_count` is NumberOfFrames, or None if the file does not state it; then the compressed images are counted.
    Raises NotAnImage if the fragments do not make that many frames.
    """

    def __init__(self, pixel_data: bytes, frame_count: int | None, extended_offsets: Sequence[int] = ()) -> None:
        self._pixel_data = pixel_data
        table, fragments = _fragments(pixel_data)
        starts = [i for i, (start, _) in enumerate(fragments) if _begins_image(pixel_data, start)]
        expected = frame_count or max(1, len(starts))
        if len(starts) != expected:
            starts = _starts_by_offset(fragments, expected, (extended_offsets, table), found=len(starts))
        bounds = pairwise([*starts, len(fragments)])
        self._frames = [fragments[first:end] for first, end in bounds]

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> bytes:
        """Returns the compressed bytes of one frame, its fragments joined."""
        return b"".join(self._pixel_data[start:end] for start, end in self._frames[index])


def _fragments(pixel_data: bytes) -> tuple[list[int], list[Fragment]]:
    """Returns the entries of the basic offset table, and the fragments that are not empty."""
    items, position = [], 0
    while position + 8 <= len(pixel_data) and pixel_data[position : position + 4] == ITEM:
        start = position + 8
        position = start + int.from_bytes(pixel_data[position + 4 : start], "little")
        items.append((start, position))
    if not items:
        raise NotAnImage("the transfer syntax is a compressed one, but the pixel data are not: they hold no item.")
    if position > len(pixel_data):
        raise NotAnImage("the pixel data are truncated: the last fragment is not whole.")
    rest = pixel_data[position:]
    if rest.strip(b"\0") and not rest.startswith(SEQUENCE_DELIMITER):
        raise NotAnImage("the pixel data are damaged: something else than a fragment follows a fragment.")
    (start, end), *fragments = items
    table = np.frombuffer(pixel_data, "<u4", (end - start) // 4, start).tolist()
    return table, [fragment for fragment in fragments if fragment[1] > fragment[0]]


def _begins_image(pixel_data: bytes, start: int) -> bool:
    return pixel_data.startswith(IMAGE_STARTS, start) or _is_rle_header(pixel_data[start : start + RLE_HEADER_BYTES])


def _is_rle_header(header: bytes) -> bool:
    """Returns True if the bytes are the header of an RLE frame (PS3.5 G.5): the number of segments, and up to 15
    offsets."""
    if len(header) < RLE_HEADER_BYTES:
        return False
    segments, *offsets = struct.unpack("<16I", header)
    used = offsets[:segments]
    return 1 <= segments <= 15 and used[0] == RLE_HEADER_BYTES and used == sorted(used) and not any(offsets[segments:])


def _starts_by_offset(
    fragments: list[Fragment], frame_count: int, tables: Sequence[Sequence[int]], *, found: int
) -> list[int]:
    """Returns the index of each frame's first fragment, by the first offset table that fits, or else one fragment per
    frame."""
    number_at = {start - 8 - (fragments[0][0] - 8): i for i, (start, _) in enumerate(fragments)}
    for table in tables:
        if len(table) == frame_count and table[0] == 0 and all(a < b and b in number_at for a, b in pairwise(table)):
            return [number_at[offset] for offset in table]
    if len(fragments) == frame_count:
        return list(range(frame_count))
    frames = found or len(fragments)
    raise NotAnImage(
        f"the pixel data hold {frames} compressed frame(s), but NumberOfFrames is {frame_count}: "
        f"{'the file is truncated, or NumberOfFrames is wrong' if frames < frame_count else 'NumberOfFrames is wrong'}."
    )
