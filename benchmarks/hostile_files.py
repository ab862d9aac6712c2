"""Hostile files: small or malformed bodies that ask for gigabytes, minutes, recursion or a way out of a folder.

Each is built once; `varied` makes every request's bytes differ, so that nothing remembers them.
"""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection

import cv2
import jpeg_ls
import numpy as np
import openjpeg
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests import dicom_files as dicom

MIB = 1 << 20
NIFTI_HEADER_BYTES = 352


LONG = (
    *("deflated DICOM of 240 MiB", "deflated DICOM of 1.1 GiB", "zip of deflated DICOM", "zip in zip, five levels"),
    *("zip of 60,000 entries", "gzipped NIfTI", "JPEG 2000, 8 frames of 5,600 x 5,600", "PNG of 32,000 x 32,000"),
    *("JPEG 2000, 32 frames of 5,600 x 5,600", "RLE of runs, 8 frames of 5,600 x 5,700"),
)
"""Files that take a second of a core or more, here or at the service."""


def all_files(without: Collection[str] = ()) -> dict[str, bytes]:
    """Returns each hostile file by what it is, but those `without`."""
    return {name: build() for name, build in BUILDERS.items() if name not in without}


def varied(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns the file with other bytes after its end."""
    return data + rng.bytes(16)


def damaged(data: bytes, rng: np.random.Generator, start: int = 4) -> bytes:
    """Returns the file with 1 to 7 places from `start` changed, cut out or filled, most of them before byte 1,500."""
    broken = bytearray(data)
    for _ in range(int(rng.integers(1, 8))):
        at = int(rng.integers(start, 1500 if rng.random() < 0.8 else len(broken)) % len(broken))
        match rng.integers(3):
            case 0:
                broken[at] = int(rng.integers(256))
            case 1:
                del broken[at : at + int(rng.integers(1, 40))]
            case _:
                broken[at:at] = rng.bytes(int(rng.integers(1, 40)))
    return bytes(broken)


def _zip(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return data.getvalue()


def _zip_of_deflated_bombs() -> bytes:
    return _zip({f"{number}.dcm": dicom.deflated_bomb(200) for number in range(8)})


def _zip_in_zip() -> bytes:
    inner = _zip({"zeros": bytes(64 * MIB)})
    for level in range(4):
        inner = _zip({f"{level}-{number}.zip": inner for number in range(8)})
    return inner


def _zip_of_many_entries() -> bytes:
    return _zip({f"{number:05}": b"" for number in range(60_000)}, zipfile.ZIP_STORED)


def _zip_of_paths() -> bytes:
    clip = dicom.jpeg_clip(dicom.moving_disc(4, 48, 64))
    return _zip({"../../../tmp/out.dcm": clip, "/etc/passwd": b"x", "C:\\Windows\\x.dcm": clip, "a\0b.dcm": clip})


def _zip_that_lies_about_sizes() -> bytes:
    data = bytearray(_zip({"a.dcm": bytes(64 * MIB)}))
    for at in (22, data.rindex(b"PK\x01\x02") + 24):  # uncompressed size: local header, central directory
        data[at : at + 4] = (100).to_bytes(4, "little")
    return bytes(data)


def _nifti(shape: tuple[int, ...], content: bytes) -> bytes:
    header = bytearray(NIFTI_HEADER_BYTES)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<f", header, 108, NIFTI_HEADER_BYTES)
    header[344:348] = b"n+1\0"
    return bytes(header) + content


def _gzipped_zeros(prefix: bytes, mib: int) -> bytes:
    data = io.BytesIO()
    with gzip.GzipFile(fileobj=data, mode="wb", compresslevel=9) as pack:
        pack.write(prefix)
        for _ in range(mib):
            pack.write(bytes(MIB))
    return data.getvalue()


def _nifti_bomb() -> bytes:
    return _gzipped_zeros(_nifti((10_000, 10_000, 4, 1), b""), 200)


def _jpeg2000(side: int, frames: int) -> bytes:
    encoded = openjpeg.encode(np.zeros((side, side), np.uint8), use_mct=False)
    return dicom.encoded_clip([encoded] * frames, (frames, side, side), JPEG2000Lossless)


def _jpeg2000_of_tiles(tile_side: int = 1) -> bytes:
    """A codestream that states millions of tiles: 5,000 x 5,000 pixels in tiles of one."""
    encoded = bytearray(openjpeg.encode(np.zeros((64, 64), np.uint8), use_mct=False))
    at = encoded.index(b"\xff\x51") + 6  # Xsiz (ISO 15444-1 A.5.1)
    struct.pack_into(">8I", encoded, at, 5000, 5000, 0, 0, tile_side, tile_side, 0, 0)
    return dicom.encoded_clip([bytes(encoded)], (1, 5000, 5000), JPEG2000Lossless)


def _jpeg_of_scans() -> bytes:
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    picture = cv2.imencode(".jpg", np.zeros((4000, 4000), np.uint8), options)[1].tobytes()
    scan = picture[picture.rindex(b"\xff\xda") : -2]
    return picture[:-2] + scan * 880 + picture[-2:]


def _jpeg_of_size(rows: int, columns: int) -> bytes:
    """A JPEG of a few hundred bytes that states this size."""
    picture = bytearray(cv2.imencode(".jpg", np.zeros((16, 16), np.uint8))[1].tobytes())
    at = picture.index(b"\xff\xc0") + 5
    struct.pack_into(">HH", picture, at, rows, columns)
    return bytes(picture)


def _jpeg_clip_of_large_frames() -> bytes:
    return dicom.encoded_clip([_jpeg_of_size(5600, 5700)] * 8, (8, 5600, 5700), JPEGBaseline8Bit)


def _jpeg_ls_damaged() -> bytes:
    frame = bytearray(jpeg_ls.encode_array(dicom.moving_disc(1)[0]))
    frame[40:] = b"\xff\x7f" * (len(frame) // 2)
    return dicom.encoded_clip([bytes(frame)] * 24, (24, 120, 160), JPEGLSLossless)


def _jpeg_lossless_damaged() -> bytes:
    frame = _jpeg_of_size(120, 160).replace(b"\xff\xc0", b"\xff\xc3")
    return dicom.encoded_clip([frame] * 24, (24, 120, 160), JPEGLosslessSV1)


def _rle(rows: int, columns: int, frames: int, content: bytes) -> bytes:
    segment = struct.pack("<16I", 1, 64, *[0] * 14) + content
    return dicom.encoded_clip([segment] * frames, (frames, rows, columns), RLELossless)


def _rle_of_runs() -> bytes:
    return _rle(5600, 5700, 8, b"\x81\0" * (5600 * 5700 // 128 + 1))


def _rle_of_nothing() -> bytes:
    return _rle(5600, 5700, 8, b"\x80" * 400_000)


def _palette_of_much() -> bytes:
    data = dicom.palette_clip(dicom.moving_disc(8, 48, 64))
    return data.replace(struct.pack("<3H", 256, 0, 16), struct.pack("<3H", 0, 65535, 16))


def _nested_sequences(depth: int = 900) -> bytes:
    def nest(dataset: Dataset) -> None:
        inner = Dataset()
        for _ in range(120):  # what pydicom writes without recursing too deeply
            outer = Dataset()
            outer.ReferencedSeriesSequence = Sequence([inner])
            inner = outer
        dataset.ReferencedSeriesSequence = Sequence([inner])

    data = dicom.jpeg_clip(dicom.moving_disc(4, 48, 64), change=nest)
    opening = b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    return data[: data.index(b"\x08\0\x15\x11")] + opening * depth * 20 + data[-200:]


def _private_element_of_4_gib() -> bytes:
    clip = dicom.jpeg_clip(dicom.moving_disc(4, 48, 64))
    at = clip.index(b"\x08\0\x60\0")
    return clip[:at] + b"\x09\0\x10\x10OB\0\0" + (2**32 - 2).to_bytes(4, "little") + clip[at:]


def _png_of_size(side: int) -> bytes:
    """A PNG of zeros, of one bit per pixel: `side` squared pixels in some kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    pack = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    content = b"".join(pack.compress(row) for _ in range(side)) + pack.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def _avi() -> bytes:
    """A RIFF header of an AVI file that states four billion frames, without any."""
    avih = struct.pack("<14I", 1, 0, 0, 0, 2**32 - 1, 0, 1, 2**31, 60_000, 60_000, 0, 0, 0, 0)
    return b"RIFF" + struct.pack("<I", 2**31) + b"AVI LIST" + struct.pack("<I", 192) + b"hdrlavih" + (
        struct.pack("<I", len(avih)) + avih + bytes(500)
    )  # fmt: skip


def _mp4() -> bytes:
    return b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + struct.pack(">I4sQ", 1, b"moov", 2**62) + bytes(2000)


BUILDERS: dict[str, Callable[[], bytes]] = {
    "deflated DICOM of 1.1 GiB": lambda: dicom.deflated_bomb(1100),
    "deflated DICOM of 240 MiB": lambda: dicom.deflated_bomb(240),
    "zip of deflated DICOM": _zip_of_deflated_bombs,
    "zip in zip, five levels": _zip_in_zip,
    "zip of 60,000 entries": _zip_of_many_entries,
    "zip of paths that lead out": _zip_of_paths,
    "zip that states wrong sizes": _zip_that_lies_about_sizes,
    "gzipped NIfTI": _nifti_bomb,
    "NIfTI of negative sizes": lambda: _nifti((-4, -4, -4, -4), bytes(4096)),
    "JPEG 2000, 32 frames of 5,600 x 5,600": lambda: _jpeg2000(5600, 32),
    "JPEG 2000, 8 frames of 5,600 x 5,600": lambda: _jpeg2000(5600, 8),
    "JPEG 2000 of millions of tiles": _jpeg2000_of_tiles,
    "JPEG of 880 scans": _jpeg_of_scans,
    "JPEG of 65,500 x 65,500": lambda: _jpeg_of_size(65500, 65500),
    "JPEG, 8 frames of 5,600 x 5,700": _jpeg_clip_of_large_frames,
    "JPEG-LS, damaged": _jpeg_ls_damaged,
    "lossless JPEG, damaged": _jpeg_lossless_damaged,
    "RLE of runs, 8 frames of 5,600 x 5,700": _rle_of_runs,
    "RLE of nothing": _rle_of_nothing,
    "a header of two billion frames": lambda: dicom.jpeg_clip(change=dicom.setting(NumberOfFrames=2**31 - 1)),
    "a header of 65,535 x 65,535": lambda: dicom.grey_clip(change=dicom.setting(Rows=65535, Columns=65535)),
    "palette of 65,536 entries from 65,535": _palette_of_much,
    "sequences in sequences": _nested_sequences,
    "a private element of 4 GiB": _private_element_of_4_gib,
    "PNG of 32,000 x 32,000": lambda: _png_of_size(32_000),
    "PNG of 5,600 x 5,600": lambda: _png_of_size(5_600),
    "AVI of four billion frames": _avi,
    "MP4 of exabytes": _mp4,
    "a class of no picture": lambda: dicom.jpeg_clip(
        change=dicom.setting(SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.9.1"))
    ),
    "a DICOM prefix and zeros": lambda: bytes(128) + b"DICM" + bytes(300_000),
}
