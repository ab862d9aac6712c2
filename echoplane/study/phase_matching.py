"""Matching of cardiac phases between slices that were scanned in separate breath holds.

Slices with equal numbers of phases over a whole beat are matched by rank, because each was gated to its own beats.
Others are matched by trigger time; a phase that a slice lacks is left out, never filled with another one."""

from collections.abc import Sequence

import numpy as np

from echoplane.study.cine import MIN_PHASES_OF_A_BEAT
from echoplane.study.mr_slices import Slice

TOLERANCE_FRAMES = 0.6
"""Maximum distance of a picture from a phase of the grid, as a share of the time between two phases."""
TOLERANCE_MS = 30.0
"""Maximum distance of a picture from a phase, if the grid is a selection such as end diastole and end systole alone."""
MIN_MATCHED_SHARE = 0.75
"""Minimum share of (phase, slice) pairs with a picture for a grid to be preferred for its number of phases."""
SAME_STEP = 0.03
"""Maximum relative difference of the times between phases for two slices to count as gated alike."""

Matched = list[Slice | None]


def matched_phases(positions: Sequence[Sequence[Slice]]) -> tuple[list[Matched], str]:
    """Returns the picture of every phase for each slice position (None if missing), and the method of matching.

    The method is "" if nothing had to be decided, else "time", or "rank" if the files state no times.
    """
    ordered = [sorted(slices, key=lambda s: (s.time_ms is None, s.time_ms or 0, s.order)) for slices in positions]
    counts = [len(slices) for slices in ordered]
    timed = all(_has_times(slices) for slices in ordered)
    if len(set(counts)) == 1 and (counts[0] >= MIN_PHASES_OF_A_BEAT or not timed or _same_times(ordered)):
        return [list(slices) for slices in ordered], ""
    if not timed:
        phases = int(np.median(counts))
        return [[slices[t * len(slices) // phases] for t in range(phases)] for slices in ordered], "rank"
    grids = {len(slices): slices for slices in sorted(ordered, key=_span_ms)}
    found = [(_match_all(ordered, grid), counts.count(len(grid)), _span_ms(grid)) for grid in grids.values()]
    return max(found, key=lambda grid: _rank(*grid))[0], "time"


def _has_times(slices: Sequence[Slice]) -> bool:
    times = [each.time_ms for each in slices]
    return None not in times and len(set(times)) == len(times)


def _same_times(ordered: Sequence[Sequence[Slice]]) -> bool:
    times = np.array([[each.time_ms for each in slices] for slices in ordered], float)
    return bool(np.ptp(times, axis=0).max() <= 2 * TOLERANCE_MS)


def _span_ms(slices: Sequence[Slice]) -> float:
    return float((slices[-1].time_ms or 0) - (slices[0].time_ms or 0))


def _rank(matched: Sequence[Matched], alike: int, span_ms: float) -> tuple[float, ...]:
    """Returns a sort key: grids that most slices fill first, then those that most slices share, with most phases, and
    over the longest time."""
    filled = float(np.mean([each is not None for slices in matched for each in slices]))
    return (1.0, alike, len(matched[0]), span_ms) if filled >= MIN_MATCHED_SHARE else (0.0, filled, span_ms)


def _match_all(ordered: Sequence[Sequence[Slice]], grid: Sequence[Slice]) -> list[Matched]:
    grid_ms = np.array([each.time_ms for each in grid], float)
    step_ms = _step_ms(grid_ms)
    whole = len(grid) >= MIN_PHASES_OF_A_BEAT
    tolerance_ms = TOLERANCE_FRAMES * step_ms if whole else min(TOLERANCE_MS, step_ms / 2)
    return [_match(slices, grid_ms, tolerance_ms) for slices in ordered]


def _match(slices: Sequence[Slice], grid_ms: np.ndarray, tolerance_ms: float) -> Matched:
    """Returns the nearest picture of each phase; beats of another length are first stretched to the grid's."""
    times_ms = np.array([each.time_ms for each in slices], float)
    step_ms, grid_step_ms = _step_ms(times_ms), _step_ms(grid_ms)
    whole = min(len(times_ms), len(grid_ms)) >= MIN_PHASES_OF_A_BEAT
    if whole and abs(step_ms - grid_step_ms) > SAME_STEP * grid_step_ms:
        beat_ms, grid_beat_ms = times_ms[-1] - times_ms[0] + step_ms, grid_ms[-1] - grid_ms[0] + grid_step_ms
        times_ms = grid_ms[0] + (times_ms - times_ms[0]) * grid_beat_ms / beat_ms
        tolerance_ms = max(tolerance_ms, TOLERANCE_FRAMES * step_ms * grid_beat_ms / beat_ms)
    distance = np.abs(times_ms[None] - grid_ms[:, None])
    nearest = distance.argmin(axis=1)
    return [slices[k] if distance[t, k] <= tolerance_ms + 1e-6 else None for t, k in enumerate(nearest)]


def _step_ms(times_ms: np.ndarray) -> float:
    return float(np.median(np.diff(times_ms))) if len(times_ms) > 1 else 0.0
