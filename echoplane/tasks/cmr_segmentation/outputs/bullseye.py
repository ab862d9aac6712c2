"""Coordinates of the bull's-eye of the 17 segments: base outside, apex in the middle, anterior up, septum left."""

from typing import Any

import numpy as np

from echoplane.tasks.cmr_segmentation.segments import CLOCKWISE, NAMES, Wall

SIDE = 300
RADII = (146.0, 110.0, 74.0, 34.0)
"""Outer radius of the basal, middle and apical ring and of the apex."""
LIGHT, DARK = np.array((236, 243, 250)), np.array((30, 90, 160))
UNKNOWN = "#e2e8f0"
DRAWN = (
    ("ed_mm", "Wall at end diastole, mm", 4.0, 16.0),
    ("thickening_percent", "Thickening in systole, %", 0.0, 100.0),
)
"""Value, title, and the values at which the colour is lightest and darkest."""


def bullseyes(wall: Wall) -> list[dict[str, Any]]:
    """Returns one figure per value of DRAWN, as paths with their colours and texts; none without segments."""
    segments = {each["number"]: each for each in wall.as_json()["segments"]}
    return [
        {
            "title": title,
            "sectors": [_sector(number, segments[number][value], low, high) for number in sorted(segments)],
        }
        for value, title, low, high in DRAWN
        if segments
    ]


def _sector(number: int, value: float | None, low: float, high: float) -> dict[str, Any]:
    outline, (x, y) = _place(number)
    share = None if value is None else float(np.clip((value - low) / (high - low), 0, 1))
    colour = UNKNOWN if share is None else "#{:02x}{:02x}{:02x}".format(*(LIGHT + share * (DARK - LIGHT)).astype(int))
    text = "" if value is None else f"{value:.1f}" if high <= 20 else f"{value:.0f}"
    ink = "#ffffff" if share is not None and share > 0.55 else "#1a202c"
    return {
        "name": f"{number} {NAMES[number - 1]}", "path": outline, "colour": colour, "text": text, "ink": ink,
        "x": x, "y": y,
    }  # fmt: skip


def _place(number: int) -> tuple[str, tuple[float, float]]:
    """Returns the outline of a segment as an SVG path, and where its text stands."""
    middle = SIDE / 2
    level = next((k for k, ring in enumerate(CLOCKWISE) if number in ring), None)
    if level is None:
        r = RADII[-1]
        circle = f"M{middle - r} {middle}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z"
        return circle, (middle, middle)
    ring, outer, inner = CLOCKWISE[level], RADII[level], RADII[level + 1]
    wide = 2 * np.pi / len(ring)
    start = -np.pi / 2 + (ring.index(number) - 0.5) * wide  # the first of a ring is anterior, and up
    (x0, y0), (x1, y1) = _at(outer, start), _at(outer, start + wide)
    (x2, y2), (x3, y3) = _at(inner, start + wide), _at(inner, start)
    path = (
        f"M{x0:.1f} {y0:.1f}A{outer} {outer} 0 0 1 {x1:.1f} {y1:.1f}"
        f"L{x2:.1f} {y2:.1f}A{inner} {inner} 0 0 0 {x3:.1f} {y3:.1f}z"
    )
    return path, _at((outer + inner) / 2, start + wide / 2)


def _at(radius: float, angle: float) -> tuple[float, float]:
    return SIDE / 2 + radius * float(np.cos(angle)), SIDE / 2 + radius * float(np.sin(angle))
