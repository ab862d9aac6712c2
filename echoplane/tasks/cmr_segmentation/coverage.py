"""Coverage of the ventricle by the slices of a stack: flags on volumes that depend on slices that were not scanned.

A slice that is missing between two others is interpolated. This is a warning if little of the volume depends on it,
else a flag. Axes: T phase, Z slice, H row, W column."""

import numpy as np

from echoplane.study.cine import Cine
from echoplane.tasks.cmr_segmentation.base_plane import from_base, surrounded_share
from echoplane.tasks.cmr_segmentation.measures import known_slices
from echoplane.tasks.cmr_segmentation.quality import Flag
from echoplane.tasks.cmr_segmentation.structures import LV_CAVITY, RV_CAVITY

MAX_ESTIMATED_SHARE = 0.05
"""Maximum share of a volume that may depend on how missing slices are interpolated; above it, the volume is flagged."""
MAX_MISSING_IN_A_ROW = 1
CUT_AREA_SHARE = 0.65
"""Cavity area of the last slice, as a share of the largest slice, above which the stack ends before the apex."""
CUT_SURROUNDED, CUT_RV_SHARE = 0.95, 0.3
"""Minimum share of the cavity's outline along myocardium, and minimum area of the right ventricle as a share of its
largest slice, for a slice at end systole to lie below the base."""
MAX_MISSING_AT_BASE = 0.25
"""Maximum distance, in slices, from the mitral valve at end diastole to the edge of the first slice."""
MAX_GROWTH = 0.2
"""Maximum growth of the cavity of a basal slice in systole, as a share of the largest slice at end diastole."""


def missing_slice_flags(counts_TZ: np.ndarray, stack: Cine, ed: int, es: int) -> list[Flag]:
    """Flags volumes that depend on missing slices; `counts_TZ` are pixels of the cavity.

    Files of end diastole and end systole alone often lack the outer slices at end systole, because the ventricle is
    shorter then: in such a stack, these are no gaps.
    """
    known_TZ = known_slices(stack)
    if not stack.covers_beat:
        known_TZ[es] |= _ends(known_TZ[es]) & known_TZ[ed]
    flags = []
    for title, t in (("end diastole", ed), ("end systole", es)):
        share = estimated_share(counts_TZ[t], known_TZ[t])
        if share > MAX_ESTIMATED_SHARE:
            sentence = f"At {title} up to {100 * share:.0f} % of the LV volume is estimated: slices are missing there."
            flags.append(Flag("missing-slices", sentence))
    return flags


def _ends(known_Z: np.ndarray) -> np.ndarray:
    """Returns a mask of the slices before the first and after the last known one."""
    there = np.flatnonzero(known_Z)
    numbers = np.arange(len(known_Z))
    return (numbers < there[0]) | (numbers > there[-1]) if len(there) else np.ones(len(known_Z), bool)


def estimated_share(counts_Z: np.ndarray, present_Z: np.ndarray) -> float:
    """Returns the share of the volume of one phase that depends on how missing slices were estimated.

    The area of a slice that is missing between two others may be that of either: half their difference is uncertain.
    For several missing slices in a row, and for one at an end of the stack, it is the area of the larger neighbour.
    """
    total, at_stake = float(counts_Z.sum()), 0.0
    for first, last in gaps(present_Z):
        inside = first > 0 and last < len(counts_Z) - 1
        sides = [counts_Z[first - 1] if first else 0.0, counts_Z[last + 1] if last < len(counts_Z) - 1 else 0.0]
        length = last - first + 1
        if inside and length <= MAX_MISSING_IN_A_ROW:
            at_stake += length * abs(sides[0] - sides[1]) / 2
        else:
            at_stake += length * max(sides)
    return at_stake / total if total else 0.0


def gaps(present_Z: np.ndarray) -> list[tuple[int, int]]:
    """Returns the first and last slice of each run of missing slices."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], present_Z, [True]]).astype(int)))
    return [(int(first), int(end) - 1) for first, end in edges.reshape(-1, 2)]


def repeated_slice_flags(stack: Cine) -> list[Flag]:
    """Flags neighbouring slices that hold the same pictures: the position of one of them is wrong."""
    repeated = [
        z
        for z in range(stack.slices - 1)
        if any(
            stack.present_TZ[t, z : z + 2].all()
            and np.array_equal(stack.voxels_TZHW[t, z], stack.voxels_TZHW[t, z + 1])
            for t in range(stack.phases)
        )
    ]
    if not repeated:
        return []
    pairs = ", ".join(f"{z + 1} and {z + 2}" for z in repeated)
    return [Flag("repeated-slice", f"Slices {pairs} hold the same picture: a slice is there twice or is missing.")]


def stack_end_flags(labels_TZHW: np.ndarray, stack: Cine, ed: int, es: int, valve_T: np.ndarray | None) -> list[Flag]:
    """Flags a stack that begins below the base or ends above the apex: all volumes lack the part beyond it.

    Long axis planes show the position of the base (`valve_T`, see `base_plane.valve_slices`). Without them, a slice
    through the base is recognised at end systole: myocardium surrounds only a part of its cavity, and there is hardly
    any right ventricle. The last slice at the apex has a small cavity.
    """
    lv_Z, rv_Z = ((labels_TZHW[ed] == k).sum(axis=(1, 2)) for k in (LV_CAVITY, RV_CAVITY))
    order = from_base(labels_TZHW[ed])
    base, apex, flags = order[0], order[-1], []
    seen = stack.present_TZ[es, base] and lv_Z[base] and (labels_TZHW[es, base] == LV_CAVITY).any()
    rv_share = float((labels_TZHW[es, base] == RV_CAVITY).sum()) / max(int(rv_Z.max()), 1)
    if valve_T is not None:
        missing = float((valve_T[ed] - base) * (1 if base else -1)) - 0.5
        if missing > MAX_MISSING_AT_BASE:
            sentence = f"The stack begins {missing:.1f} slice(s) below the mitral valve: volume is missing."
            flags.append(Flag("base-cut", sentence))
    elif seen and surrounded_share(labels_TZHW[es, base]) >= CUT_SURROUNDED and rv_share >= CUT_RV_SHARE:
        sentence = "The first slice still lies inside the ventricles at end systole: the stack begins below their base."
        flags.append(Flag("base-cut", sentence))
    if lv_Z[apex] > CUT_AREA_SHARE * lv_Z.max():
        share = 100 * lv_Z[apex] / lv_Z.max()
        sentence = f"The last slice has {share:.0f} % of the largest cavity: the stack ends before the apex."
        flags.append(Flag("apex-cut", sentence))
    return flags


def growth_flags(labels_TZHW: np.ndarray, stack: Cine, ed: int, es: int) -> list[Flag]:
    """Flags a slice of the basal half whose cavity grows in systole: it shows atrium or outflow tract."""
    ed_Z, es_Z = ((labels_TZHW[t] == LV_CAVITY).sum(axis=(1, 2)).astype(float) for t in (ed, es))
    basal = from_base(labels_TZHW[ed])[: (stack.slices + 1) // 2]
    basal = basal[stack.present_TZ[ed, basal] & stack.present_TZ[es, basal]]
    growth = ((es_Z - ed_Z)[basal]).max(initial=0.0) / max(ed_Z.max(), 1.0)
    if growth <= MAX_GROWTH:
        return []
    sentence = (
        f"The LV cavity of a basal slice grows in systole by {100 * growth:.0f} % of the largest slice: atrium or "
        "outflow tract may be counted at end systole."
    )
    return [Flag("basal-growth", sentence)]
