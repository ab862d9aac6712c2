"""Training pictures of echo-view-image: one picture per phantom heart, prepared as every input is.

Rendered in parts of 25 groups that are kept: a run that was stopped goes on. Axes: N picture, H row, W column."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from echoplane.files import replacing
from echoplane.phantom import CLINIC, Ranges, echo, make_patient, scan_strip
from echoplane.phantom.heart import Heart
from echoplane.phantom.landmarks import landmarks
from echoplane.phantom.optics import draw_optics, draw_scan
from echoplane.phantom.patient import VIEW_NAMES
from echoplane.phantom.probe import framed, pose
from echoplane.phantom.strip_screen import STRIP_NAMES
from echoplane.stages.progress import printed
from echoplane.tasks.picture import letterbox

ROWS, COLUMNS = 120, 160
"""Twice the network's input: augmentation zooms."""
PART = 25
CURVED_SHARE, MAX_NEAR = 0.35, 0.12
"""Share of sectors with a curved upper edge, and its largest distance from the point, in depths."""


def unseen_machines(ranges: Ranges) -> Ranges:
    """Returns the ranges on machines never seen in training: wider sectors, lower frequency, coarser speckle without
    reduction, more grey."""
    optics = replace(ranges.optics, half_angle_deg=(48, 54), frequency_mhz=(1.3, 1.8), dynamic_range_db=(66, 76))
    rough = ranges.defects and replace(ranges.defects, point_spread=(1.2, 1.5), smoothing=(0, 0.2))
    return replace(ranges, optics=optics, defects=rough)


FIELD = unseen_machines(CLINIC)


@dataclass(frozen=True)
class Pictures:
    """uint8 pictures (N, ROWS, COLUMNS) and their labels, as places in `IMAGE_VIEWS`."""

    grey_NHW: np.ndarray
    label_N: np.ndarray


def inputs(grey_NHW: np.ndarray) -> np.ndarray:
    """Returns pictures at the size of the network's input: the mean of 2 x 2 pixels, rounded down."""
    count, rows, columns = grey_NHW.shape
    blocks = grey_NHW.reshape(count, rows // 2, 2, columns // 2, 2)
    return (blocks.sum(axis=(2, 4), dtype=np.uint16) // 4).astype(np.uint8)


def joined(several: list[Pictures]) -> Pictures:
    return Pictures(
        np.concatenate([data.grey_NHW for data in several]), np.concatenate([data.label_N for data in several])
    )


def pictures(folder: Path, seeds: range, ranges: Ranges = CLINIC) -> Pictures:
    """Returns all pictures of the groups of `seeds`, rendered or read from `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    show, parts = printed("views phantom"), []
    for first in range(seeds.start, seeds.stop, PART):
        path = folder / f"{first}.npz"
        if not path.exists():
            drawn = [picture for seed in range(first, first + PART) for picture in _group(seed, ranges)]
            grey_NHW, label_N = np.stack([grey for grey, _ in drawn]), np.array([label for _, label in drawn])
            with replacing(path) as file:
                np.savez_compressed(file, grey_NHW=grey_NHW, label_N=label_N)
        parts.append(np.load(path))
        show(first + PART - seeds.start, len(seeds))
    return joined([Pictures(part["grey_NHW"], part["label_N"]) for part in parts])


def _group(seed: int, ranges: Ranges) -> list[tuple[np.ndarray, int]]:
    """One picture of each of the twelve views, each of another heart; in every fourth group one of each strip."""
    drawn = []
    for label, view in enumerate(VIEW_NAMES):
        heart = make_patient(seed * len(VIEW_NAMES) + label, ranges).heart
        drawn.append((frames(heart, view, ranges, np.random.default_rng([seed, label, 41]))[0], label))
    return drawn + (strips(seed, ranges) if seed % 4 == 0 else [])


def strips(seed: int, ranges: Ranges) -> list[tuple[np.ndarray, int]]:
    """Returns one picture of each kind of strip, and its label."""
    drawn = []
    for k, kind in enumerate(STRIP_NAMES):
        still = scan_strip(make_patient(seed, ranges), kind, 1, ranges=ranges)
        x0, y0, x1, y1 = still.box
        grey_HW = cv2.cvtColor(still.rgb[0, y0 : y1 + 1, x0 : x1 + 1], cv2.COLOR_RGB2GRAY)
        drawn.append((letterbox(grey_HW, ROWS, COLUMNS), len(VIEW_NAMES) + k))
    return drawn


def frames(
    heart: Heart,
    view: str,
    ranges: Ranges,
    rng: np.random.Generator,
    *,
    phases_T: np.ndarray | None = None,
    apart: float = 1.0,
    size: tuple[int, int] = (ROWS, COLUMNS),
) -> np.ndarray:
    """Returns a scan of a heart as sectors (T, *size), at these phases of the beat or at a random one.

    `apart` is the time between frames, in frames of a machine: persistence fades over it."""
    optics = draw_optics(rng, ranges.optics)
    optics = framed(optics, heart, view, rng, ranges.hand)
    at = pose(heart, landmarks(heart), view, rng, ranges.hand)
    look, defects = draw_scan(rng, ranges)
    phases_T = rng.uniform(size=1) if phases_T is None else phases_T
    optics = replace(optics, persistence=optics.persistence**apart)
    polar_TAS = echo.scan(heart, at, optics, phases_T, look=look, defects=defects, grid=echo.THUMBNAIL)
    near = rng.uniform(0.02, MAX_NEAR) if rng.random() < CURVED_SHARE else 0.0
    return sectors(polar_TAS, optics.half_angle_rad, near, size)


def sector(polar_AS: np.ndarray, half_angle_rad: float, near: float = 0.0) -> np.ndarray:
    """Returns the sector of one polar picture; see `sectors`."""
    return sectors(polar_AS[None], half_angle_rad, near)[0]


def sectors(
    polar_TAS: np.ndarray, half_angle_rad: float, near: float = 0.0, size: tuple[int, int] = (ROWS, COLUMNS)
) -> np.ndarray:
    """Returns the sectors of polar pictures, cropped to their bounding box and fitted into `size` (rows, columns).

    `near` is the share of the depth above a curved upper edge, 0 for a sector that ends in a point."""
    rows, columns = size
    lines, samples = polar_TAS.shape[1:]
    top = near * np.cos(half_angle_rad)
    scale = min(rows / (1 - top), columns / (2 * np.sin(half_angle_rad)))
    row_HW, column_HW = np.mgrid[:rows, :columns].astype(np.float32)
    down_HW = (row_HW - (rows - scale * (1 - top)) / 2) / scale + top
    right_HW = (column_HW - (columns - 1) / 2) / scale
    depth_HW, angle_HW = np.hypot(down_HW, right_HW), np.arctan2(right_HW, down_HW) / half_angle_rad
    inside_HW = ((depth_HW >= near) & (depth_HW <= 1) & (np.abs(angle_HW) <= 1)).astype(np.uint8)
    sample_HW, line_HW = (depth_HW * (samples - 1)).astype(np.float32), (angle_HW + 1) * (lines - 1) / 2
    at = sample_HW, line_HW.astype(np.float32)
    return np.stack([cv2.remap(polar_AS, *at, cv2.INTER_LINEAR) * inside_HW for polar_AS in polar_TAS])


def camus(folder: Path, half: str, size: tuple[int, int] = (ROWS, COLUMNS)) -> tuple[Pictures, np.ndarray]:
    """Returns the stills VIEW__PATIENT_PHASE.png of the patients with odd numbers ("choose") or even ones ("report"),
    and the number of each still's patient; stills are fitted into `size`."""
    grey, labels, patients = [], [], []
    for path in sorted(folder.glob("*__patient*.png")):
        number = int(path.stem.split("patient")[1][:4])
        if (number % 2 == 1) == (half == "choose"):
            grey.append(letterbox(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), *size))
            labels.append(VIEW_NAMES.index(path.stem.split("__")[0]))
            patients.append(number)
    if not grey:
        raise SystemExit("the folder holds no still called VIEW__patientNUMBER_PHASE.png")
    return Pictures(np.stack(grey), np.array(labels)), np.array(patients)
