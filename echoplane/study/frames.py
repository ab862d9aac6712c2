"""A cine from a folder of single pictures: PNG (or TIFF, JPEG) and, optionally, a CSV that says which is which.

The CSV has the columns `file,slice,phase` (whole numbers, any start) and may have `row_spacing_mm`,
`column_spacing_mm`, `slice_spacing_mm`, `frame_time_ms`. Without a CSV, names must end as the Sunnybrook set's do,
`...IM-0001-0128.png`: numbers count from 1, with 20 phases a slice. Pictures state no spacing: without the CSV's there
are no millilitres. Axes: T phase, Z slice, H row, W column."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from echoplane.errors import NotAnImage, TooLarge, UnusableStudy
from echoplane.study.cine import Cine, check_size

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
PHASES_A_SLICE = 20
"""Of the Sunnybrook set."""
NUMBERED = re.compile(r"^(?P<series>.*)-IM-(?P<group>\d{4})-(?P<number>\d{4})(\.dcm)?\.\w+$")
SPACINGS = ("row_spacing_mm", "column_spacing_mm", "slice_spacing_mm", "frame_time_ms")
LEAST_PHASES_OF_A_BEAT = 10
MOST_FILES, MOST_PIXELS = 20_000, 32_000_000

Place = tuple[int, int]
"""(slice, phase) as numbered by whoever made the folder."""


def has_frames(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())


def read_frames(folder: Path) -> Cine:
    """The short axis cine in `folder`; UnusableStudy or NotAnImage with a reason where it is none."""
    tables = sorted(folder.glob("*.csv"))
    places, stated = _from_csv(tables[0]) if tables else (_from_names(folder), {})
    if not places:
        raise UnusableStudy("the folder holds no pictures of a cine.")
    if len(places) > MOST_FILES:
        raise TooLarge(f"the folder holds {len(places)} pictures; at most {MOST_FILES} are read.")
    return assembled({place: folder / name for place, name in places.items()}, stated)


def _from_csv(table: Path) -> tuple[dict[Place, str], dict[str, float]]:
    """File by place, and the spacings, which must be the same in every row."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"file", "slice", "phase"} <= set(rows[0]):
        raise UnusableStudy("the CSV must have the columns file, slice and phase, and a row a picture.")
    places: dict[Place, str] = {}
    for line, row in enumerate(rows, start=2):
        try:
            place = int(row["slice"]), int(row["phase"])
        except (TypeError, ValueError):
            raise UnusableStudy(f"line {line} of the CSV: slice and phase must be whole numbers.") from None
        if Path(row["file"]).name != row["file"]:
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


def _from_names(folder: Path) -> dict[Place, str]:
    found = [NUMBERED.match(p.name) for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES]
    named = [match for match in found if match]
    if not named or len(named) < len(found):
        raise UnusableStudy(
            "the pictures' names do not say slice and phase; put a CSV with file, slice and phase beside them."
        )
    series = {(match["series"], match["group"]) for match in named}
    if len(series) > 1:
        raise UnusableStudy(f"the folder holds pictures of {len(series)} series; send one patient's at a time.")
    return {divmod(int(match["number"]) - 1, PHASES_A_SLICE): match.string for match in named}


def assembled(paths: Mapping[Place, Path], stated: Mapping[str, float]) -> Cine:
    """The cine of pictures by their place (slice, phase), with the spacings that were stated."""
    slices, phases = (sorted({place[axis] for place in paths}) for axis in (0, 1))
    first, last = slices[0], slices[-1]
    shape = _grey(next(iter(paths.values()))).shape
    check_size((len(phases), last - first + 1, *shape))
    voxels_TZHW = np.zeros((len(phases), last - first + 1, *shape), np.uint8)
    present_TZ = np.zeros(voxels_TZHW.shape[:2], bool)
    for (z, phase), path in paths.items():
        picture = _grey(path)
        if picture.shape != shape:
            raise UnusableStudy(f"pictures of {shape} and of {picture.shape} pixels are mixed; one size is needed.")
        t = phases.index(phase)
        voxels_TZHW[t, z - first], present_TZ[t, z - first] = picture, True
    row_mm, column_mm = stated.get("row_spacing_mm"), stated.get("column_spacing_mm")
    spacing_mm = (row_mm, column_mm) if row_mm and column_mm else None
    covers_beat = len(phases) >= LEAST_PHASES_OF_A_BEAT
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


def _grey(path: Path) -> np.ndarray:
    """One picture as uint8 (row, column). Three channels must be equal: a colour picture is no cine MR."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        raise NotAnImage("a picture that the CSV names is not in the folder.") from None
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if picture is None:
        raise NotAnImage("a picture of the folder is damaged or no picture.")
    if picture.shape[0] * picture.shape[1] > MOST_PIXELS:
        raise TooLarge(f"a picture of {picture.shape[0]} x {picture.shape[1]} is larger than what is read.")
    if picture.ndim == 3:
        picture = picture[..., :3]
        if (picture != picture[..., :1]).any():
            raise UnusableStudy("a picture has 3 different colour channels; a cine MR has one. Send the original.")
        picture = picture[..., 0]
    return picture.astype(np.uint8) if picture.dtype == np.uint8 else (picture // 256).astype(np.uint8)
