"""Coordinates of an SVG chart of one study's volume curves. Axes: T phase."""

from typing import Any

import numpy as np

from echoplane.study.cine import Cine
from echoplane.tasks.cmr_segmentation import Segmentation
from echoplane.tasks.cmr_segmentation.structures import STRUCTURES

WIDTH, HEIGHT = 620, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 90, 16, 40
"""Margins, in pixels: axis labels to the left and below, names of the curves to the right."""
DRAWN = {"lv-cavity": "LV cavity", "rv-cavity": "RV cavity", "lv-myocardium": "LV muscle"}


def chart(found: Segmentation, stack: Cine, colours: dict[int, str]) -> dict[str, Any]:
    """Returns the line of each structure, the ticks of both axes, and the positions of end diastole and end systole."""
    curves = {s: found.curves[s.name] for s in STRUCTURES if s.name in DRAWN and s.name in found.curves}
    highest = max((float(curve.size_T.max()) for curve in curves.values()), default=0.0)
    top, step = _scale(highest)
    x_T = LEFT + np.linspace(0, WIDTH - LEFT - RIGHT, stack.phases)

    def y(value: float) -> float:
        return float(TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top))

    lines = [
        {
            "title": DRAWN[s.name],
            "colour": colours[s.value],
            "points": " ".join(f"{x:.1f},{y(v):.1f}" for x, v in zip(x_T, curve.size_T, strict=True)),
            "end": (float(x_T[-1]) + 6, y(float(curve.size_T[-1])) + 4),
        }
        for s, curve in curves.items()
        if curve.size_T.any()
    ]
    return {
        "size": (WIDTH, HEIGHT),
        "frame": (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        "unit": next((curve.unit for curve in curves.values()), ""),
        "lines": _apart(lines),
        "rows": [(y(value), f"{value:g}") for value in np.arange(0, top + step / 2, step)],
        "columns": [(float(x_T[t]), _moment(t, stack)) for t in _shown(stack.phases)],
        "along": "time in the beat, ms" if stack.frame_time_ms else "phase",
        "marks": [("ED", float(x_T[found.ed])), ("ES", float(x_T[found.es]))],
    }


def _scale(highest: float) -> tuple[float, float]:
    """Returns the top of the axis and the step of its four to eight ticks: 1, 2 or 5 times a power of ten."""
    highest = max(highest, 1e-9)
    power = 10.0 ** np.floor(np.log10(highest / 4))
    step = next(float(k * power) for k in (1, 2, 5, 10) if highest / (k * power) <= 8)
    return float(np.ceil(1.02 * highest / step) * step), step


def _shown(phases: int) -> list[int]:
    return sorted({round(t) for t in np.linspace(0, phases - 1, min(phases, 6))})


def _moment(t: int, stack: Cine) -> str:
    return f"{t * stack.frame_time_ms:.0f}" if stack.frame_time_ms else str(t)


def _apart(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Moves the names at the ends of the curves to a minimum distance of 14 pixels from each other."""
    last = -np.inf
    for line in sorted(lines, key=lambda line: line["end"][1]):
        x, y = line["end"]
        last = max(y, last + 14)
        line["end"] = (x, last)
    return lines
