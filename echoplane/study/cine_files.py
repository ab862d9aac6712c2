"""Reader of cine studies from NIfTI, MR DICOM, a folder of either or of pictures, or a zip of any of them."""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from echoplane.errors import InputError, NotAnImage, TooLarge, UnusableStudy
from echoplane.study.cine import MIN_PHASES, MIN_SLICES, Cine, looks_exchanged
from echoplane.study.dicom import NO_MAGIC, damaged_file_errors, parse
from echoplane.study.expansion import spend
from echoplane.study.frames import pictures_in, read_frames
from echoplane.study.joined_files import joined_phases, joined_slices
from echoplane.study.limits import Limits
from echoplane.study.mr_slices import Slice, is_mr, slices_of
from echoplane.study.nifti import is_nifti, read_nifti
from echoplane.study.series import by_geometry, cines_of
from echoplane.study.subject import Subject, subject_of

ZIP = b"PK\x03\x04"
NAMES = {"short-axis": "sa", "2-chamber": "la_2ch", "4-chamber": "la_4ch"}
"""Names of NIfTI files by plane, without their endings, as in the UK Biobank: NIfTI itself does not state the plane."""
MASK = "_mask"
"""Part of the name of NIfTI files that hold annotated masks and not a cine."""
FOUND = {plane: "mask.nii.gz" if plane == "short-axis" else f"mask-{plane}.nii.gz" for plane in NAMES}
"""Names of the masks that `measure` writes, by plane; they are not read as cines either."""
NIFTI_ENDS = (".nii", ".nii.gz")
READ = "a NIfTI or Enhanced MR file, a folder of MR DICOM, of NIfTI or of pictures with a CSV, or a zip of any of these"
"""What is read as a cine MR, for messages."""
MAX_FILES = 20_000
MAX_UNZIPPED = 1 << 30

Files = Mapping[str, Callable[[], bytes]]
"""Files of a study: functions that return the content, by path inside the folder or archive."""


def read_cines(source: Path) -> tuple[Cine, ...]:
    """Returns the short axis cine, first, and the long axis cines if the source holds any.

    Raises an InputError with the reason if there is no short axis cine. Other files of a folder are skipped, but at
    least one must be readable.
    """
    if not source.is_dir():
        return cines_in(source.read_bytes())
    paths = [path for path in sorted(source.rglob("*")) if path.is_file()]
    return _files({path.relative_to(source).as_posix(): path.read_bytes for path in paths})


def cines_in(data: bytes) -> tuple[Cine, ...]:
    """Returns the cines in the bytes of one file: NIfTI, DICOM, or a zip of what a folder may hold."""
    if is_nifti(data):
        return (_nifti(data),)
    return _files(_unzipped(data)) if data[:4] == ZIP else _dicom({"": lambda: data})


def contents_of(source: Path) -> Iterator[bytes]:
    """Yields the content of each file of a folder, of a zip, or of the one file that `source` is."""
    if source.is_dir():
        yield from (path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file())
    else:
        yield from contents_in(source.read_bytes())


def contents_in(data: bytes) -> Iterator[bytes]:
    """Yields the content of each file of a zip, or else `data` itself."""
    yield from (load() for load in _unzipped(data).values()) if data[:4] == ZIP else (data,)


def _files(files: Files) -> tuple[Cine, ...]:
    """Returns the cines of the files: of NIfTI if present, else of pictures, else of DICOM."""
    if len(files) > MAX_FILES:
        raise TooLarge(f"the folder holds {len(files)} files; at most {MAX_FILES} are read.")
    seen = {n: load for n, load in files.items() if not PurePosixPath(n).name.startswith((".", "DICOMDIR"))}
    niftis = {n: load for n, load in seen.items() if n.endswith(NIFTI_ENDS) and not _is_mask(PurePosixPath(n).name)}
    if niftis:
        return _niftis(niftis)
    if pictures := pictures_in(seen):
        return (read_frames(pictures),)
    return _dicom(seen)


def _is_mask(name: str) -> bool:
    return MASK in name or name in FOUND.values()


def _niftis(files: Files) -> tuple[Cine, ...]:
    """Returns the cines of NIfTI files, with planes by name if one is sa.nii.gz (UK Biobank), else by geometry."""
    if len(files) == 1:
        return (_nifti(next(iter(files.values()))()),)
    named = {plane: [n for n in files if PurePosixPath(n).name.split(".")[0] == stem] for plane, stem in NAMES.items()}
    if named["short-axis"]:
        if (
            len({PurePosixPath(n).parent for found in named.values() for n in found}) > 1
            or max(map(len, named.values())) > 1
        ):
            raise UnusableStudy("several folders or files inside hold a cine of the same name; send one patient's.")
        return tuple(_nifti(files[n](), plane) for plane, found in named.items() for n in found)
    if (folders := len({PurePosixPath(n).parent for n in files})) > 1:
        raise UnusableStudy(f"{folders} folders inside hold NIfTI files; send one patient's, in one folder.")
    found, others = [], 0
    for name in sorted(files):
        try:
            found.append(_nifti(files[name](), min_phases=1))
        except UnusableStudy:  # such as a label map with channels; another file may be the cine
            others += 1
    return by_geometry(_joined(found), others)


def _nifti(data: bytes, plane: str = "short-axis", min_phases: int = MIN_PHASES) -> Cine:
    """Returns a NIfTI file's cine. Raises UnusableStudy if slices and phases are mixed (rordenlab/dcm2niix#799)."""
    cine = read_nifti(data, plane, min_phases=min_phases)
    if looks_exchanged(cine):
        raise UnusableStudy(
            "neighbouring slices of the NIfTI file are more alike than neighbouring phases: slices and phases are "
            "mixed. Convert the study again, or send the DICOM files."
        )
    return cine


def _joined(found: list[Cine]) -> list[Cine]:
    """Returns the cines, after joining files that hold one phase, or one slice, of the same cine."""
    stacks = [cine for cine in found if cine.phases > 1 and cine.slices >= MIN_SLICES]
    if stacks:
        return [cine for cine in found if cine.phases > 1]
    whole = joined_phases(found) or joined_slices(found)
    moving = [cine for cine in found if cine.phases > 1]
    if whole:
        return [whole, *moving]
    if still := [cine for cine in found if cine.phases == 1]:
        shapes = sorted({" x ".join(map(str, cine.voxels_TZHW.shape[1:])) for cine in still})
        raise UnusableStudy(
            f"{len(still)} NIfTI files hold one phase each, of {', '.join(shapes)} voxels (slice, row, column), and no "
            "two pictures of one grid can be joined to a cine. Send end diastole and end systole on one grid, or a "
            "file with X, Y, Z and T."
        )
    return found


def _dicom(files: Files) -> tuple[Cine, ...]:
    slices: list[Slice] = []
    others, first_error, subject = 0, None, None
    for load in files.values():
        try:
            with damaged_file_errors():
                dataset = parse(load(), Limits())
                if is_mr(dataset):
                    slices += list(slices_of(dataset))
                    subject = subject or subject_of(dataset)
                else:
                    others += 1
        except NotAnImage as error:
            first_error = first_error or error
            others += 1
    if not slices:
        raise _nothing(others, first_error)
    stack, *planes = cines_of(slices)
    stack = replace(stack, subject=subject or Subject())
    if others:
        stack = stack.with_warnings(f"{others} file(s) that are no MR image were passed over")
    return (stack, *planes)


def _nothing(others: int, first_error: NotAnImage | None) -> InputError:
    if others == 0:
        return UnusableStudy(f"there is no file in it. Give {READ}.")
    if first_error and others == 1:
        return NotAnImage(f"this is no cine MR. Give {READ}.") if str(first_error) == NO_MAGIC else first_error
    return UnusableStudy(
        f"none of the {others} file(s) is an MR image. A zip or a folder is read as one cine MR: a DICOM series, "
        "NIfTI, or pictures with a CSV. Send each clip of ultrasound as a file of its own."
    )


def _unzipped(data: bytes) -> Files:
    """Returns every file of the archive, to be read in memory and within a size limit; nothing is written to disk."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) > MAX_FILES or sum(member.file_size for member in members) > MAX_UNZIPPED:
            raise TooLarge(f"the archive holds over {MAX_FILES} files or {MAX_UNZIPPED >> 20} MiB.")
        spend(sum(member.file_size for member in members))
        if archive.testzip() is not None:
            raise NotAnImage("the archive is damaged: the checksum of a file in it is wrong.")
        return {member.filename: partial(archive.read, member) for member in members}
    except InputError:
        raise
    except Exception as error:  # zipfile raises many kinds on damaged archives
        raise NotAnImage(f"the archive is damaged or encrypted ({type(error).__name__}).") from None
