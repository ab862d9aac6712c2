"""Training pictures of echo-view-image: wide phantom patients, one scan per view, prepared as every input is.

Rendered in parts of 25 patients that are kept: a run that was stopped goes on. Axes: N picture, H row, W column."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from echoplane.phantom import WIDE, Ranges, echo, make_patient, scan_strip
from echoplane.phantom.landmarks import landmarks
from echoplane.phantom.optics import draw_optics, draw_scan
from echoplane.phantom.patient import VIEW_NAMES
from echoplane.phantom.probe import pose
from echoplane.phantom.strip_screen import STRIP_NAMES
from echoplane.stages.progress import printed
from echoplane.tasks.picture import letterbox

ROWS, COLUMNS = 120, 160
"""Twice the network's input: augmentation zooms."""
PART = 25
SCAN_FRAMES = 2


@dataclass(frozen=True)
class Pictures:
    """uint8 pictures (N, ROWS, COLUMNS) and their labels, as places in `IMAGE_VIEWS`."""

    grey_NHW: np.ndarray
    label_N: np.ndarray


def pictures(folder: Path, seeds: range, ranges: Ranges = WIDE) -> Pictures:
    """Returns all pictures of the patients of `seeds`, rendered or read from `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    show, parts = printed("views phantom"), []
    for first in range(seeds.start, seeds.stop, PART):
        path = folder / f"{first}.npz"
        if not path.exists():
            drawn = [picture for seed in range(first, first + PART) for picture in _patient(seed, ranges)]
            grey_NHW, label_N = np.stack([grey for grey, _ in drawn]), np.array([label for _, label in drawn])
            np.savez_compressed(path, grey_NHW=grey_NHW, label_N=label_N)
        parts.append(np.load(path))
        show(first + PART - seeds.start, len(seeds))
    return Pictures(*(np.concatenate([part[name] for part in parts]) for name in ("grey_NHW", "label_N")))


def _patient(seed: int, ranges: Ranges) -> list[tuple[np.ndarray, int]]:
    """Two moments of each of the twelve views, and one picture of each kind of strip."""
    patient = make_patient(seed, ranges)
    drawn = []
    for label, view in enumerate(VIEW_NAMES):
        rng = np.random.default_rng([seed, label, 41])
        optics = draw_optics(rng, ranges.optics)
        at = pose(patient.heart, landmarks(patient.heart), view, rng, ranges.hand)
        look, defects = draw_scan(rng, ranges)
        polar_TAS = echo.scan(
            patient.heart, at, optics, rng.uniform(size=SCAN_FRAMES), look=look, defects=defects, grid=echo.THUMBNAIL
        )
        drawn += [(sector(polar_AS, optics.half_angle_rad), label) for polar_AS in polar_TAS]
    for k, kind in enumerate(STRIP_NAMES):
        still = scan_strip(patient, kind, 1, ranges=ranges)
        x0, y0, x1, y1 = still.box
        grey_HW = cv2.cvtColor(still.rgb[0, y0 : y1 + 1, x0 : x1 + 1], cv2.COLOR_RGB2GRAY)
        drawn.append((letterbox(grey_HW, ROWS, COLUMNS), len(VIEW_NAMES) + k))
    return drawn


def sector(polar_AS: np.ndarray, half_angle_rad: float) -> np.ndarray:
    """Returns the sector of a polar picture, cropped to its bounding box and fitted into ROWS x COLUMNS."""
    sample_HW, line_HW, inside_HW = _maps(half_angle_rad, polar_AS.shape)
    return cv2.remap(polar_AS, sample_HW, line_HW, cv2.INTER_LINEAR) * inside_HW


@lru_cache(maxsize=4)
def _maps(half_angle_rad: float, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample and line at each pixel, and 1 where the sector is."""
    scale = min(ROWS, COLUMNS / (2 * np.sin(half_angle_rad)))
    row_HW, column_HW = np.mgrid[:ROWS, :COLUMNS].astype(np.float32)
    down_HW, right_HW = (row_HW - (ROWS - scale) / 2) / scale, (column_HW - (COLUMNS - 1) / 2) / scale
    depth_HW, angle_HW = np.hypot(down_HW, right_HW), np.arctan2(right_HW, down_HW) / half_angle_rad
    lines, samples = size
    inside_HW = ((depth_HW <= 1) & (np.abs(angle_HW) <= 1)).astype(np.uint8)
    sample_HW, line_HW = depth_HW * (samples - 1), (angle_HW + 1) * (lines - 1) / 2
    return sample_HW.astype(np.float32), line_HW.astype(np.float32), inside_HW


def camus(folder: Path, half: str) -> tuple[Pictures, np.ndarray]:
    """Returns the stills VIEW__PATIENT_PHASE.png of the patients with odd numbers ("choose") or even ones ("report"),
    and the number of each still's patient."""
    grey, labels, patients = [], [], []
    for path in sorted(folder.glob("*__patient*.png")):
        number = int(path.stem.split("patient")[1][:4])
        if (number % 2 == 1) == (half == "choose"):
            grey.append(letterbox(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), ROWS, COLUMNS))
            labels.append(VIEW_NAMES.index(path.stem.split("__")[0]))
            patients.append(number)
    if not grey:
        raise SystemExit("the folder holds no still called VIEW__patientNUMBER_PHASE.png")
    return Pictures(np.stack(grey), np.array(labels)), np.array(patients)
