"""Reads a study from a file (echo clip, video, cine MR as NIfTI, Enhanced MR or zip), or from a folder of cine MR."""

from pathlib import Path

from echoplane.errors import NotAnImage, Unsupported
from echoplane.study.cine_files import ZIP, cines_in, read_cines
from echoplane.study.dicom import is_dicom, parse, read_dicom
from echoplane.study.expansion import expansion_budget
from echoplane.study.limits import Limits
from echoplane.study.mr_slices import is_mr
from echoplane.study.nifti import is_nifti
from echoplane.study.study import Study
from echoplane.study.video import NAMES, kind_of, read_without_header


def read_study(data: bytes) -> Study:
    """Returns the study in one file. Raises InputError with the reason if there is none."""
    with expansion_budget():
        return _read(data)


def _read(data: bytes) -> Study:
    if is_nifti(data) or data[:4] == ZIP:
        return Study((), cines_in(data))
    if not is_dicom(data):
        return _without_header(data)
    try:
        return read_dicom(data)
    except Unsupported:
        if not is_mr(parse(data, Limits())):
            raise
        return Study((), cines_in(data))


def _without_header(data: bytes) -> Study:
    if kind_of(data):
        return read_without_header(data)
    if data[:3] == b"\0\0\x01" or data[:4] in (b"\0\0\0\x01", b"\x1aE\xdf\xa3", b"0&\xb2u", b"FLV\x01"):
        raise Unsupported(f"this video format is not read. Send DICOM, or one of {NAMES}.")
    if data[:4] in (b"II*\0", b"MM\0*", b"RIFF") or data[:2] == b"BM":
        raise Unsupported(f"this picture format is not read. Send DICOM, or one of {NAMES}.")
    raise NotAnImage(
        f"this kind of file is not read: send ultrasound as DICOM or one of {NAMES}, cine MR as DICOM, NIfTI or zip."
    )


def read_study_at(path: Path) -> Study:
    """Returns the study of a file, or the cine MR of a folder. Raises InputError with the reason if there is none."""
    if not path.is_dir():
        return read_study(path.read_bytes())
    return Study((), read_cines(path))
