"""HTML report for visual checks: contours on every slice at end diastole and end systole, a cine loop, and curves.

The page needs no other file. Axes: T phase, Z slice, H row, W column, C colour."""

import io
from importlib import resources
from pathlib import Path

import cv2
import imageio.v3 as imageio
import numpy as np

from echoplane.html import data_uri, render
from echoplane.study.cine import Cine, display_turn, turned
from echoplane.tasks.cmr_segmentation import Segmentation
from echoplane.tasks.cmr_segmentation.derived import body_as_json, reference_as_json
from echoplane.tasks.cmr_segmentation.figures import rounded
from echoplane.tasks.cmr_segmentation.measures import heart_rate_bpm
from echoplane.tasks.cmr_segmentation.outputs.bullseye import SIDE, bullseyes
from echoplane.tasks.cmr_segmentation.outputs.curves import chart
from echoplane.tasks.cmr_segmentation.outputs.files import ALL_HEADERS, RESEARCH_USE, stack_digest
from echoplane.tasks.cmr_segmentation.structures import COLOURS, STRUCTURES

DRAWING_ORDER = (3, 2, 1, 4, 5)
"""Structures in the order in which their contours are drawn. Only the outer contour of the myocardium is drawn; its
inner contour is that of the cavity, drawn over it."""
TILE, LOOP_TILE = 200, 320
"""Side of one slice in the report, in pixels: in a still picture, and in the cine loop."""
MAX_LOOP_PHASES = 30
LOOP_PLACES = (0.25, 0.5, 0.75)
"""Positions of the slices of the loop, as shares of the slices that show the heart, from one end of the stack on."""
CARDS = (
    ("lvef_percent", "LV ejection fraction", "%"),
    ("lvedv_ml", "LV end diastole", "mL"),
    ("lvesv_ml", "LV end systole", "mL"),
    ("lvm_g", "LV mass", "g"),
    ("rvef_percent", "RV ejection fraction", "%"),
    ("rvedv_ml", "RV end diastole", "mL"),
)
"""Measures in the large cards at the top of the report: name, title, unit."""


def write_report(found: Segmentation, cines: tuple[Cine, ...], model: dict[str, str], path: Path) -> None:
    """Writes the report of one study to `path`. `model` identifies the model used."""
    stack, doubtful = cines[0], found.doubtful
    masks, reference = found.masks[stack.plane], reference_as_json(found.subject)
    pages = {
        f"End diastole, phase {found.ed}": montage(stack, masks, found.ed),
        f"End systole, phase {found.es}": montage(stack, masks, found.es),
    }
    template = resources.files(__package__).joinpath("report.html").read_text()
    page = render(
        template,
        cards=[(header, unit, _shown(found.measures.get(name)), name in doubtful) for name, header, unit in CARDS],
        measures=[
            (header, _shown(found.measures.get(name)), name in doubtful, _range(reference["ranges"].get(name)))
            for name, header in ALL_HEADERS.items()
        ],
        reference=reference,
        body=body_as_json(found.subject),
        bullseyes=bullseyes(found.wall),
        side=SIDE,
        wall=found.wall.as_json(),
        known=[*_known(stack), *_made(found, stack, model)],
        limits=model.get("limits", ""),
        flags=found.flags,
        warnings=found.warnings,
        expected_dice=rounded(found.confidence),
        montages={title: data_uri(png(picture)) for title, picture in pages.items()},
        long_axes={plane: data_uri(png(_both_ends(c, found.masks[c.plane]))) for c in cines[1:] if (plane := c.plane)},
        loop=data_uri(loop(stack, masks), "image/gif"),
        chart=chart(found, stack, {value: _hex(rgb) for value, rgb in COLOURS.items()}),
        legend=[(s.title, _hex(COLOURS[s.value])) for s in STRUCTURES[1:] if _drawn(found, s.value)],
        research_use=RESEARCH_USE,
    )
    path.write_text(page)


def _shown(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}" if abs(value) < 10 else f"{value:.0f}"


def _known(stack: Cine) -> list[tuple[str, str]]:
    """Returns the properties of the short axis stack that the files state, with titles."""
    rows, columns = stack.voxels_TZHW.shape[2:]
    known = [("short axis", f"{stack.phases} phases, {stack.slices} slices, {rows} x {columns} pixels")]
    pixel = f"{stack.spacing_mm[0]:.2f} x {stack.spacing_mm[1]:.2f} mm" if stack.spacing_mm else "not stated"
    known.append(("pixel", pixel))
    known.append(
        ("from slice to slice", f"{stack.slice_spacing_mm:.1f} mm" if stack.slice_spacing_mm else "not stated")
    )
    rate = heart_rate_bpm(stack)
    known.append(("heart rate", f"{rate:.0f} a minute" if rate else "not known"))
    return known


def _made(found: Segmentation, stack: Cine, model: dict[str, str]) -> list[tuple[str, str]]:
    """Returns whose pictures were measured, when, and by which model, with titles."""
    return [
        ("end diastole, end systole", f"phases {found.ed} and {found.es}; --ed and --es choose others"),
        ("pseudonym", found.subject.pseudonym or "none: the files do not state that the identity was removed"),
        ("digest of the short axis", stack_digest(stack)[:16]),
        ("measured on", model["date"]),
        ("model", f"{model['task']}, bundle {model['bundle'][:16]}, {model['runtime']} {model['precision']}"),
        ("echoplane", model["version"]),
    ]


def _range(limits: list[float] | None) -> str:
    return "" if limits is None else f"{limits[0]:g} to {limits[1]:g}"


def _drawn(found: Segmentation, structure: int) -> bool:
    return any((labels == structure).any() for labels in found.masks.values())


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def _both_ends(cine: Cine, labels_TZHW: np.ndarray) -> np.ndarray:
    """Returns a picture of a long axis plane at the phases in which its atria are largest and smallest."""
    size_T = (labels_TZHW > 0).sum(axis=(1, 2, 3))
    box = heart_box(labels_TZHW, cine.spacing_mm)
    return np.hstack([tile(cine, labels_TZHW, int(t), 0, box) for t in (size_T.argmax(), size_T.argmin())])


def montage(cine: Cine, labels_TZHW: np.ndarray, phase: int) -> np.ndarray:
    """Returns every slice of one phase with its contours, cropped to the heart, RGB (row, column, 3)."""
    box = heart_box(labels_TZHW, cine.spacing_mm)
    tiles = [tile(cine, labels_TZHW, phase, z, box) for z in range(cine.slices)]
    columns = min(5, len(tiles))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)])


def tile(
    cine: Cine, labels_TZHW: np.ndarray, phase: int, z: int, box: tuple[slice, slice], side: int = TILE
) -> np.ndarray:
    """Returns one slice with contours, turned for display, `side` x `side`; its grey range is that of the heart, so
    that bright fat of the chest wall does not darken it."""
    low, high = np.percentile(cine.voxels_TZHW[0][:, *_inside(box)][cine.present_TZ[0]], (1, 99))
    turn = display_turn(cine.affine, cine.plane)
    grey_HW = np.clip((cine.voxels_TZHW[phase, z].astype(np.float32) - low) * 255 / max(high - low, 1e-6), 0, 255)
    grey_HW, labels_HW = (
        np.ascontiguousarray(turned(_cut(whole_HW, box), turn))
        for whole_HW in (grey_HW.astype(np.uint8), labels_TZHW[phase, z])
    )
    picture = cv2.cvtColor(cv2.resize(grey_HW, (side, side), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB)
    for structure in DRAWING_ORDER:
        mask = cv2.resize((labels_HW == structure).astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
        contours, _ = cv2.findContours((mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(picture, contours, -1, COLOURS[structure], 1, cv2.LINE_AA)
    cv2.putText(picture, str(z + 1), (5, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (200, 200, 200), 1, cv2.LINE_AA)
    return picture


def heart_box(labels_TZHW: np.ndarray, spacing_mm: tuple[float, float] | None) -> tuple[slice, slice]:
    """Returns the crop around all structures with a margin, or around the whole picture if there are none.

    It is square in mm, and may reach beyond the picture: if clipped, it would not be square, and the heart would look
    distorted.
    """
    sides = np.array(spacing_mm or (1.0, 1.0)) / min(spacing_mm or (1.0, 1.0))
    found, shape = np.argwhere(labels_TZHW.any(axis=(0, 1))), np.array(labels_TZHW.shape[2:])
    if len(found):
        low, high = found.min(axis=0), found.max(axis=0)
        half = int(0.7 * max((high - low) * sides)) + 8
    else:
        low, high, half = 0 * shape, shape, int(max(shape * sides)) // 2
    middle = (low + high) // 2
    rows, columns = (slice(int(m - h), int(m + h)) for m, h in zip(middle, np.rint(half / sides), strict=True))
    return rows, columns


def _inside(box: tuple[slice, slice]) -> tuple[slice, slice]:
    rows, columns = (slice(max(0, along.start), along.stop) for along in box)
    return rows, columns


def _cut(picture_HW: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
    """Returns the picture in `box`, 0 beyond its borders."""
    beyond = [(max(0, -along.start), max(0, along.stop - n)) for along, n in zip(box, picture_HW.shape, strict=True)]
    return np.pad(picture_HW[_inside(box)], beyond)


def loop(cine: Cine, labels_TZHW: np.ndarray) -> bytes:
    """Returns a GIF of a slice near the base, one in the middle and one near the apex over the beat."""
    filled = np.flatnonzero(labels_TZHW.any(axis=(0, 2, 3)))
    slices = filled if len(filled) else np.arange(cine.slices)
    chosen = sorted({int(slices[round(place * (len(slices) - 1))]) for place in LOOP_PLACES})
    phases = np.unique(np.linspace(0, cine.phases - 1, min(cine.phases, MAX_LOOP_PHASES)).astype(int))
    box = heart_box(labels_TZHW, cine.spacing_mm)
    frames = np.stack([np.hstack([tile(cine, labels_TZHW, int(t), z, box, LOOP_TILE) for z in chosen]) for t in phases])
    beat_ms = 1000 if cine.covers_beat else 600 * len(phases)
    buffer = io.BytesIO()
    imageio.imwrite(buffer, frames, extension=".gif", duration=max(30, beat_ms // len(phases)), loop=0)
    return buffer.getvalue()


def png(picture_HWC: np.ndarray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR))[1].tobytes()
