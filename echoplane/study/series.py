"""Cines from MR DICOM: slices are sorted by position and time, never by the name of their series.

A short axis stack is a set of parallel slices across the usual long axis of the heart, over the beat; long axis planes
are single slices that contain that axis. Axes: T phase, Z slice, H row, W column."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from echoplane.errors import UnusableStudy
from echoplane.study.cine import MIN_PHASES_OF_A_BEAT, Cine
from echoplane.study.mr_slices import Slice
from echoplane.study.repeats import best_series, without_copies
from echoplane.study.slice_groups import (
    SHORT_AXIS_COSINE,
    USUAL_AXIS,
    cine_of,
    cosine_to_usual_axis,
    positions_of,
)

MIN_STACK_SLICES = 3
LONGEST_BEAT_MS = 2500.0
"""Maximum duration of a beat (24 beats per minute); a longer series shows something else, such as the arrival of a
contrast agent."""
STILL_SHARE = 0.25
"""Minimum share of the usual number of phases; a slice position with fewer shows stills, such as late enhancement, on
the cine's grid."""
NEARLY_PARALLEL = 0.87
"""Minimum cosine (30 degrees) between the normals of nearly parallel slices."""
FOUR_CHAMBER_UP, TWO_CHAMBER_UP = 0.70, 0.45
"""Component of a plane's normal towards the head: minimum of the 4-chamber plane, which is nearly horizontal, and
maximum of the 2-chamber plane, which is nearly vertical."""


def cines_of(slices: Sequence[Slice]) -> tuple[Cine, ...]:
    """Returns the short axis stack, and the 2- and 4-chamber cines if present.

    Raises UnusableStudy if there is no stack of moving slices (the message says what was found), or if the slices are
    of several studies.
    """
    if (studies := len({each.study for each in slices} - {""})) > 1:
        raise UnusableStudy(f"the files are of {studies} studies; send one patient's study at a time.")
    distinct = list({each.source: each for each in slices if each.source[0]}.values())
    distinct += [each for each in slices if not each.source[0]]
    pictures = [each for each in distinct if each.is_cine]
    if not pictures:
        raise UnusableStudy(
            "the MR series shows phases, velocities or tags alone (ImageType, AcquisitionContrast), no magnitude "
            "picture of the heart. Send the cine series."
        )
    pictures, copies = without_copies(pictures)
    beating = _of_one_beat(pictures)
    groups, again, stills = _once(_parallel(beating))
    series = [group for group in groups if _phases(group) > 1]
    stacks = [group for group in series if len(positions_of(group)) >= MIN_STACK_SLICES]
    if not stacks:
        raise UnusableStudy(_no_stack(beating, series))
    stack = max(
        stacks,
        key=lambda group: (
            cosine_to_usual_axis(group) >= SHORT_AXIS_COSINE,
            *_rank(_phases(group), len(positions_of(group))),
        ),
    )
    axis = stack[0].normal
    longer = len({each.series for each in pictures}) - len({each.series for each in beating})
    said = _passed_over(len(slices) - len(distinct), again, stills, _tilted(series, stack), longer)
    if others := len({each.series for each in distinct if not each.is_cine}):
        said += (f"{others} series of phases, velocities or tags was passed over: no plain cine",)
    if copies:
        said += (f"{copies} file(s) or frame(s) are doublets under another UID: the same pictures; each was read once",)
    cines = [cine_of("short-axis", stack).with_warnings(*said)]
    for group in series:
        plane = _plane(group[0].normal, axis)
        if plane and len(positions_of(group)) < MIN_STACK_SLICES and plane not in {c.plane for c in cines}:
            cines.append(cine_of(plane, _middle(group)))
    return tuple(cines)


def by_geometry(found: Sequence[Cine], others: int) -> tuple[Cine, ...]:
    """Returns the short axis stack and the long axis cines among cines of whole files, by their geometry.

    Of several stacks, `_rank` chooses among those across the heart's axis. Long axis planes are recognised by their
    affine. `others` is the number of files that were no cines.
    """
    stacks = [cine for cine in found if cine.slices >= MIN_STACK_SLICES]
    if not stacks:
        raise UnusableStudy(
            f"none of the {len(found) + others} NIfTI files is a cine of {MIN_STACK_SLICES} slices or more; name "
            "the short axis one sa.nii.gz and the long axis ones la_2ch.nii.gz and la_4ch.nii.gz, or give one file."
        )
    stack = max(stacks, key=lambda cine: (_lies_across(cine), *_rank(cine.phases, cine.slices)))
    chosen = {"short-axis": stack}
    for cine in found:
        plane = _long_axis_plane(cine.affine, stack.affine) if cine.slices < MIN_STACK_SLICES else None
        if plane and plane not in chosen:
            chosen[plane] = replace(cine, plane=plane)
    if passed := len(found) + others - len(chosen):
        chosen["short-axis"] = stack.with_warnings(f"{passed} other NIfTI file(s) were passed over")
    return tuple(chosen.values())


def _rank(phases: int, places: int) -> tuple[int, int, int]:
    """Returns a sort key: a whole beat before a part of one, then more slices, because other moving stacks have few."""
    return min(phases, MIN_PHASES_OF_A_BEAT), places, phases


def _lies_across(cine: Cine) -> bool:
    """Returns True if the stack lies across the heart's usual axis, False if not or if it has no affine."""
    if cine.affine is None:
        return False
    normal = _normal(cine.affine)
    return abs(float(normal @ USUAL_AXIS)) / float(np.linalg.norm(USUAL_AXIS)) >= SHORT_AXIS_COSINE


def _normal(affine: np.ndarray) -> np.ndarray:
    """Returns the unit normal of a NIfTI file's slices, LPS."""
    normal = np.diag([-1.0, -1.0, 1.0]) @ np.cross(affine[:3, 0], affine[:3, 1])
    return np.asarray(normal / np.linalg.norm(normal))


def _long_axis_plane(affine: np.ndarray | None, stack: np.ndarray | None) -> str | None:
    axis = USUAL_AXIS / np.linalg.norm(USUAL_AXIS) if stack is None else _normal(stack)
    return None if affine is None else _plane(_normal(affine), axis)


def _once(groups: Sequence[Sequence[Slice]]) -> tuple[list[list[Slice]], int, int]:
    """Returns the groups with one series per slice position, and two counts of positions.

    The counts are of positions that other series showed too, and of those that held stills and were left out. See
    `repeats.best_series` for the choice.
    """
    kept, again, stills = [], 0, 0
    for group in groups:
        usual = _usual_phases(group)
        chosen: list[Slice] = []
        for slices in positions_of(group).values():
            best = best_series(slices, usual)
            if len(best) < STILL_SHARE * usual:
                stills += 1
                continue
            again += len(best) < len(slices)
            chosen += best
        kept.append(chosen)
    return kept, again, stills


def _usual_phases(group: Sequence[Slice]) -> int:
    """Returns the most common number of phases of a series at one position; 1 if each series holds one phase."""
    by_place = (Counter(each.series for each in slices).values() for slices in positions_of(group).values())
    counts = Counter(phases for counted in by_place for phases in set(counted) - {1})
    return counts.most_common(1)[0][0] if counts else 1


def _of_one_beat(slices: Sequence[Slice]) -> list[Slice]:
    """Returns the slices without series whose times at one position span more than one beat."""
    times: dict[tuple[str, Any], list[float]] = defaultdict(list)
    for each in slices:
        if each.time_ms is not None:
            times[each.series, tuple(np.rint(each.origin_mm).tolist())].append(each.time_ms)
    longer = {series for (series, _), found in times.items() if max(found) - min(found) > LONGEST_BEAT_MS}
    return [each for each in slices if each.series not in longer]


def _tilted(series: Sequence[Sequence[Slice]], stack: Sequence[Slice]) -> int:
    """Returns the number of positions of moving slices that are tilted against the stack by up to 30 degrees, or have
    another size or spacing."""
    normal = stack[0].normal
    near = [group for group in series if group is not stack and abs(float(group[0].normal @ normal)) > NEARLY_PARALLEL]
    return sum(len(positions_of(group)) for group in near)


def _passed_over(repeated: int, again: int, stills: int, tilted: int, longer: int) -> tuple[str, ...]:
    said = []
    if longer:
        said.append(f"{longer} series that last(s) for longer than a heart beats was passed over: no cine")
    if repeated:
        said.append(f"{repeated} frame(s) were there twice")
    if again:
        said.append(
            f"{again} slice(s) were scanned more than once; a series of the usual phases was taken, the last of several"
        )
    if stills:
        said.append(f"{stills} place(s) with far fewer phases than the others were passed over: no cine")
    if tilted:
        said.append(
            f"{tilted} slice(s) are turned or scaled against the stack and were left out; a stack needs one orientation"
        )
    return tuple(said)


def _no_stack(slices: Sequence[Slice], series: Sequence[Sequence[Slice]]) -> str:
    if not slices:
        return (
            f"at one place the MR series goes on for over {LONGEST_BEAT_MS / 1000:g} s, longer than a heart beats: no "
            "cine. Send the cine series."
        )
    places = max(len(positions_of(group)) for group in _parallel(slices))
    if not series:
        return (
            f"the MR series has {places} slice(s) of one phase each; a cine has two or more phases a slice. "
            "Send the cine series."
        )
    return (
        f"no short axis stack: the largest moving series has {max(len(positions_of(g)) for g in series)} slice(s), "
        f"at least {MIN_STACK_SLICES} parallel ones are needed."
    )


def _parallel(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Returns the slices grouped by orientation, size and spacing; orientations within about 2 degrees are the same."""
    groups: dict[Any, list[Slice]] = defaultdict(list)
    for each in slices:
        turn = np.rint(np.concatenate([each.row_direction, each.column_direction]) * 25).astype(int)
        sides = tuple(round(side, 3) for side in each.spacing_mm or ())
        key = (*turn, each.pixels.shape, sides)
        near = next((k for k in groups if k[6:] == key[6:] and max(abs(np.subtract(k[:6], key[:6]))) <= 1), key)
        groups[near].append(each)
    return list(groups.values())


def _phases(group: Sequence[Slice]) -> int:
    return int(np.median([len(slices) for slices in positions_of(group).values()]))


def _plane(normal: np.ndarray, axis: np.ndarray) -> str | None:
    """Returns 2-chamber or 4-chamber for a plane that contains the heart's axis, by its normal (LPS), else None."""
    if abs(float(normal @ axis)) > 0.5:
        return None
    up = abs(float(normal[2]))
    return "4-chamber" if up >= FOUR_CHAMBER_UP else "2-chamber" if up <= TWO_CHAMBER_UP else None


def _middle(group: Sequence[Slice]) -> list[Slice]:
    positions = list(positions_of(group).values())
    return positions[len(positions) // 2]
