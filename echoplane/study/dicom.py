"""Reads DICOM files: the header at once, the frames on demand.

A header is checked before anything is decoded, so that a hostile file costs little: sizes are capped, a deflated file
is inflated against a cap, and the number of frames must match the pixel data. Errors name attributes and numbers, never
a value that could name a patient.
"""

import contextlib
import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import _read_file_meta_info
from pydicom.filewriter import write_file_meta_info
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
)

from echoplane.errors import InputError, NotAnImage, TooLarge, Unsupported
from echoplane.study.expansion import spend
from echoplane.study.limits import DEFAULT_LIMITS, MIB, Limits
from echoplane.study.pydicom_setup import set_up_pydicom
from echoplane.study.study import Study
from echoplane.study.ultrasound import instance_of

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
ENCAPSULATED = (
    *(JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless),
    *(JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL, RLELossless),
)
NO_MAGIC = "this is no DICOM file: the four bytes DICM are missing at byte 128. Send a DICOM file."
TRUNCATED = "the DICOM file is truncated: it ends inside a data element. Send the whole file."
REMEDY = (
    "Export the clip as JPEG or uncompressed DICOM where it was recorded or archived, or as MP4 or AVI, which are read "
    "without a header."
)


def read_dicom(source: Path | bytes, limits: Limits = DEFAULT_LIMITS) -> Study:
    """Returns the study in one DICOM file.

    Raises NotAnImage if it is no DICOM file or damaged, Unsupported for its transfer syntax or SOP class, or TooLarge.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    with damaged_file_errors():
        dataset = parse(data, limits)
        return Study((instance_of(dataset, hashlib.sha256(data).hexdigest(), limits),))


@contextlib.contextmanager
def damaged_file_errors() -> Iterator[None]:
    """Converts every exception that pydicom raises on damaged input to NotAnImage; its messages may quote values."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # values are parsed on access, each with its own errors
        raise NotAnImage(f"the DICOM file is damaged or truncated ({type(error).__name__} while reading).") from None


def is_dicom(data: bytes) -> bool:
    """Returns True if the file has the DICM prefix (PS3.10 7.1), or begins with it or with an element that can come
    first."""
    return b"DICM" in (data[128:132], data[:4]) or _has_no_preamble(data)


def _has_no_preamble(data: bytes) -> bool:
    """Returns True if a file begins with file meta information or, without that, with the group of the SOP class."""
    return data[:2] in (b"\x02\0", b"\x08\0") and data[3:4] == b"\0"


def parse(data: bytes, limits: Limits) -> FileDataset:
    """Returns the data set of a DICOM file. Raises Unsupported if its transfer syntax is not supported."""
    set_up_pydicom()
    if not is_dicom(data):
        raise NotAnImage(NO_MAGIC)
    if data[128:132] != b"DICM":
        data = _with_preamble(data)
    after_prefix = io.BytesIO(data[132:])
    syntax = _read_file_meta_info(after_prefix).get("TransferSyntaxUID")
    if not syntax:  # read as a data set without file meta information
        data = _with_preamble(after_prefix.read())
        syntax = _read_file_meta_info(io.BytesIO(data[132:])).get("TransferSyntaxUID")
    _check_syntax(syntax)
    if syntax == DeflatedExplicitVRLittleEndian:
        _check_inflated_size(data, limits)
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
    except (EOFError, OSError):  # the end of the file inside a sequence
        raise NotAnImage(TRUNCATED) from None
    if not len(dataset):  # pydicom keeps nothing of a file that ends inside another element
        raise NotAnImage(TRUNCATED)
    return dataset


def _with_preamble(data: bytes) -> bytes:
    """Returns the data with the preamble and file meta information of PS3.10 7.1, for a file that begins with its first
    element.

    A data set alone does not state its encoding; the second half of its first element shows whether it has explicit
    VRs.
    """
    if data[:4] == b"DICM":
        return bytes(128) + data
    if data[:1] == b"\x02":
        return bytes(128) + b"DICM" + data
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if data[4:6].isalpha() else ImplicitVRLittleEndian
    target = DicomBytesIO()
    write_file_meta_info(target, meta, enforce_standard=False)
    return bytes(128) + b"DICM" + target.getvalue() + data


def _check_syntax(syntax: Any) -> None:
    if syntax is None:
        raise NotAnImage("the file meta information has no transfer syntax; the file is damaged.")
    if syntax not in (*NATIVE, *ENCAPSULATED):
        name = syntax.name if syntax.is_transfer_syntax and not syntax.is_private else "unknown"
        raise Unsupported(
            f"the transfer syntax ({name}) is not read; native, RLE, JPEG, JPEG-LS and JPEG 2000 are. {REMEDY}"
        )


def _check_inflated_size(data: bytes, limits: Limits) -> None:
    """Raises TooLarge if the file inflates to more than the limit; the inflated data are not kept."""
    start = 132 + 12 + int.from_bytes(data[140:144], "little")  # preamble, DICM, group length element, group 2
    inflate, room = zlib.decompressobj(-zlib.MAX_WBITS), limits.inflated_bytes
    chunk = data[start:]
    while chunk and room > 0:
        size = len(inflate.decompress(chunk, MIB))
        spend(size)
        room -= size
        chunk = inflate.unconsumed_tail
    if room <= 0:
        raise TooLarge(f"the deflated file is larger than {limits.inflated_bytes // MIB} MiB when inflated.")
