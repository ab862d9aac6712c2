"""Structural check of the bytes of a DICOM file before a parser reads them (PS3.5 section 7, PS3.10 section 7).

It is iterative and reads only tags and lengths, so deep nesting, wrong lengths and truncated files are found in bounded
time and memory. A file that passes is complete: every container ends exactly with its last element.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

from pydicom.datadict import dictionary_VR
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from echoplane.deid.reasons import FileRejected

_LONG_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
_SHORT_VRS = frozenset(
    ("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI",
     "UL", "US")
)  # fmt: skip
_TAG_AND_LENGTH = {order: struct.Struct(order + "HHI") for order in "<>"}
_SHORT_LENGTH = {order: struct.Struct(order + "H") for order in "<>"}
_LONG_LENGTH = {order: struct.Struct(order + "I") for order in "<>"}
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_META_START = 132
_STRAY_DELIMITERS = (b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0")


@dataclass(frozen=True)
class Meta:
    """Transfer syntax of the file meta, and the offset of the data set."""

    transfer_syntax: UID
    start: int


def read_meta(data: bytes) -> Meta:
    """Reads the transfer syntax from group 0002 (PS3.10 7.1), which is always explicit little endian.

    Raises FileRejected if the file is not DICOM, or if the group is truncated or has no transfer syntax.
    """
    if data[128:_META_START] != b"DICM":
        raise FileRejected("not-dicom")
    position, syntax = _META_START, ""
    while data[position : position + 2] == b"\x02\x00":
        if position + 8 > len(data):
            raise FileRejected("truncated")
        element = _element(data, position, explicit=True, order="<")
        value = data[element.value : element.value + element.length]
        if len(value) < element.length:
            raise FileRejected("truncated")
        if element.tag == 0x00020010:
            syntax = value.rstrip(b"\0 ").decode("ascii", "replace")
        position = element.value + element.length
    if not syntax:
        raise FileRejected("wrong-transfer-syntax")
    return Meta(UID(syntax), position)


def inflate(data: bytes, meta: Meta, cap: int) -> bytes:
    """Returns the data set of a deflated file (PS3.5 A.5).

    Raises FileRejected if it is truncated, or before it exceeds `cap` bytes.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = stream.decompress(data[meta.start :], cap)
    except zlib.error as error:
        raise FileRejected("truncated") from error
    if stream.unconsumed_tail:
        raise FileRejected("too-large")
    if not stream.eof:
        raise FileRejected("truncated")
    return plain


class _Element(NamedTuple):
    tag: int
    vr: str
    length: int
    value: int  # offset


def _element(data: bytes, position: int, explicit: bool, order: str) -> _Element:
    group, number, length = _TAG_AND_LENGTH[order].unpack_from(data, position)
    tag = group << 16 | number
    if not explicit or group == 0xFFFE:
        return _Element(tag, "", length, position + 8)
    vr = data[position + 4 : position + 6].decode("latin-1")
    if vr in _SHORT_VRS:
        return _Element(tag, vr, _SHORT_LENGTH[order].unpack_from(data, position + 6)[0], position + 8)
    if vr not in _LONG_VRS:
        raise FileRejected("malformed")
    if position + 12 > len(data):
        raise FileRejected("truncated")
    return _Element(tag, vr, _LONG_LENGTH[order].unpack_from(data, position + 8)[0], position + 12)


@dataclass(slots=True)
class _Level:
    """Open container: a data set (elements) or a sequence (items), with the offset at which it must end."""

    items: bool
    end: int | None
    explicit: bool
    limit: int
    """End offset of the innermost container of known length."""


def check(data: bytes, start: int, syntax: UID, max_depth: int) -> int:
    """Checks the whole data set and returns the end of its last element, after which padding or a delimiter may follow.

    Raises FileRejected if it is truncated, malformed, nested too deeply, or not in its transfer syntax."""
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    explicit = syntax != ImplicitVRLittleEndian
    _check_first(data, start, explicit, order)
    levels, position = [_Level(items=False, end=len(data), explicit=explicit, limit=len(data))], start
    while levels:
        level = levels[-1]
        if level.end is not None and position >= level.end:
            if position > level.end:
                raise FileRejected("malformed")
            levels.pop()
            continue
        if position + 8 > len(data):
            raise FileRejected("truncated")
        if len(levels) == 1 and _is_padding(data, position):
            return position
        depth = len(levels)
        position = _step(data, position, levels, order)
        if len(levels) > depth and sum(level.items for level in levels) > max_depth:
            raise FileRejected("too-deep")
    return position


def _is_padding(data: bytes, position: int) -> bool:
    """Returns True for zeros to the end, or a superfluous delimiter, which some writers add after the data set."""
    if data[position : position + 8] in _STRAY_DELIMITERS and position + 8 == len(data):
        return True
    return not any(data[position : position + 8]) and not any(data[position:])


def _check_first(data: bytes, start: int, explicit: bool, order: str) -> None:
    if start + 8 > len(data):
        raise FileRejected("truncated")
    vr = data[start + 4 : start + 6].decode("latin-1")
    looks_explicit = vr in _SHORT_VRS or vr in _LONG_VRS
    group = struct.unpack_from(order + "H", data, start)[0]
    if looks_explicit != explicit or group > 0x00FF:
        raise FileRejected("wrong-transfer-syntax")


def _step(data: bytes, position: int, levels: list[_Level], order: str) -> int:
    """Reads one element or item, opens or closes levels, and returns the position at which to continue."""
    level = levels[-1]
    element = _element(data, position, level.explicit, order)
    if element.tag in (_ITEM_END, _SEQUENCE_END):
        if level.end is not None or level.items != (element.tag == _SEQUENCE_END):
            raise FileRejected("malformed")
        levels.pop()
        return element.value
    if level.items != (element.tag == _ITEM):
        raise FileRejected("malformed")
    end = None if element.length == _UNDEFINED else element.value + element.length
    if end is not None and end > level.limit:
        raise FileRejected("truncated" if end > len(data) else "malformed")
    if element.tag == _ITEM:
        levels.append(_Level(items=False, end=end, explicit=level.explicit, limit=level.limit if end is None else end))
        return element.value
    if element.tag == _PIXEL_DATA and end is None:
        return _skip_fragments(data, element.value, order)
    if end is None or _is_sequence(element):
        # UN of undefined length holds implicit little endian items (PS3.5 6.2.2)
        explicit = level.explicit and element.vr != "UN"
        levels.append(_Level(items=True, end=end, explicit=explicit, limit=level.limit if end is None else end))
        return element.value
    return end


def _skip_fragments(data: bytes, position: int, order: str) -> int:
    """Returns the end of encapsulated pixel data (PS3.5 A.4)."""
    while True:
        if position + 8 > len(data):
            raise FileRejected("truncated")
        item = _element(data, position, explicit=False, order=order)
        position = item.value + (0 if item.tag == _SEQUENCE_END else item.length)
        if item.tag == _SEQUENCE_END:
            return position
        if item.tag != _ITEM:
            raise FileRejected("malformed")


def _is_sequence(element: _Element) -> bool:
    if element.vr:
        return element.vr == "SQ"
    try:
        return dictionary_VR(element.tag) == "SQ"
    except KeyError:
        return False


def is_deflated(syntax: UID) -> bool:
    """Returns True if the whole data set is compressed (PS3.5 A.5)."""
    return syntax == DeflatedExplicitVRLittleEndian
