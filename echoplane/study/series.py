"""Cines from MR DICOM: slices are sorted by where they lie and when they were taken, never by a name.

A short axis stack is parallel slices across the heart's usual axis over the beat; long axis planes are single slices
that hold that axis. Series descriptions name patients, languages and habits, so they are not read.
Axes: T phase, Z slice, H row, W column."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset

from echoplane.errors import NotAnImage, UnusableStudy
from echoplane.study.cine import Cine, check_size, one_spacing, to_affine

MR_IMAGE, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
USUAL_AXIS = np.array([0.74, -0.57, -0.37])
"""Apex of a usual heart, LPS unit vector: to the left, to the front, to the feet."""
SHORT_AXIS_COSINE = 0.70
"""A stack whose normal is within 45 degrees of the usual axis is a short axis one; below it is said."""
FEWEST_STACK_SLICES = 3
LEAST_PHASES_OF_A_BEAT = 10
FOUR_CHAMBER_UP, TWO_CHAMBER_UP = 0.70, 0.45
"""The 4-chamber plane lies nearly flat, the 2-chamber plane stands: share of the normal that points to the head."""


@dataclass(frozen=True)
class Slice:
    """One MR frame: its place (LPS, mm), its time in the beat, and its stored values."""

    origin_mm: np.ndarray
    row_direction: np.ndarray
    column_direction: np.ndarray
    spacing_mm: tuple[float, float] | None
    time_ms: float | None
    order: float
    heart_rate_bpm: float | None
    source: tuple[str, int] = field(repr=False)
    """SOP instance UID and frame number, from 1."""
    pixels: np.ndarray = field(repr=False)

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.row_direction, self.column_direction)


def is_mr(dataset: Dataset) -> bool:
    return str(dataset.get("SOPClassUID")) in (MR_IMAGE, ENHANCED_MR)


def slices_of(dataset: FileDataset) -> Iterator[Slice]:
    """The frames of one MR file; UnusableStudy for colour or a missing place, NotAnImage for damaged pixels."""
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise UnusableStudy("an MR file has 3 colour channels; a cine MR has one. Send the original series.")
    values_THW = _values(dataset)
    for index, values_HW in enumerate(values_THW):
        groups = _groups(dataset, index)
        yield _slice(groups, values_HW, index)


def _values(dataset: FileDataset) -> np.ndarray:
    """Stored values (frame, row, column), rescaled where the file says so."""
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    check_size((int(dataset.get("NumberOfFrames") or 1), rows, columns))
    try:
        values = dataset.pixel_array
    except Exception as error:  # decoders raise many kinds on damaged data
        raise NotAnImage(f"the pixel data of an MR file could not be decoded ({type(error).__name__}).") from None
    values = values.reshape(-1, rows, columns)
    slope = float(dataset.get("RescaleSlope") or 1)
    return values if slope == 1 else (values * np.float32(slope)).astype(np.float32)


def _groups(dataset: FileDataset, index: int) -> list[Dataset]:
    """Where the attributes of frame `index` may stand: its functional groups (PS3.3 C.7.6.16), then the data set."""
    found: list[Dataset] = []
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in [*per_frame[index : index + 1], *shared[:1]]:
        found += [item.value[0] for item in groups if item.VR == "SQ" and item.value]
    return [*found, dataset]


def _slice(groups: Sequence[Dataset], values_HW: np.ndarray, index: int) -> Slice:
    origin, orientation = (_numbers(groups, name) for name in ("ImagePositionPatient", "ImageOrientationPatient"))
    if len(origin) != 3 or len(orientation) != 6:
        raise UnusableStudy(
            "an MR file does not say where its slice lies (ImagePositionPatient, ImageOrientationPatient); slices "
            "can't be sorted without. Send the original series."
        )
    spacing = _numbers(groups, "PixelSpacing")
    time = _numbers(groups, "NominalCardiacTriggerDelayTime") or _numbers(groups, "TriggerTime")
    order = _numbers(groups, "TemporalPositionIndex") or _numbers(groups, "TemporalPositionIdentifier")
    rate = _numbers(groups, "HeartRate")
    interval = _numbers(groups, "RRIntervalTimeNominal") or _numbers(groups, "NominalInterval")
    beats = rate[0] if rate and rate[0] > 0 else 60_000 / interval[0] if interval and interval[0] > 0 else None
    return Slice(
        origin_mm=np.array(origin),
        row_direction=np.array(orientation[:3]),
        column_direction=np.array(orientation[3:]),
        spacing_mm=(spacing[0], spacing[1]) if len(spacing) == 2 and min(spacing) > 0 else None,
        time_ms=time[0] if time else None,
        order=order[0] if order else (_numbers(groups, "InstanceNumber") or [0.0])[0] + index / 1e5,
        heart_rate_bpm=beats if beats and 20 <= beats <= 250 else None,
        source=(str(groups[-1].get("SOPInstanceUID") or ""), index + 1),
        pixels=values_HW,
    )


def _numbers(groups: Sequence[Dataset], name: str) -> list[float]:
    """The attribute's numbers where it stands first; empty where it stands nowhere or holds no numbers."""
    for group in groups:
        value = group.get(name)
        if value is None or value == "":
            continue
        try:
            return [float(v) for v in (value if hasattr(value, "__iter__") and not isinstance(value, str) else [value])]
        except (TypeError, ValueError):
            return []
    return []


def cines_of(slices: Sequence[Slice]) -> tuple[Cine, ...]:
    """The short axis stack, and the 2- and 4-chamber cines where there are any.

    UnusableStudy where no stack of moving slices is there, with what was found instead.
    """
    series = [group for group in _parallel(slices) if _phases(group) > 1]
    stacks = [group for group in series if len(_positions(group)) >= FEWEST_STACK_SLICES]
    if not stacks:
        raise UnusableStudy(_no_stack(slices, series))
    stack = max(stacks, key=lambda group: (_cosine(group) >= SHORT_AXIS_COSINE, _phases(group), len(group)))
    axis = stack[0].normal
    cines = [_cine("short-axis", stack)]
    for group in series:
        plane = _long_axis(group, axis)
        if plane and len(_positions(group)) < FEWEST_STACK_SLICES and plane not in {c.plane for c in cines}:
            cines.append(_cine(plane, _middle(group)))
    return tuple(cines)


def _no_stack(slices: Sequence[Slice], series: Sequence[Sequence[Slice]]) -> str:
    places = max((len(_positions(group)) for group in _parallel(slices)), default=0)
    if not series:
        return (
            f"the MR series has {places} slice(s) of one phase each; a cine has two or more phases a slice. "
            "Send the cine series."
        )
    return (
        f"no short axis stack: the largest moving series has {max(len(_positions(g)) for g in series)} slice(s), "
        f"at least {FEWEST_STACK_SLICES} parallel ones are needed."
    )


def _parallel(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Slices of one orientation, size and spacing; orientations within about 2 degrees are one."""
    groups: dict[Any, list[Slice]] = defaultdict(list)
    for each in slices:
        turn = np.rint(np.concatenate([each.row_direction, each.column_direction]) * 25).astype(int)
        sides = tuple(round(side, 3) for side in each.spacing_mm or ())
        key = (*turn, each.pixels.shape, sides)
        near = next((k for k in groups if k[6:] == key[6:] and max(abs(np.subtract(k[:6], key[:6]))) <= 1), key)
        groups[near].append(each)
    return list(groups.values())


def _positions(group: Sequence[Slice]) -> dict[float, list[Slice]]:
    """Slices by their place along the normal, to a tenth of a millimetre, sorted."""
    places: dict[float, list[Slice]] = defaultdict(list)
    for each in group:
        places[round(float(each.origin_mm @ group[0].normal), 1)].append(each)
    return dict(sorted(places.items()))


def _phases(group: Sequence[Slice]) -> int:
    return int(np.median([len(slices) for slices in _positions(group).values()]))


def _cosine(group: Sequence[Slice]) -> float:
    normal = group[0].normal
    return abs(float(normal @ USUAL_AXIS)) / float(np.linalg.norm(normal) * np.linalg.norm(USUAL_AXIS))


def _long_axis(group: Sequence[Slice], axis: np.ndarray) -> str | None:
    """2-chamber or 4-chamber for a plane that holds the heart's axis, by how it lies in the body."""
    normal = group[0].normal
    if abs(float(normal @ axis)) > 0.5:
        return None
    up = abs(float(normal[2]))
    return "4-chamber" if up >= FOUR_CHAMBER_UP else "2-chamber" if up <= TWO_CHAMBER_UP else None


def _middle(group: Sequence[Slice]) -> list[Slice]:
    positions = list(_positions(group).values())
    return positions[len(positions) // 2]


def _cine(plane: str, group: Sequence[Slice]) -> Cine:
    """The slices on one grid; see the warnings for what was not as it should be."""
    positions = _positions(group)
    spacing_mm, step_mm, numbers = group[0].spacing_mm, None, [0]
    if len(positions) > 1:
        step_mm, numbers = one_spacing(list(positions))
    voxels_TZHW, present_TZ, sources = _gathered(positions, numbers)
    rates = [s.heart_rate_bpm for s in group if s.heart_rate_bpm]
    return Cine(
        plane=plane,
        voxels_TZHW=voxels_TZHW,
        spacing_mm=spacing_mm,
        slice_spacing_mm=step_mm,
        frame_time_ms=_frame_time_ms(next(iter(positions.values()))),
        heart_rate_bpm=float(np.median(rates)) if rates else None,
        affine=_affine(positions, numbers, spacing_mm),
        present_TZ=present_TZ,
        sources=sources,
        covers_beat=len(voxels_TZHW) >= LEAST_PHASES_OF_A_BEAT,
        warnings=_warnings(plane, group, positions, numbers),
    )


def _gathered(
    positions: dict[float, list[Slice]], numbers: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, int], tuple[str, int]]]:
    """Values (T, Z, H, W), which slices are there (T, Z), and where each comes from.

    Unequal phases are matched by their place in the beat.
    """
    some = next(iter(positions.values()))[0]
    phases = int(np.median([len(slices) for slices in positions.values()]))
    shape = (phases, numbers[-1] + 1, *some.pixels.shape)
    check_size(shape)
    kind = np.result_type(*{s.pixels.dtype for slices in positions.values() for s in slices})
    voxels_TZHW, present_TZ = np.zeros(shape, kind), np.zeros(shape[:2], bool)
    sources = {}
    for number, slices in zip(numbers, positions.values(), strict=True):
        ordered = sorted(slices, key=lambda s: (s.time_ms is None, s.time_ms or 0, s.order))
        present_TZ[:, number] = True
        for t in range(phases):
            chosen = ordered[t * len(ordered) // phases]
            voxels_TZHW[t, number], sources[t, number] = chosen.pixels, chosen.source
    return voxels_TZHW, present_TZ, sources


def _affine(
    positions: dict[float, list[Slice]], numbers: Sequence[int], spacing_mm: tuple[float, float] | None
) -> np.ndarray:
    """From the first slice and the way to the last: stacks may lean a little off their normal."""
    slices = list(positions.values())
    first, last = slices[0][0], slices[-1][0]
    step = (last.origin_mm - first.origin_mm) / numbers[-1] if numbers[-1] else first.normal
    return to_affine(first.row_direction, first.column_direction, first.origin_mm, step, spacing_mm or (1.0, 1.0))


def _warnings(
    plane: str, group: Sequence[Slice], positions: dict[float, list[Slice]], numbers: Sequence[int]
) -> tuple[str, ...]:
    said, counts = [], [len(slices) for slices in positions.values()]
    if min(counts) != max(counts):
        said.append(f"slices have {min(counts)} to {max(counts)} phases; they were matched by their place in the beat")
    if missing := numbers[-1] + 1 - len(positions):
        said.append(f"{missing} slice(s) are missing inside the stack; their volume is taken from their neighbours")
    if plane == "short-axis" and _cosine(group) < SHORT_AXIS_COSINE:
        said.append("the stack lies unusually for a short axis one; check that it is one")
    if group[0].spacing_mm is None:
        said.append("no PixelSpacing in the files: areas are in pixels and there are no millilitres")
    return tuple(said)


def _frame_time_ms(slices: Sequence[Slice]) -> float | None:
    """From one phase to the next, by the trigger times of one slice."""
    times = sorted({s.time_ms for s in slices if s.time_ms is not None})
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    return step if 5 <= step <= 500 else None
