"""Real patients as another hospital's scanner might have shown them: fixed, seeded changes for `cmr_travel`.

Every patient is cut to a window around the drawn cavity. Grey values are first scaled so that 0 and 1 are the 1st and
99th percentile of the cine. No training uses these changes in this form. Axes: T phase, Z slice, H row, W column."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
from scipy import ndimage

from benchmarks.sunnybrook import Patient

SIDE = 160
"""Side of the window, in pixels: about 21 cm, ventricles, chest wall and liver."""
WHITE = 1000
"""Stored value of grey 1."""
PERCENTILES = (1, 99)
COARSE_MM = 2.5
RING_PX = (2, 6)
"""Distances from the drawn cavity between which the dark quarter of pixels counts as muscle."""
Greys = Callable[[np.ndarray, Patient, np.random.Generator], np.ndarray]
"""Returns the changed grey values of a patient's slices (T, Z, H, W)."""


def around(patient: Patient, side: int = SIDE) -> Patient:
    """Returns the patient in a square window around the middle of the drawn cavity; black where there is no picture."""
    row, column = middle_of(patient)
    first = round(row - side / 2) + side, round(column - side / 2) + side
    edge = ((0, 0), (0, 0), (side, side), (side, side))
    window = (..., slice(first[0], first[0] + side), slice(first[1], first[1] + side))
    return _with(patient, np.pad(patient.cine.voxels_TZHW, edge)[window], np.pad(patient.truth_TZHW, edge)[window])


def middle_of(patient: Patient) -> tuple[float, float]:
    """Returns row and column of the middle of the drawn cavity over all slices and phases."""
    row, column = ndimage.center_of_mass(patient.truth_TZHW.sum(axis=(0, 1)))
    return float(row), float(column)


def _with(patient: Patient, voxels_TZHW: np.ndarray, truth_TZHW: np.ndarray, mm: float | None = None) -> Patient:
    cine = replace(patient.cine, voxels_TZHW=voxels_TZHW, spacing_mm=(mm, mm) if mm else patient.cine.spacing_mm)
    return replace(patient, cine=cine, truth_TZHW=truth_TZHW)


def regreyed(change: Greys, patient: Patient) -> Patient:
    """Returns the patient in its window, with changed grey values. The same patient always gets the same noise."""
    cut = around(patient)
    seed = int.from_bytes(hashlib.sha256(patient.name.encode()).digest()[:4], "big")
    low, high = np.percentile(cut.cine.voxels_TZHW, PERCENTILES)
    grey = np.maximum((cut.cine.voxels_TZHW - low) / max(high - low, 1e-6), 0)
    changed = change(grey, cut, np.random.default_rng(seed))
    return _with(cut, np.clip(WHITE * changed, 0, 8 * WHITE).astype(np.int16), cut.truth_TZHW)


def gamma(power: float) -> Greys:
    return lambda grey, patient, rng: grey**power


def noise(deviation: float) -> Greys:
    """Rician noise of this deviation in each channel."""

    def change(grey: np.ndarray, patient: Patient, rng: np.random.Generator) -> np.ndarray:
        return np.hypot(grey + rng.normal(0, deviation, grey.shape), rng.normal(0, deviation, grey.shape))

    return change


def glare(grey: np.ndarray, patient: Patient, rng: np.random.Generator) -> np.ndarray:
    """A bright patch in a corner takes the upper two thirds of the grey values."""
    row, column = np.mgrid[: grey.shape[2], : grey.shape[3]]
    return grey + 3 * np.exp(-(row**2 + column**2) / (2 * (0.14 * SIDE) ** 2))


def shade(grey: np.ndarray, patient: Patient, rng: np.random.Generator) -> np.ndarray:
    """Brightness rises eightfold along a direction of its own for each patient, and falls off from the middle."""
    down, across = np.mgrid[-1 : 1 : 1j * grey.shape[2], -1 : 1 : 1j * grey.shape[3]]
    angle = rng.uniform(0, 2 * np.pi)
    return grey * np.exp(np.log(8) / 2 * (np.cos(angle) * down + np.sin(angle) * across) - 0.5 * (down**2 + across**2))


def pale(grey: np.ndarray, patient: Patient, rng: np.random.Generator) -> np.ndarray:
    """A grey curve halves the difference of blood and muscle, as each patient shows them."""
    away_TZHW = np.stack([[ndimage.distance_transform_edt(~m) for m in masks] for masks in patient.truth_TZHW])
    drawn_TZHW = np.broadcast_to(patient.drawn_TZ[:, :, None, None], grey.shape)
    ring_TZHW = (away_TZHW > RING_PX[0]) & (away_TZHW < RING_PX[1]) & drawn_TZHW
    blood, muscle = float(np.median(grey[patient.truth_TZHW])), float(np.percentile(grey[ring_TZHW], 25))
    middle, quarter = (blood + muscle) / 2, abs(blood - muscle) / 4
    low, high = sorted((blood, muscle))
    top = float(max(grey.max(), high + 1e-3))
    return np.interp(grey, [0, low, high, top], [0, middle - quarter, middle + quarter, top])


def halved(grey: np.ndarray, patient: Patient, rng: np.random.Generator) -> np.ndarray:
    """Half the resolution along both axes, on the same pixels."""
    side = grey.shape[2] // 2
    return _by_slice(
        grey, lambda s: cv2.resize(cv2.resize(s, (side, side), interpolation=cv2.INTER_AREA), s.shape[::-1])
    )


def coarse(patient: Patient) -> Patient:
    """Returns the patient with half as many pixels, which state COARSE_MM; the truth is what fills half of one."""
    cut = around(patient)

    def small(slice_HW: np.ndarray) -> np.ndarray:
        return cv2.resize(slice_HW, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)

    voxels_TZHW = _by_slice(cut.cine.voxels_TZHW, small).round().astype(np.int16)
    return _with(cut, voxels_TZHW, _by_slice(cut.truth_TZHW, small) >= 0.5, COARSE_MM)


def turned(degrees: float, mirrored: bool, patient: Patient) -> Patient:
    """Returns the patient turned about the middle of the cavity, and then mirrored."""
    row, column = middle_of(patient)
    matrix = cv2.getRotationMatrix2D((column, row), degrees, 1.0)

    def turn(how: int, slice_HW: np.ndarray) -> np.ndarray:
        return cv2.warpAffine(slice_HW, matrix, slice_HW.shape[::-1], flags=how)

    voxels_TZHW = _by_slice(patient.cine.voxels_TZHW, partial(turn, cv2.INTER_LINEAR)).round().astype(np.int16)
    truth_TZHW = _by_slice(patient.truth_TZHW, partial(turn, cv2.INTER_NEAREST)) > 0
    flip = slice(None, None, -1 if mirrored else 1)
    return around(_with(patient, voxels_TZHW[..., flip], truth_TZHW[..., flip]))


def _by_slice(voxels_TZHW: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.stack([[change(slice_HW.astype(np.float32)) for slice_HW in slices] for slices in voxels_TZHW])


DEGRADATIONS: dict[str, Callable[[Patient], Patient]] = {
    "glare: the heart in the lower third of greys": partial(regreyed, glare),
    "gamma 0.5": partial(regreyed, gamma(0.5)),
    "gamma 2": partial(regreyed, gamma(2.0)),
    "noise 0.06": partial(regreyed, noise(0.06)),
    "noise 0.15": partial(regreyed, noise(0.15)),
    "half the resolution": partial(regreyed, halved),
    "pixels of 2.5 mm": coarse,
    "turned by 30 degrees": partial(turned, 30, False),
    "turned by 90 degrees": partial(turned, 90, False),
    "turned by 200 degrees, mirrored": partial(turned, 200, True),
    "strong shading": partial(regreyed, shade),
    "half the contrast of blood and muscle": partial(regreyed, pale),
}
