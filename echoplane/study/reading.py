"""A study from the bytes of one file, whatever it is: an echo clip, a cine MR as NIfTI, Enhanced MR or a zip."""

from echoplane.errors import Unsupported
from echoplane.study.cine_files import ZIP, cines_in
from echoplane.study.dicom import Limits, parse, read_dicom
from echoplane.study.nifti import is_nifti
from echoplane.study.series import is_mr
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
