"""Geometry of the report's charts for its template: lines, ticks and bars."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LEFT, RIGHT, TOP, BOTTOM = 42, 512, 10, 204
"""Plotting area of a 520 x 236 drawing."""
BARS_LEFT, BARS_RIGHT, BARS_TOP, BARS_BOTTOM = 10, 512, 8, 160
"""Plotting area of a histogram, 520 x 190."""
COLOURS = {"one": "--accent", "two": "--second"}


def line_chart(title: str, steps: Sequence[float], lines: Mapping[str, Sequence[float]], top: float) -> dict[str, Any]:
    """Returns up to two lines over training steps, on an axis from 0 to `top`."""
    most = max(steps)
    styled = zip(lines.items(), COLOURS.items(), strict=False)
    return {
        "title": title,
        "lines": [
            {"name": name, "style": style, "colour": colour, "points": _points(steps, values, most, top)}
            for (name, values), (style, colour) in styled
        ],
        "ticks": {
            "rows": [{"place": round(_row(part * top, top), 1), "text": f"{part * top:.2g}"} for part in _QUARTERS],
            "columns": [
                {"place": round(_column(part * most, most), 1), "text": f"{part * most:.0f}"} for part in _ENDS
            ],
        },
    }


_QUARTERS, _ENDS = (0.0, 0.25, 0.5, 0.75, 1.0), (0.0, 0.5, 1.0)


def _points(steps: Sequence[float], values: Sequence[float], most: float, top: float) -> str:
    return " ".join(
        f"{_column(step, most):.1f},{_row(value, top):.1f}" for step, value in zip(steps, values, strict=True)
    )


def _column(step: float, most: float) -> float:
    return LEFT + (RIGHT - LEFT) * step / most


def _row(value: float, top: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * min(value / top, 1.0)


def histogram(values: Sequence[float], bins: int = 40) -> dict[str, Any]:
    """Returns bars and ticks; the slowest percent is counted in the last bar, so that an outlier does not compress the
    rest."""
    most = float(np.percentile(values, 99))
    counts, edges = np.histogram(np.minimum(values, most), bins)
    width = (BARS_RIGHT - BARS_LEFT) / bins
    heights = (BARS_BOTTOM - BARS_TOP) * counts / counts.max()
    bars = [
        {
            "left": round(BARS_LEFT + k * width, 1),
            "top": round(BARS_BOTTOM - height, 1),
            "width": round(width - 1.5, 1),
            "height": round(height, 1),
        }
        for k, height in enumerate(heights)
    ]
    places = np.linspace(BARS_LEFT, BARS_RIGHT, 5)
    ticks = [
        {"place": round(place, 1), "text": f"{value:.0f}"}
        for place, value in zip(places, np.linspace(edges[0], edges[-1], 5), strict=True)
    ]
    return {"bars": bars, "ticks": ticks}


def matrix(labels: Sequence[str], titles: dict[str, str], counts: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Returns the rows of a confusion matrix; the shade of a cell is its share of the row."""
    rows = []
    for name, row in zip(labels, counts, strict=True):
        total = max(sum(row), 1)
        cells = [{"count": n, "part": round(n / total, 3), "style": _style(n / total)} for n in row]
        rows.append({"title": titles[name], "cells": cells})
    return rows


def _style(part: float) -> str:
    if part == 0:
        return "none"
    return "strong" if part > 0.5 else ""
