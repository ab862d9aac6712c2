"""Studies from DICOM: the header of one file now, its frames when they are asked for.

A header is checked before anything is decoded, so that a hostile file costs little: sizes are capped, a deflated
file is inflated against a cap, and the number of frames must match the pixel data. Errors name attributes and
numbers, never a value that could name a patient."""

import contextlib
import functools
import hashlib
import io
import logging
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileDataset
from pydicom.filereader import _read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    UID_dictionary,
)

from echoplane.errors import InputError, NotAnImage, TooLarge, Unsupported
from echoplane.study.pixels import DicomFrames
from echoplane.study.study import Identity, Instance, Region, Study
from echoplane.study.views import View, by_code

MIB = 1 << 20

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
ENCAPSULATED = (
    *(JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless),
    *(JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL, RLELossless),
)
MODALITY_BY_SOP_CLASS = {
    "1.2.840.10008.5.1.4.1.1.6.1": "US",  # Ultrasound Image
    "1.2.840.10008.5.1.4.1.1.3.1": "US",  # Ultrasound Multi-frame Image
    "1.2.840.10008.5.1.4.1.1.6": "US",  # the same two, retired
    "1.2.840.10008.5.1.4.1.1.3": "US",
}
REGION_KINDS = {(1, 1): "tissue", (1, 2): "colour-flow", (4, 10): "trace"}
"""(RegionSpatialFormat, RegionDataType), PS3.3 C.8.5.5.1.1 and .2."""
REGION_KINDS_BY_FORMAT = {2: "m-mode", 3: "spectral", 4: "trace"}
CENTIMETRES = 3


@dataclass(frozen=True)
class Limits:
    """What a reader accepts, so that a small file can't become gigabytes."""

    frame_pixels: int = 32_000_000
    """Rows x columns of one frame."""
    frames: int = 10_000
    inflated_bytes: int = 1024 * MIB
    """Of a deflated file."""


def read_dicom(source: Path | bytes, limits: Limits = Limits()) -> Study:
    """The study in one DICOM file.

    Raises NotAnImage (no DICOM, or cut off), Unsupported (transfer syntax or SOP class), TooLarge.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    with told_apart():
        dataset = parse(data, limits)
        return Study((_instance(dataset, hashlib.sha256(data).hexdigest(), limits),))


@contextlib.contextmanager
def told_apart() -> Iterator[None]:
    """Whatever pydicom raises on damaged input becomes NotAnImage; none of its messages may pass."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # values are parsed when they are asked for, each in its own way
        raise NotAnImage(f"the DICOM file is damaged or cut off ({type(error).__name__} while reading).") from None


def is_dicom(data: bytes) -> bool:
    """By its magic (PS3.10 7.1)."""
    return data[128:132] == b"DICM"


def parse(data: bytes, limits: Limits) -> FileDataset:
    """The data set of a DICOM file, its transfer syntax one that can be read."""
    quiet_pydicom()
    if not is_dicom(data):
        raise NotAnImage("this is no DICOM file: the four bytes DICM are missing at byte 128. Send a DICOM file.")
    syntax = _read_file_meta_info(io.BytesIO(data[132:])).get("TransferSyntaxUID")
    _check_syntax(syntax)
    if syntax == DeflatedExplicitVRLittleEndian:
        _check_inflated_size(data, limits)
    return pydicom.dcmread(io.BytesIO(data))


@functools.cache
def quiet_pydicom() -> None:
    """Values must not reach a log or a terminal: pydicom quotes the offending one in its warnings."""
    warnings.filterwarnings("ignore", module="pydicom")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def _check_syntax(syntax: Any) -> None:
    if syntax is None:
        raise NotAnImage("the file meta information has no transfer syntax; the file is damaged.")
    if syntax not in (*NATIVE, *ENCAPSULATED):
        name = syntax.name if syntax.is_transfer_syntax and not syntax.is_private else "unknown"
        raise Unsupported(
            f"the transfer syntax ({name}) is not read; native, RLE, JPEG, JPEG-LS and JPEG 2000 are. "
            "Transcode the file, for example with gdcmconv --raw."
        )


def _check_inflated_size(data: bytes, limits: Limits) -> None:
    """Inflate against the cap, keeping nothing, before pydicom inflates for good."""
    start = 132 + 12 + int.from_bytes(data[140:144], "little")  # preamble, DICM, group length element, group 2
    inflate, room = zlib.decompressobj(-zlib.MAX_WBITS), limits.inflated_bytes
    chunk = data[start:]
    while chunk and room > 0:
        room -= len(inflate.decompress(chunk, MIB))
        chunk = inflate.unconsumed_tail
    if room <= 0:
        raise TooLarge(f"the deflated file is larger than {limits.inflated_bytes // MIB} MiB when inflated.")


def _instance(dataset: FileDataset, digest: str, limits: Limits) -> Instance:
    if "SOPClassUID" not in dataset:  # pydicom keeps nothing of a file that is cut off inside its pixel data
        raise NotAnImage("the DICOM file is damaged or cut off: it has no SOP class.")
    modality = MODALITY_BY_SOP_CLASS.get(str(dataset.SOPClassUID))
    if modality is None:
        name = UID_dictionary.get(str(dataset.SOPClassUID), ("unknown",))[0]
        raise Unsupported(
            f"the SOP class ({name}) is not read; ultrasound images, of one frame or many, and cine MR are."
        )
    rows, columns, frame_count = (_count(dataset, name) for name in ("Rows", "Columns", "NumberOfFrames"))
    _check_sizes(rows, columns, frame_count, limits)
    if "PixelData" not in dataset:
        raise NotAnImage("the file holds no pixel data.")
    frames = DicomFrames(dataset, rows, columns, frame_count)
    frames.check_complete()
    frame_time_ms, time_warnings = _frame_time_ms(dataset)
    return Instance(
        digest=digest,
        modality=modality,
        frame_count=frame_count,
        rows=rows,
        columns=columns,
        frames=frames,
        frame_time_ms=frame_time_ms,
        regions=_regions(dataset),
        manufacturer=str(dataset.get("Manufacturer") or ""),
        model=str(dataset.get("ManufacturerModelName") or ""),
        view=_view(dataset),
        identity=_identity(dataset),
        warnings=time_warnings if frame_count > 1 else (),
    )


def _count(dataset: FileDataset, name: str) -> int:
    """A whole number above 0; NumberOfFrames may be left out for 1."""
    value = dataset.get(name, 1 if name == "NumberOfFrames" else None)
    try:
        count = int(value)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise NotAnImage(f"{name} is missing or no whole number above 0.")
    return count


def _check_sizes(rows: int, columns: int, frame_count: int, limits: Limits) -> None:
    if rows * columns > limits.frame_pixels:
        raise TooLarge(
            f"a frame of {rows} x {columns} has {rows * columns / 1e6:.0f} million pixels; "
            f"at most {limits.frame_pixels / 1e6:.0f} million are read."
        )
    if frame_count > limits.frames:
        raise TooLarge(f"the clip has {frame_count} frames; at most {limits.frames} are read.")


def _frame_time_ms(dataset: FileDataset) -> tuple[float | None, tuple[str, ...]]:
    """From FrameTime, else the mean of FrameTimeVector, else a cine rate; None where nothing usable is there."""
    if frame_time_ms := _number(dataset.get("FrameTime")):
        return frame_time_ms, ()
    vector = _frame_times_ms(dataset.get("FrameTimeVector"))
    if vector and all(vector):
        return sum(v for v in vector if v) / len(vector), ()
    for name in ("CineRate", "RecommendedDisplayFrameRate"):
        if rate_hz := _number(dataset.get(name)):
            return 1000 / rate_hz, (f"no FrameTime in the file: it was taken from {name}",)
    return None, ()


def _frame_times_ms(vector: Any) -> list[float | None]:
    """Without the first, which is 0 by definition; a lone value is none of them."""
    return [_number(value) for value in vector[1:]] if isinstance(vector, MultiValue) else []


def _number(value: Any) -> float | None:
    """A positive finite number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < 1e9 else None


def _regions(dataset: FileDataset) -> tuple[Region, ...]:
    """The calibrated regions; one without usable corners is left out."""
    return tuple(r for item in dataset.get("SequenceOfUltrasoundRegions") or [] if (r := _region(item)))


def _region(item: Any) -> Region | None:
    try:
        left, top = int(item.RegionLocationMinX0), int(item.RegionLocationMinY0)
        right, bottom = int(item.RegionLocationMaxX1) + 1, int(item.RegionLocationMaxY1) + 1  # inclusive in the file
        kind = (int(item.RegionSpatialFormat), int(item.RegionDataType))
    except (AttributeError, TypeError, ValueError):
        return None
    name = REGION_KINDS.get(kind) or REGION_KINDS_BY_FORMAT.get(kind[0], "other")
    return Region(name, top, left, bottom, right, _spacing_mm(item))


def _spacing_mm(item: Any) -> tuple[float, float] | None:
    if item.get("PhysicalUnitsXDirection") != CENTIMETRES or item.get("PhysicalUnitsYDirection") != CENTIMETRES:
        return None
    row_cm, column_cm = (_number(abs(item.get(f"PhysicalDelta{axis}") or 0)) for axis in "YX")
    return (10 * row_cm, 10 * column_cm) if row_cm and column_cm else None


def _view(dataset: FileDataset) -> View | None:
    codes = dataset.get("ViewCodeSequence") or []
    return by_code(str(codes[0].get("CodingSchemeDesignator")), str(codes[0].get("CodeValue"))) if codes else None


def _identity(dataset: FileDataset) -> Identity:
    height_m, weight_kg = _number(dataset.get("PatientSize")), _number(dataset.get("PatientWeight"))
    age = str(dataset.get("PatientAge") or "")
    return Identity(
        patient=str(dataset.get("PatientID") or ""),
        study_uid=str(dataset.get("StudyInstanceUID") or ""),
        instance_uid=str(dataset.get("SOPInstanceUID") or ""),
        sex=sex if (sex := dataset.get("PatientSex")) in ("F", "M", "O") else None,
        age_years=int(age[:3]) if age[3:] == "Y" and age[:3].isdigit() else None,
        bmi=round(weight_kg / height_m**2, 1) if height_m and weight_kg else None,
    )
