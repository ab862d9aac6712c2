"""Cine from a folder of single pictures (PNG, TIFF, JPEG, or DICOM without a position), with an optional CSV.

The CSV assigns slice and phase to each file, with the columns `file,slice,phase` (whole numbers, any start). It may
have `row_spacing_mm`, `column_spacing_mm`, `slice_spacing_mm`, `frame_time_ms`. Without a CSV, names must end like
those of the Sunnybrook data set, `...IM-0001-0128.png`: numbers count from 1, with 20 phases per slice. Pictures state
no spacing: unless the CSV does, there are no volumes in mL. Axes: T phase, Z slice, H row, W column."""

import csv
import io
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

import cv2
import numpy as np

from echoplane.errors import InputError, NotAnImage, TooLarge, UnusableStudy
from echoplane.study.cine import MIN_PHASES_OF_A_BEAT, Cine, check_size
from echoplane.study.dicom import is_dicom, parse
from echoplane.study.limits import Limits

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
COLUMNS = {"file", "slice", "phase"}
PHASES_A_SLICE = 20
"""Number of phases per slice in the Sunnybrook data set."""
NUMBERED = re.compile(r"^((?P<series>.*)-)?IM-(?P<group>\d{4})-(?P<number>\d{4})(\.dcm)?\.\w+$")
SPACINGS = ("row_spacing_mm", "column_spacing_mm", "slice_spacing_mm", "frame_time_ms")
BOTH_ENDS = 2
"""Number of phases of a cine that holds only end diastole and end systole."""
MIN_SHARE = 0.75
"""Minimum number of phases of a slice, as a share of the usual number, to be matched with its neighbours."""
MIN_SHARE_OF_ENDS = 0.75
"""Minimum share of the largest changes from picture to picture that must lie between slices."""
MAX_PIXELS = 32_000_000

Place = tuple[int, int]
"""(slice, phase) as numbered in the folder."""
Load = Callable[[], bytes]


def pictures_in(files: Mapping[str, Load]) -> dict[str, Load]:
    """Returns the files, by name, of the one folder that holds a CSV of frames, or else pictures; empty if none does.

    Raises UnusableStudy if several folders do: they may be of several patients.
    """
    tables = {str(PurePosixPath(name).parent) for name, load in files.items() if _is_table(name, load)}
    if not tables and any(_is_dicom(name, load) for name, load in files.items()):
        return {}  # the pictures are previews next to a DICOM series
    pictures = {str(PurePosixPath(name).parent) for name in files if name.lower().endswith(SUFFIXES)}
    folders = tables or pictures
    if len(folders) > 1:
        raise UnusableStudy(f"{len(folders)} folders inside hold pictures; send the folder of one cine.")
    return {
        PurePosixPath(name).name: load for name, load in files.items() if str(PurePosixPath(name).parent) in folders
    }


def _is_dicom(name: str, load: Load) -> bool:
    return not name.lower().endswith((*SUFFIXES, ".csv")) and is_dicom(load())


def _is_table(name: str, load: Load) -> bool:
    return name.lower().endswith(".csv") and set(_rows(load())[0]) >= COLUMNS


def _rows(content: bytes) -> tuple[list[str], list[dict[str, str]]]:
    """Returns the names of a CSV's columns, and its rows."""
    try:
        table = csv.DictReader(io.StringIO(content.decode("utf-8-sig")))
        rows = list(table)
        return [str(name).strip() for name in table.fieldnames or ()], rows
    except (UnicodeDecodeError, csv.Error):
        return [], []


def read_frames(files: Mapping[str, Load]) -> Cine:
    """Returns the short axis cine of a folder's files. Raises UnusableStudy or NotAnImage if they are none."""
    tables = sorted(name for name in files if name.lower().endswith(".csv"))
    tables = [name for name in tables if _is_table(name, files[name])] or tables
    places, stated = _from_csv(files[tables[0]]()) if tables else (_from_names(files), {})
    matched = _matched(places)
    if absent := sum(name not in files for name in places.values()):
        raise NotAnImage(f"{absent} picture(s) that the CSV names are not beside it.")
    cine = assembled({place: files[name] for place, name in matched.items()}, stated)
    said, assumed = [], not tables and cine.phases > BOTH_ENDS
    if assumed and not _changes_most_between_slices(cine):
        raise UnusableStudy(
            f"the pictures change most elsewhere than where slices of {PHASES_A_SLICE} phases end, which their names "
            "would mean; put a CSV with file, slice and phase beside them."
        )
    if matched is not places:
        said.append("slices have other phases than their neighbours; they were matched by their place in the beat")
    if assumed:
        said.append(f"the pictures' names do not say how many phases a slice has; {PHASES_A_SLICE} were taken")
    return cine.with_warnings(*said)


def _changes_most_between_slices(cine: Cine) -> bool:
    """Returns True if the largest changes from one picture to the next lie between slices, whatever the brightness.

    A neighbouring slice differs more than the same slice does over a beat.
    """
    slices_ZTHW = cine.voxels_TZHW[:, cine.present_TZ.all(axis=0), ::4, ::4].swapaxes(0, 1)
    ends = np.arange(1, len(slices_ZTHW)) * cine.phases - 1
    pictures = slices_ZTHW.reshape(len(slices_ZTHW) * cine.phases, -1).astype(np.float32)
    pictures -= pictures.mean(axis=1, keepdims=True)
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True) + 1e-6
    alike = (pictures[1:] * pictures[:-1]).sum(axis=1)
    return int(np.isin(np.argsort(alike)[: len(ends)], ends).sum()) >= MIN_SHARE_OF_ENDS * len(ends)


def _matched(places: dict[Place, str]) -> dict[Place, str]:
    """Matches slices whose phases differ from their neighbours' by relative time in the beat.

    Each slice gets the usual number of phases. If there are only end diastole and end systole, nothing is matched: a
    slice may lack one of them.
    """
    phases_of: dict[int, list[int]] = {}
    for z, phase in sorted(places):
        phases_of.setdefault(z, []).append(phase)
    if len({phase for _, phase in places}) <= BOTH_ENDS or len(set(map(tuple, phases_of.values()))) == 1:
        return places
    counts = [len(phases) for phases in phases_of.values()]
    usual = int(np.median(counts))
    if min(counts) < MIN_SHARE * usual:
        raise UnusableStudy(
            f"slices have {min(counts)} to {max(counts)} phases, which can't be matched. Give each slice the same "
            "numbers of phases, or leave out those that lack many."
        )
    return {
        (z, t): places[z, phases[t * len(phases) // usual]] for z, phases in phases_of.items() for t in range(usual)
    }


def _from_csv(table: bytes) -> tuple[dict[Place, str], dict[str, float]]:
    """Returns the file of each (slice, phase), and the spacings, which must be the same in every row."""
    names, rows = _rows(table)
    if not rows or not set(names) >= COLUMNS:
        raise UnusableStudy("the CSV must have the columns file, slice and phase, and a row a picture.")
    places: dict[Place, str] = {}
    for line, row in enumerate(rows, start=2):
        try:
            place = int(row["slice"]), int(row["phase"])
        except (TypeError, ValueError):
            raise UnusableStudy(f"line {line} of the CSV: slice and phase must be whole numbers.") from None
        if PurePosixPath(row["file"]).name != row["file"]:
            raise UnusableStudy(f"line {line} of the CSV: the file must lie beside the CSV.")
        if places.setdefault(place, row["file"]) != row["file"]:
            raise UnusableStudy(f"line {line} of the CSV gives slice {place[0]}, phase {place[1]} a second picture.")
    return places, {name: value for name in SPACINGS if (value := _one_value(rows, name)) is not None}


def _one_value(rows: list[dict[str, str]], name: str) -> float | None:
    texts = {row.get(name) or "" for row in rows}
    if texts == {""}:
        return None
    try:
        values = {float(text) for text in texts}
    except ValueError:
        raise UnusableStudy(f"the CSV's {name} must be a number in every row.") from None
    if len(values) > 1 or not 0 < min(values) < 1e4:
        raise UnusableStudy(f"the CSV's {name} goes from {min(values):g} to {max(values):g}; one is needed.")
    return values.pop()


def _from_names(files: Mapping[str, Load]) -> dict[Place, str]:
    found = [NUMBERED.match(name) for name in sorted(files) if name.lower().endswith(SUFFIXES)]
    named = [match for match in found if match]
    if not named or len(named) < len(found):
        raise UnusableStudy(
            "the pictures' names do not say slice and phase; put a CSV with file, slice and phase beside them."
        )
    series = {(match["series"], match["group"]) for match in named}
    if len(series) > 1:
        raise UnusableStudy(f"the folder holds pictures of {len(series)} series; send one patient's at a time.")
    places = {divmod(int(match["number"]) - 1, PHASES_A_SLICE): match.string for match in named}
    numbers = [int(match["number"]) for match in named]
    whole = len({phase for _, phase in places}) == PHASES_A_SLICE and max(numbers) - min(numbers) + 1 == len(numbers)
    if whole and len(places) % PHASES_A_SLICE:
        raise UnusableStudy(
            f"the {len(places)} pictures are no whole number of slices of {PHASES_A_SLICE} phases, as their names "
            "would mean; put a CSV with file, slice and phase beside them."
        )
    return places


def assembled(pictures: Mapping[Place, Load], stated: Mapping[str, float]) -> Cine:
    """Returns the cine of pictures given by (slice, phase), with the stated spacings."""
    slices, phases = (sorted({place[axis] for place in pictures}) for axis in (0, 1))
    first, last = slices[0], slices[-1]
    some = grey(next(iter(pictures.values()))())
    check_size((len(phases), last - first + 1, *some.shape))
    voxels_TZHW = np.zeros((len(phases), last - first + 1, *some.shape), some.dtype)
    present_TZ = np.zeros(voxels_TZHW.shape[:2], bool)
    for (z, phase), load in pictures.items():
        picture = grey(load())
        if (picture.shape, picture.dtype) != (some.shape, some.dtype):
            raise UnusableStudy(
                f"pictures of {some.shape} {some.dtype} and of {picture.shape} {picture.dtype} are mixed; one size and "
                "depth is needed."
            )
        t = phases.index(phase)
        voxels_TZHW[t, z - first], present_TZ[t, z - first] = picture, True
    row_mm, column_mm = stated.get("row_spacing_mm"), stated.get("column_spacing_mm")
    spacing_mm = (row_mm, column_mm) if row_mm and column_mm else None
    covers_beat = len(phases) >= MIN_PHASES_OF_A_BEAT
    return Cine(
        plane="short-axis",
        voxels_TZHW=voxels_TZHW,
        spacing_mm=spacing_mm,
        slice_spacing_mm=stated.get("slice_spacing_mm"),
        frame_time_ms=stated.get("frame_time_ms") if covers_beat else None,
        present_TZ=present_TZ,
        covers_beat=covers_beat,
        warnings=_warnings(spacing_mm, stated, present_TZ),
    )


def _warnings(
    spacing_mm: tuple[float, float] | None, stated: Mapping[str, float], present_TZ: np.ndarray
) -> tuple[str, ...]:
    said = []
    if spacing_mm is None:
        said.append("no spacing with the pictures: areas are in pixels and there are no millilitres")
    elif "slice_spacing_mm" not in stated:
        said.append("no slice spacing with the pictures: there are no millilitres")
    if absent := int((~present_TZ).sum()):
        said.append(f"{absent} of {present_TZ.size} slices are missing from the folder and count as empty at the ends")
    return tuple(said)


def grey(data: bytes) -> np.ndarray:
    """Returns one picture as integers (row, column), in the stored depth.

    Raises UnusableStudy if three channels differ: a cine MR is never in colour.
    """
    picture = _dicom(data) if is_dicom(data) else _decoded(data)
    if picture.shape[0] * picture.shape[1] > MAX_PIXELS:
        raise TooLarge(f"a picture of {picture.shape[0]} x {picture.shape[1]} is larger than what is read.")
    if picture.ndim == 3:
        picture = picture[..., :3]
        if (picture != picture[..., :1]).any():
            raise UnusableStudy("a picture has 3 different colour channels; a cine MR has one. Send the original.")
        picture = picture[..., 0]
    return picture


def _decoded(data: bytes) -> np.ndarray:
    buffer = np.frombuffer(data, np.uint8)
    picture = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if buffer.size else None
    if picture is None:
        raise NotAnImage("a picture of the folder is damaged or no picture.")
    return np.asarray(picture)


def _dicom(data: bytes) -> np.ndarray:
    try:
        picture = parse(data, Limits()).pixel_array
    except InputError:
        raise
    except Exception as error:  # decoders raise many kinds on damaged data
        raise NotAnImage(f"the pixel data of a picture could not be decoded ({type(error).__name__}).") from None
    if picture.ndim > 2 and picture.shape[-1] != 3:
        raise UnusableStudy("a picture that the CSV names holds several frames; one a file is needed.")
    return np.asarray(picture)
