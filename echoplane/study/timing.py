"""Time between the frames of an ultrasound clip (PS3.3 C.7.6.5, C.8.5.4)."""

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

PLAUSIBLE_MS = (1.0, 250.0)
"""Plausible frame times, 1000 to 4 frames per second: from ultrafast imaging to a large volume."""
SINCE_START = "FrameTimeVector can only hold times since the start; it was read so"
POINTED_AT = {0x00181063: "FrameTime", 0x00181065: "FrameTimeVector"}
"""Attributes that FrameIncrementPointer may name."""


def frame_time_ms(dataset: Dataset) -> tuple[float | None, tuple[str, ...]]:
    """Returns the mean time between frames, None if the file states no plausible one, and warnings.

    The attribute that FrameIncrementPointer names takes precedence; the others follow in the order of their precision.
    """
    first = _pointed_at(dataset.get("FrameIncrementPointer"))
    names = [first, *(name for name in SOURCES if name != first)]
    since_start = _is_since_start(dataset.get("FrameTimeVector"))
    stated = {name: time_ms for name in names if (time_ms := SOURCES[name](dataset.get(name))) is not None}
    implausible = [name for name, time_ms in stated.items() if not _plausible(time_ms)]
    for name in names:
        if name in stated and name not in implausible:
            said = _warnings(name, first, names, implausible)
            return stated[name], (*said, SINCE_START) if since_start and name == "FrameTimeVector" else said
    for name in (name for name in names if name in POINTED_AT.values() and name in stated):
        if _plausible(1000 * stated[name]):
            return 1000 * stated[name], (f"{name} can only be in seconds; it was read so",)
    return None, (f"not plausible for a clip: {', '.join(implausible)}",) if implausible else ()


def _pointed_at(pointer: Any) -> str:
    tags = pointer if isinstance(pointer, MultiValue) else [pointer]
    return next((POINTED_AT[tag] for tag in tags if tag in POINTED_AT), "FrameTime")


def _warnings(name: str, first: str, names: list[str], implausible: list[str]) -> tuple[str, ...]:
    before = names[: names.index(name)]
    if ignored := [other for other in before if other in implausible]:
        return (f"not plausible for a clip: {', '.join(ignored)}; the frame time was taken from {name}",)
    if name == first or name in POINTED_AT.values():
        return ()
    return (f"no usable FrameTime in the file: it was taken from {name}",)


def _plausible(time_ms: float) -> bool:
    return PLAUSIBLE_MS[0] <= time_ms <= PLAUSIBLE_MS[1]


def _mean_ms(vector: Any) -> float | None:
    """Returns the mean of a FrameTimeVector without its first value, which is 0 by definition; or, if it can only hold
    the times since the start, the mean of their differences."""
    if _is_since_start(vector):
        return float(vector[-1]) / (len(vector) - 1)
    times_ms = [number(value) for value in vector[1:]] if isinstance(vector, MultiValue) else []
    known_ms = [time_ms for time_ms in times_ms if time_ms is not None]
    return sum(known_ms) / len(known_ms) if known_ms and len(known_ms) == len(times_ms) else None


def _is_since_start(vector: Any) -> bool:
    """Returns True for four or more times that grow by about the same from 0: no heart is recorded ever
    more slowly."""
    times_ms = [number(value) or 0.0 for value in vector[1:]] if isinstance(vector, MultiValue) else []
    return (
        len(times_ms) >= 3
        and times_ms[0] > 0
        and all(abs(time_ms / times_ms[0] - place) < 0.5 for place, time_ms in enumerate(times_ms, start=1))
    )


def _period_ms(rate_hz: Any) -> float | None:
    known_hz = number(rate_hz)
    return 1000 / known_hz if known_hz else None


def number(value: Any) -> float | None:
    """Returns a positive finite number, or None."""
    try:
        parsed = float(value)
    except (TypeError, ValueError):
        return None
    return parsed if 0 < parsed < 1e9 else None


SOURCES: dict[str, Callable[[Any], float | None]] = {
    "FrameTime": number,
    "FrameTimeVector": _mean_ms,
    "CineRate": _period_ms,
    "RecommendedDisplayFrameRate": _period_ms,
}
