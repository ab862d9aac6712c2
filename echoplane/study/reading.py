"""A study from whatever holds it: a file (echo clip, cine MR as NIfTI, Enhanced MR or zip), or a folder of cine MR."""

from pathlib import Path

from echoplane.errors import Unsupported
from echoplane.study.cine_files import ZIP, cines_in, read_cines
from echoplane.study.dicom import parse, read_dicom
from echoplane.study.limits import Limits
from echoplane.study.mr_slices import is_mr
from echoplane.study.nifti import is_nifti
from echoplane.study.study import Study


def read_study(data: bytes) -> Study:
    """The study in one file; an InputError says why there is none."""
    if is_nifti(data) or data[:4] == ZIP:
        return Study((), cines_in(data))
    try:
        return read_dicom(data)
    except Unsupported:
        if not is_mr(parse(data, Limits())):
            raise
        return Study((), cines_in(data))


def read_study_at(path: Path) -> Study:
    """The study of a file, or the cine MR of a folder; an InputError says why there is none."""
    return Study((), read_cines(path)) if path.is_dir() else read_study(path.read_bytes())
