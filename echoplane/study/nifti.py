"""Reads cines and writes masks as NIfTI-1: X, Y, Z, T on disk; the affine is kept bit for bit.

Supported is the part of the format that a cine needs (https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h):
single files (.nii, .nii.gz), either byte order, scaled integers and floats.

Axes: X column, Y row, Z slice, T phase, H = Y, W = X."""

import gzip
import io
import zlib
from typing import Literal

import numpy as np

from echoplane.errors import NotAnImage, TooLarge, Unsupported, UnusableStudy
from echoplane.study.cine import MIN_PHASES, MIN_PHASES_OF_A_BEAT, Cine, check_size
from echoplane.study.expansion import spend
from echoplane.study.nifti_geometry import (
    MILLIMETRE,
    credible_affine,
    frame_time_between_phases_ms,
    spacings,
    stated_affines,
)

HEADER = np.dtype(
    [
        ("sizeof_hdr", "i4"), ("unused1", "V35"), ("dim_info", "u1"), ("dim", "i2", 8), ("intent_p", "f4", 3),
        ("intent_code", "i2"), ("datatype", "i2"), ("bitpix", "i2"), ("slice_start", "i2"), ("pixdim", "f4", 8),
        ("vox_offset", "f4"), ("scl_slope", "f4"), ("scl_inter", "f4"), ("slice_end", "i2"), ("slice_code", "u1"),
        ("xyzt_units", "u1"), ("cal_max", "f4"), ("cal_min", "f4"), ("slice_duration", "f4"), ("toffset", "f4"),
        ("glmax", "i4"), ("glmin", "i4"), ("descrip", "S80"), ("aux_file", "S24"), ("qform_code", "i2"),
        ("sform_code", "i2"), ("quatern", "f4", 3), ("qoffset", "f4", 3), ("srow", "f4", (3, 4)),
        ("intent_name", "S16"), ("magic", "S4"),
    ]
)  # fmt: skip
DATA_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
RGB24, RGBA32 = 128, 2304
GZIP = b"\x1f\x8b"
HEADER_BYTES = 352
NIFTI_2 = b"n+2\x00"
LARGEST_VALUE = 1e30
"""Largest plausible value: far beyond what scanners store, and small enough to compute with in 32 bits."""
MAX_BYTES, TAIL_BYTES = 1 << 30, 64 << 20


def is_nifti(data: bytes) -> bool:
    """Returns True if the data have the magic of NIfTI, also inside a gzip stream."""
    start = _start(data)
    return start[344:348] in (b"n+1\x00", b"ni1\x00") or start[4:8] == NIFTI_2


def read_nifti(data: bytes, plane: str = "short-axis", *, min_phases: int = MIN_PHASES) -> Cine:
    """Reads the cine in one NIfTI file, or a part of one if `min_phases` is 1.

    Raises NotAnImage, Unsupported, TooLarge or UnusableStudy if it is none.
    """
    header = _header(_start(data))
    shape_XYZT = _shape(header, min_phases)
    check_size(shape_XYZT)
    values_XYZT = _values(data, header, shape_XYZT)
    affine, warnings = credible_affine(header)
    spacing_mm, slice_spacing_mm, spacing_warnings = spacings(header)
    warnings += spacing_warnings
    frame_time_ms = frame_time_between_phases_ms(header)
    if frame_time_ms is None:
        warnings += ("no time between phases in the file (pixdim[4]): no heart rate and no cardiac output",)
    elif shape_XYZT[3] >= MIN_PHASES_OF_A_BEAT:
        warnings += (
            f"heart rate and cardiac output rest on the {frame_time_ms:.0f} ms between phases that the NIfTI file "
            "states; some converters write the repetition time there",
        )
    if int(header["dim"][0]) > 4:
        warnings += ("the file has five dimensions; the fifth was taken for time",)
    stated = stated_affines(header)
    return Cine(
        plane=plane,
        voxels_TZHW=values_XYZT.transpose(3, 2, 1, 0),
        spacing_mm=spacing_mm,
        slice_spacing_mm=slice_spacing_mm,
        frame_time_ms=frame_time_ms,
        affine=affine,
        stored_affine=stated[0][1] if stated else None,
        covers_beat=shape_XYZT[3] >= MIN_PHASES_OF_A_BEAT,
        warnings=warnings,
    )


def write_nifti(values_TZHW: np.ndarray, cine: Cine) -> bytes:
    """Returns a gzipped NIfTI of `values_TZHW` (uint8, else int16) on the grid of `cine`, with its affine and spacings.

    Without a spacing the affine is that of indices and the unit of length is "unknown", so that no spacing of 1 mm is
    implied.
    """
    header = np.zeros((), HEADER)
    header["sizeof_hdr"], header["magic"], header["vox_offset"] = 348, b"n+1", 352
    header["dim"] = (4, *values_TZHW.shape[::-1], 1, 1, 1)
    kind = 2 if values_TZHW.dtype == np.uint8 else 4
    stored = np.ascontiguousarray(values_TZHW, np.dtype(DATA_TYPES[kind]).newbyteorder("<"))
    header["datatype"], header["bitpix"], header["scl_slope"] = kind, 8 * stored.itemsize, 1
    row_mm, column_mm = cine.spacing_mm or (1.0, 1.0)
    header["pixdim"] = (1, column_mm, row_mm, cine.slice_spacing_mm or 1.0, cine.frame_time_ms or 1.0, 0, 0, 0)
    header["xyzt_units"] = (MILLIMETRE if cine.spacing_mm else 0) | (16 if cine.frame_time_ms else 0)
    known = cine.affine if cine.stored_affine is None else cine.stored_affine
    affine = np.diag([column_mm, row_mm, cine.slice_spacing_mm or 1.0, 1.0]) if known is None else known
    header["sform_code"], header["srow"] = 1 if known is not None else 0, affine[:3]
    body = header.tobytes() + bytes(4) + stored.tobytes()
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=6) as file:
        file.write(body)
    return buffer.getvalue()


def _start(data: bytes) -> bytes:
    """Returns the bytes of the header, inflated; empty if a gzip stream is damaged before its end."""
    if data[:2] != GZIP:
        return data[:HEADER_BYTES]
    try:
        return zlib.decompressobj(31).decompress(data, HEADER_BYTES)
    except zlib.error:
        return b""


def _inflated(data: bytes, needed_bytes: int) -> bytes:
    """Returns the inflated bytes that the header asks for, or all; reads to the end of the stream, for its checksum."""
    if data[:2] != GZIP:
        return data
    inflate, room = zlib.decompressobj(31), MAX_BYTES - needed_bytes
    spend(needed_bytes)
    try:
        out = inflate.decompress(data, needed_bytes)
        while inflate.unconsumed_tail and room >= 0:  # the output is discarded
            room -= len(inflate.decompress(inflate.unconsumed_tail, TAIL_BYTES))
    except zlib.error:
        raise NotAnImage("the gzip stream of the NIfTI file is damaged.") from None
    if room < 0:
        raise TooLarge(f"the NIfTI file is larger than {MAX_BYTES >> 20} MiB when inflated.")
    if not inflate.eof:
        raise NotAnImage("the NIfTI file is cut off.")
    return out


def _header(data: bytes) -> np.ndarray:
    """Returns the header, in the byte order of the file."""
    if data[4:8] == NIFTI_2:
        raise Unsupported("this is NIfTI-2; save the cine as NIfTI-1 (.nii or .nii.gz).")
    if len(data) < HEADER_BYTES or data[344:348] != b"n+1\x00":
        raise NotAnImage("this is no single-file NIfTI-1: its magic is missing. Save the cine as .nii or .nii.gz.")
    order: Literal["<", ">"]
    for order in ("<", ">"):
        header = np.frombuffer(data, HEADER.newbyteorder(order), 1)[0]
        if header["sizeof_hdr"] == 348:
            return header
    raise NotAnImage("the NIfTI header does not state its size; the file is damaged.")


def _shape(header: np.ndarray, min_phases: int) -> tuple[int, int, int, int]:
    """Returns X, Y, Z, T; a fifth dimension is time if the fourth is 1, as converters with a channel axis write."""
    count = int(header["dim"][0])
    sides = [int(n) for n in header["dim"][1 : count + 1]] if 1 <= count <= 7 else []
    if not sides or min(sides) < 1:
        raise NotAnImage(f"the NIfTI header states impossible dimensions ({count}).")
    if len(sides) > 4 and sides[3] == 1:
        del sides[3]
    if any(n != 1 for n in sides[4:]):
        raise UnusableStudy(f"the NIfTI file has {count} dimensions; X, Y, Z and T are read: a single channel.")
    sides = [*sides[:4], *[1] * (4 - len(sides[:4]))]
    if sides[3] < min_phases:
        raise UnusableStudy(
            f"the NIfTI file holds one phase ({' x '.join(map(str, sides[:3]))}); a cine has X, Y, Z and T."
        )
    return sides[0], sides[1], sides[2], sides[3]


def _values(data: bytes, header: np.ndarray, shape_XYZT: tuple[int, ...]) -> np.ndarray:
    kind = int(header["datatype"])
    if kind in (RGB24, RGBA32):
        raise UnusableStudy("the NIfTI file has 3 colour channels; a cine MR has one. Send the original series.")
    if kind not in DATA_TYPES:
        raise Unsupported(
            f"NIfTI data type {kind} is not read; integers of up to 32 bits and floats of one channel are."
        )
    stored = np.dtype(DATA_TYPES[kind]).newbyteorder(header.dtype["dim"].base.byteorder)
    offset = float(header["vox_offset"]) or HEADER_BYTES
    if not 348 <= offset <= MAX_BYTES:
        raise NotAnImage("the NIfTI header says that the voxels begin where they can't; the file is damaged.")
    start, count = int(offset), int(np.prod(shape_XYZT, dtype=np.int64))
    needed = start + count * stored.itemsize
    if needed > MAX_BYTES:
        raise TooLarge(f"the NIfTI file holds {needed >> 20} MiB; at most {MAX_BYTES >> 20} are read.")
    data = _inflated(data, needed)
    if len(data) < needed:
        raise NotAnImage(f"the NIfTI file is cut off: {len(data)} bytes of {needed} are there.")
    values = np.frombuffer(data, stored, count, start).reshape(shape_XYZT, order="F")
    slope, intercept = (float(v) if np.isfinite(v) else 0.0 for v in (header["scl_slope"], header["scl_inter"]))
    with np.errstate(over="ignore", invalid="ignore"):
        if slope not in (0.0, 1.0) or intercept:
            values = values.astype(np.float32) * (slope or 1.0) + intercept
    if values.dtype.kind != "f":
        return values
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    if max(values.max(), -values.min()) > LARGEST_VALUE:
        raise NotAnImage(f"voxels of the NIfTI file are beyond {LARGEST_VALUE:g}: it is damaged. Send the original.")
    return values
