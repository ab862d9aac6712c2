"""One page a cardiologist can check: contours on every slice at end diastole and end systole, the moving heart, curves.

The page needs no other file. Axes: T phase, Z slice, H row, W column, C colour."""

import io
from importlib import resources
from pathlib import Path

import cv2
import imageio.v3 as imageio
import numpy as np

from echoplane.cmr.files import RESEARCH_USE
from echoplane.html import data_uri, render
from echoplane.study.cine import Cine, display_turn, turned
from echoplane.tasks.cmr_segmentation import Segmentation
from echoplane.tasks.cmr_segmentation.measures import HEADERS, Curve
from echoplane.tasks.cmr_segmentation.preparation import grey_range
from echoplane.tasks.cmr_segmentation.structures import STRUCTURES

COLOURS = {1: (255, 80, 80), 2: (90, 220, 90), 3: (80, 160, 255), 4: (255, 190, 60), 5: (200, 110, 255)}
"""RGB of each structure's contour."""
TILE = 180
"""Side of one slice on the page, in pixels."""
MOST_LOOP_PHASES = 30
CHART = (560, 220)
"""Width and height of a curve, in pixels."""


def write_report(found: Segmentation, cines: tuple[Cine, ...], path: Path) -> None:
    stack = cines[0]
    pages = {
        f"phase {found.ed}, end diastole": montage(stack, found.masks[stack.plane], found.ed),
        f"phase {found.es}, end systole": montage(stack, found.masks[stack.plane], found.es),
    }
    pages |= {f"{c.plane}, phase 0": montage(c, found.masks[c.plane], 0) for c in cines[1:]}
    template = resources.files(__package__).joinpath("report.html").read_text()
    page = render(
        template,
        measures=[(header, found.measures.get(name)) for name, header in HEADERS.items()],
        flags=found.flags,
        warnings=found.warnings,
        expected_dice=found.confidence,
        montages={title: data_uri(png(picture)) for title, picture in pages.items()},
        loop=data_uri(loop(stack, found.masks[stack.plane]), "image/gif"),
        curves=[chart(name, curve, found.ed, found.es) for name, curve in found.curves.items()],
        chart=CHART,
        legend=[(s.title, "#{:02x}{:02x}{:02x}".format(*COLOURS[s.value])) for s in STRUCTURES[1:]],
        research_use=RESEARCH_USE,
    )
    path.write_text(page)


def montage(cine: Cine, labels_TZHW: np.ndarray, phase: int) -> np.ndarray:
    """Every slice of one phase with its contours, cut to the heart, RGB (row, column, 3)."""
    box = heart_box(labels_TZHW)
    tiles = [tile(cine, labels_TZHW, phase, z, box) for z in range(cine.slices)]
    columns = min(6, len(tiles))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)])


def tile(cine: Cine, labels_TZHW: np.ndarray, phase: int, z: int, box: tuple[slice, slice]) -> np.ndarray:
    """One slice as readers see it, TILE x TILE."""
    low, high = grey_range(cine, (1.0, 99.5))
    turn = display_turn(cine.affine, cine.plane)
    grey_HW = turned(cine.voxels_TZHW[phase, z][box].astype(np.float32), turn)
    labels_HW = np.ascontiguousarray(turned(labels_TZHW[phase, z][box], turn))
    grey_HW = np.clip((grey_HW - low) * 255 / (high - low), 0, 255).astype(np.uint8)
    picture = cv2.cvtColor(cv2.resize(grey_HW, (TILE, TILE), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB)
    for structure, colour in COLOURS.items():
        mask = cv2.resize((labels_HW == structure).astype(np.float32), (TILE, TILE), interpolation=cv2.INTER_LINEAR)
        contours, _ = cv2.findContours((mask > 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(picture, contours, -1, colour, 1, cv2.LINE_AA)
    cv2.putText(picture, str(z + 1), (5, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (200, 200, 200), 1, cv2.LINE_AA)
    return picture


def heart_box(labels_TZHW: np.ndarray) -> tuple[slice, slice]:
    """A square around all that was found, with a margin; the whole picture where nothing was."""
    rows, columns = labels_TZHW.shape[2:]
    found = np.argwhere(labels_TZHW.any(axis=(0, 1)))
    if not len(found):
        return slice(0, rows), slice(0, columns)
    low, high = found.min(axis=0), found.max(axis=0)
    half = int(0.7 * max(high - low)) + 8
    middle = (low + high) // 2
    return tuple(slice(max(0, m - half), min(n, m + half)) for m, n in zip(middle, (rows, columns), strict=True))  # type: ignore[return-value]


def loop(cine: Cine, labels_TZHW: np.ndarray) -> bytes:
    """The middle slice over the beat, as a GIF."""
    filled = np.flatnonzero(labels_TZHW.any(axis=(0, 2, 3)))
    z = int(filled[len(filled) // 2]) if len(filled) else cine.slices // 2
    phases = np.unique(np.linspace(0, cine.phases - 1, min(cine.phases, MOST_LOOP_PHASES)).astype(int))
    box = heart_box(labels_TZHW)
    frames = np.stack([tile(cine, labels_TZHW, int(t), z, box) for t in phases])
    buffer = io.BytesIO()
    imageio.imwrite(buffer, frames, extension=".gif", duration=max(40, 1000 // len(phases)), loop=0)
    return buffer.getvalue()


def chart(name: str, curve: Curve, ed: int, es: int) -> dict[str, object]:
    """A volume curve as the points of an SVG line."""
    width, height = CHART
    top = max(float(curve.size_T.max()), 1e-9)
    step = (width - 60) / max(len(curve.size_T) - 1, 1)
    points = [(50 + t * step, height - 30 - (height - 50) * float(v) / top) for t, v in enumerate(curve.size_T)]
    return {
        "title": next(s.title for s in STRUCTURES if s.name == name),
        "unit": curve.unit,
        "top": f"{top:.0f}",
        "line": " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        "marks": [("ED", *points[ed]), ("ES", *points[es])],
    }


def png(picture_HWC: np.ndarray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR))[1].tobytes()
