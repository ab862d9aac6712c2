"""Groups of parallel MR slices: their positions, and the cine that a group makes.

Axes: T phase, Z slice, H row, W column."""

from collections.abc import Sequence

import numpy as np

from echoplane.study.cine import MIN_PHASES_OF_A_BEAT, Cine, check_size, one_spacing, to_affine
from echoplane.study.mr_slices import Slice
from echoplane.study.phase_matching import Matched, matched_phases

USUAL_AXIS = np.array([0.74, -0.57, -0.37])
"""Usual direction from base to apex of the heart, as an LPS unit vector: to the left, the front and the feet."""
SHORT_AXIS_COSINE = 0.70
"""Minimum cosine (45 degrees) between a stack's normal and the usual axis for a short axis stack; below it, a warning
is added."""
SAME_PLACE_MM = 0.1


def positions_of(group: Sequence[Slice]) -> dict[float, list[Slice]]:
    """Returns the slices by their position along the normal, sorted; those of one position in the order of the files.

    Two slices are at different positions if they are further apart than rounding in the files explains.
    """
    along = np.array([each.origin_mm @ group[0].normal for each in group])
    order = np.argsort(along, kind="stable")
    starts = np.flatnonzero(np.diff(along[order], prepend=-np.inf) > SAME_PLACE_MM)
    return {
        round(float(along[place[0]]), 1): [group[k] for k in sorted(place)] for place in np.split(order, starts[1:])
    }


def cosine_to_usual_axis(group: Sequence[Slice]) -> float:
    normal = group[0].normal
    return abs(float(normal @ USUAL_AXIS)) / float(np.linalg.norm(normal) * np.linalg.norm(USUAL_AXIS))


def cine_of(plane: str, group: Sequence[Slice]) -> Cine:
    """Returns the cine of a group of slices on one grid, with warnings on irregularities."""
    positions = positions_of(group)
    spacing_mm, step_mm, numbers = group[0].spacing_mm, None, [0]
    uneven: tuple[str, ...] = ()
    if len(positions) > 1:
        step_mm, numbers, uneven = one_spacing(list(positions))
    matched, way = matched_phases(list(positions.values()))
    warnings = (*_warnings(plane, group, positions, numbers), *uneven, *_matching_warnings(positions, matched, way))
    voxels_TZHW, present_TZ, sources = _gathered(matched, numbers)
    rates = [s.heart_rate_bpm for s in group if s.heart_rate_bpm]
    return Cine(
        plane=plane,
        voxels_TZHW=voxels_TZHW,
        spacing_mm=spacing_mm,
        slice_spacing_mm=step_mm,
        frame_time_ms=_frame_time_ms(matched),
        heart_rate_bpm=float(np.median(rates)) if rates else None,
        affine=_affine(positions, numbers, spacing_mm),
        present_TZ=present_TZ,
        sources=sources,
        covers_beat=len(voxels_TZHW) >= MIN_PHASES_OF_A_BEAT,
        warnings=warnings,
        scanner=group[0].scanner,
    )


def _gathered(
    matched: Sequence[Matched], numbers: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, int], tuple[str, int]]]:
    """Returns the values (T, Z, H, W), a mask of the slices present (T, Z), and the source of each slice."""
    there = [each for slices in matched for each in slices if each is not None]
    shape = (len(matched[0]), numbers[-1] + 1, *there[0].pixels.shape)
    check_size(shape)
    kind = np.result_type(*{each.pixels.dtype for each in there})
    voxels_TZHW, present_TZ = np.zeros(shape, kind), np.zeros(shape[:2], bool)
    sources = {}
    for number, slices in zip(numbers, matched, strict=True):
        for t, each in enumerate(slices):
            if each is not None:
                voxels_TZHW[t, number], sources[t, number] = each.pixels, each.source
                present_TZ[t, number] = True
    return voxels_TZHW, present_TZ, sources


def _affine(
    positions: dict[float, list[Slice]], numbers: Sequence[int], spacing_mm: tuple[float, float] | None
) -> np.ndarray:
    """Returns the affine from the first slice and the vector to the last: stacks may be slightly oblique to their
    normal."""
    slices = list(positions.values())
    first, last = slices[0][0], slices[-1][0]
    step = (last.origin_mm - first.origin_mm) / numbers[-1] if numbers[-1] else first.normal
    return to_affine(first.row_direction, first.column_direction, first.origin_mm, step, spacing_mm or (1.0, 1.0))


def _warnings(
    plane: str, group: Sequence[Slice], positions: dict[float, list[Slice]], numbers: Sequence[int]
) -> tuple[str, ...]:
    said = []
    if missing := numbers[-1] + 1 - len(positions):
        said.append(f"{missing} slice(s) are missing inside the stack; their volume is taken from their neighbours")
    if _numbered_backwards(positions):
        said.append("the files number the phases against the time in the beat; the time was followed")
    if plane == "short-axis" and cosine_to_usual_axis(group) < SHORT_AXIS_COSINE:
        said.append("the stack lies unusually for a short axis one; check that it is one")
    if group[0].spacing_mm is None:
        said.append("no PixelSpacing in the files: areas are in pixels and there are no millilitres")
    return tuple(said)


def _matching_warnings(positions: dict[float, list[Slice]], matched: Sequence[Matched], way: str) -> tuple[str, ...]:
    if not way:
        return ()
    counts = [len(slices) for slices in positions.values()]
    phases = f"slices have {min(counts)} to {max(counts)} phases" if min(counts) != max(counts) else "phases differ"
    if way == "rank":
        return (f"{phases}; they were matched by their place in the beat",)
    absent, total = sum(each is None for slices in matched for each in slices), len(matched) * len(matched[0])
    return (f"{phases}; they were matched by trigger time, by which {absent} of {total} pictures are missing",)


def _numbered_backwards(positions: dict[float, list[Slice]]) -> bool:
    """Returns True if, in most slices, times fall while the phase numbers of the files rise."""
    against = 0
    for slices in positions.values():
        timed = sorted((s for s in slices if s.time_ms is not None), key=lambda s: s.order)
        against += len(timed) > 1 and len({s.order for s in timed}) > 1 and timed[-1].time_ms < timed[0].time_ms  # type: ignore[operator]
    return against > len(positions) / 2


def _frame_time_ms(matched: Sequence[Matched]) -> float | None:
    """Returns the time from one phase to the next, from the trigger times of a slice that has every phase."""
    whole = next((slices for slices in matched if None not in slices), [])
    times = sorted({each.time_ms for each in whole if each is not None and each.time_ms is not None})
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    return step if 5 <= step <= 500 else None
