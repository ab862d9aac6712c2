"""A cine study from whatever holds it: NIfTI, MR DICOM files, a folder of either or of pictures, a zip of DICOM."""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from echoplane.errors import InputError, NotAnImage, TooLarge, UnusableStudy
from echoplane.study.cine import Cine
from echoplane.study.dicom import Limits, parse
from echoplane.study.frames import has_frames, read_frames
from echoplane.study.nifti import is_nifti, read_nifti
from echoplane.study.series import cines_of, is_mr, slices_of

ZIP = b"PK\x03\x04"
NAMES = {"short-axis": "sa", "2-chamber": "la_2ch", "4-chamber": "la_4ch"}
"""Of NIfTI files, which do not say their plane, without their endings: the UK Biobank's."""
MASK = "_mask"
"""A NIfTI file whose name ends so holds what a reader drew, no cine."""
MOST_FILES = 20_000
MOST_UNZIPPED = 2 << 30


def read_cines(source: Path) -> tuple[Cine, ...]:
    """The short axis cine, first, and the long axis ones where the source holds any.

    Raises an InputError that says what is wrong with the source; a folder's other files are passed over, but at least
    one must be readable.
    """
    if source.is_dir():
        return _folder(source)
    return cines_in(source.read_bytes())


def cines_in(data: bytes) -> tuple[Cine, ...]:
    """The same from the bytes of one file: NIfTI, DICOM, or a zip of a series."""
    if is_nifti(data):
        return (read_nifti(data),)
    return _dicom(_unzipped(data) if data[:4] == ZIP else [data])


def _folder(folder: Path) -> tuple[Cine, ...]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if len(files) > MOST_FILES:
        raise TooLarge(f"the folder holds {len(files)} files; at most {MOST_FILES} are read.")
    niftis = [path for path in files if path.name.endswith((".nii", ".nii.gz")) and MASK not in path.name]
    if niftis:
        return _niftis(niftis)
    if has_frames(folder):
        return (read_frames(folder),)
    return _dicom(path.read_bytes() for path in files if path.name != "DICOMDIR")


def _niftis(paths: list[Path]) -> tuple[Cine, ...]:
    """One alone is the short axis."""
    planes = {name: plane for plane, name in NAMES.items()}
    if len(paths) == 1:
        return (read_nifti(paths[0].read_bytes()),)
    named = {planes[stem]: path for path in paths if (stem := path.name.split(".")[0]) in planes}
    if "short-axis" not in named:
        raise UnusableStudy(
            f"the folder holds {len(paths)} NIfTI files; name the short axis one sa.nii.gz and the long axis ones "
            "la_2ch.nii.gz and la_4ch.nii.gz, or give one file."
        )
    return tuple(read_nifti(named[plane].read_bytes(), plane) for plane in planes.values() if plane in named)


def _dicom(contents: Iterable[bytes]) -> tuple[Cine, ...]:
    slices, others, first_error = [], 0, None
    for data in contents:
        try:
            dataset = parse(data, Limits())
            if is_mr(dataset):
                slices += list(slices_of(dataset))
            else:
                others += 1
        except NotAnImage as error:
            first_error = first_error or error
            others += 1
    if not slices:
        raise first_error or UnusableStudy(f"none of the {others} file(s) is an MR image. Send the cine MR series.")
    cines = cines_of(slices)
    return (cines[0].said(f"{others} file(s) that are no MR image were passed over"), *cines[1:]) if others else cines


def _unzipped(data: bytes) -> Iterable[bytes]:
    """Every file of the archive, in memory and against a cap; nothing is written and no name is used."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) > MOST_FILES or sum(member.file_size for member in members) > MOST_UNZIPPED:
            raise TooLarge(f"the archive holds over {MOST_FILES} files or {MOST_UNZIPPED >> 20} MiB.")
        return [archive.read(member) for member in members]
    except InputError:
        raise
    except Exception as error:  # zipfile raises many kinds on damaged archives
        raise NotAnImage(f"the archive is damaged ({type(error).__name__}).") from None
