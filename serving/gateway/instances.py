"""Header of a received instance as the gateway reads it, and the reasons for which it refuses one."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    MPEGTransferSyntaxes,
    RLETransferSyntaxes,
)

from echoplane.study.dicom import ENCAPSULATED
from echoplane.study.pydicom_setup import set_up_pydicom

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
TRANSFER_SYNTAXES = tuple(
    dict.fromkeys(
        (
            *NATIVE,
            *JPEGTransferSyntaxes,
            *JPEGLSTransferSyntaxes,
            *JPEG2000TransferSyntaxes,
            *RLETransferSyntaxes,
            *MPEGTransferSyntaxes,
            *ENCAPSULATED,
        )
    )
)
"""Accepted transfer syntaxes. Deflated is not among them: a small file could expand to fill the memory."""
UID = re.compile(r"[0-9]+(\.[0-9]+)*")
MAX_UID = 64
ATTRIBUTES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")


class Refused(Exception):
    """Raised if an instance is not stored. `status` is that of C-STORE (PS3.4 table B.2-1), `kind` a metric label."""

    def __init__(self, status: int, kind: str, comment: str) -> None:
        super().__init__(comment)
        self.status, self.kind, self.comment = status, kind, comment


def out_of_resources() -> Refused:
    return Refused(0xA700, "out-of-resources", "no space left")


def invalid(comment: str) -> Refused:
    return Refused(0xA900, "invalid", comment)


def conflicting() -> Refused:
    """A second instance with a stored one's UID and other content: one of them is wrong, and neither is replaced."""
    return Refused(0xC111, "conflict", "other content has this SOP Instance UID")


@dataclass(frozen=True)
class Header:
    """Attributes by which an instance is filed. They identify a patient's study, and so never appear in a log."""

    sop_class: str
    sop_uid: str
    study_uid: str
    series_uid: str
    modality: str
    transfer_syntax: str
    digest: str
    """SHA-256 of the data set without the file meta information, which each sender writes differently."""


def read_header(path: Path) -> Header:
    """Reads the header of a DICOM file. Raises Refused if the file is damaged or lacks an attribute of ATTRIBUTES."""
    set_up_pydicom()
    try:
        syntax, digest = _syntax_and_digest(path)
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(ATTRIBUTES))
        values = [str(dataset.get(keyword) or "") for keyword in ATTRIBUTES]
    except Refused:
        raise
    except MemoryError:
        raise
    except Exception:  # pydicom fails in many ways on damaged files, with messages that quote them
        raise invalid("the data set cannot be read") from None
    for keyword, value in zip(ATTRIBUTES[:4], values[:4], strict=True):
        if not is_uid(value):
            raise invalid(f"{keyword} is absent or invalid")
    return Header(values[0], values[1], values[2], values[3], values[4], syntax, digest)


def _syntax_and_digest(path: Path) -> tuple[str, str]:
    with path.open("rb") as file:
        read_preamble(file, force=False)
        syntax = _read_file_meta_info(file).TransferSyntaxUID
        if syntax not in TRANSFER_SYNTAXES:
            raise Refused(0xC122, "transfer-syntax", "the transfer syntax is not accepted")
        return str(syntax), hashlib.file_digest(file, "sha256").hexdigest()


def is_uid(text: str) -> bool:
    return len(text) <= MAX_UID and UID.fullmatch(text) is not None
