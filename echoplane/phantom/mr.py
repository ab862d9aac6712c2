"""MR scanner over the beating heart: cine slices in balanced SSFP contrast with exact label maps.

The picture shows, beyond anatomy: partial volume over edge and slice thickness, a receive coil's bias, Rician noise,
slices displaced between breath holds, blood darkened by flow, banding from an inhomogeneous field, papillary muscles
and trabeculae, which keep their volume and fill more of the cavity in systole. Axes: T phase, N, M rows and columns of
a slice.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from echoplane.phantom.anatomy import PERICARDIUM_MM, Distances, Part, all_parts
from echoplane.phantom.chest import FAT, background
from echoplane.phantom.heart import moments, trace_back
from echoplane.phantom.landmarks import landmarks
from echoplane.phantom.mr_patient import FIELDS, Field, MrPatient
from echoplane.phantom.mr_planes import Grid, Plane, points_of
from echoplane.phantom.shapes import Array, Points

LV_CAVITY, MYOCARDIUM, RV_CAVITY, LEFT_ATRIUM, RIGHT_ATRIUM = 1, 2, 3, 4, 5
"""Values of a label map, as in the task; papillary muscles belong to the cavity, as in the reference annotations."""

BLOOD_PARTS = (Part.RV_BLOOD, Part.RA_BLOOD, Part.LA_BLOOD, Part.LV_BLOOD, Part.AORTA_BLOOD, Part.PULMONARY_BLOOD)
LABEL_OF_PART = {
    "short-axis": {
        Part.RV_BLOOD: RV_CAVITY,
        Part.MYOCARDIUM: MYOCARDIUM,
        Part.LV_BLOOD: LV_CAVITY,
        Part.PAPILLARY: LV_CAVITY,
    },
    "2-chamber": {Part.LA_BLOOD: LEFT_ATRIUM},
    "4-chamber": {Part.LA_BLOOD: LEFT_ATRIUM, Part.RA_BLOOD: RIGHT_ATRIUM},
}


PAPILLARY_MM = 5.0
"""Radius of a papillary muscle at end diastole."""
PERICARDIUM_SIGNAL = (0.05, 0.25)
"""Signal of the pericardium, low in every sequence, so that the line around the heart is distinct from most muscle."""
PERICARDIUM_ED_MM = (0.7, 1.7)
"""Thickness of the pericardium on MR at end diastole, from one deviation below to one above the mean (Sechtem et al.,
AJR 1986; 147: 239)."""
PERICARDIUM_THICKENS_MM = 0.5
"""Increase of that thickness up to end systole (same source)."""
APEX_MM = 25.0
"""Distance from the apex within which blood darkens."""


def scan_plane(
    patient: MrPatient, plane: Plane, grid: Grid, phases: NDArray[np.float64], breath_mm: float = 1.5
) -> tuple[Array, NDArray[np.uint8]]:
    """Returns the signal (T, N, M), blood about 1, and labels (T, N, M) at these phases of the beat (0 is end
    diastole).

    `breath_mm` is the deviation of a slice's shift between breath holds; labels move with the picture.
    """
    rng = np.random.default_rng([patient.seed, 44, round(1000 * float(np.abs(plane.middle_mm).sum()))])
    shift = rng.normal(0, breath_mm, 2)
    moved = replace(plane, middle_mm=plane.middle_mm + shift[0] * plane.down + shift[1] * plane.right)
    normal = np.cross(plane.down, plane.right)
    look = _Look.draw(FIELDS[patient.field], patient, rng)
    layers = [
        _layer(patient, points_of(moved, grid, offset * normal), phases, look)
        for offset in np.array([-1, 0, 1]) * grid.thickness_mm / 3
    ]
    signal = np.mean([signal for signal, _ in layers], axis=0)
    return _received(signal, grid, look, rng), _labels(layers[1][1], plane.kind, signal.shape)


@dataclass(frozen=True)
class _Look:
    """Contrast of one series, drawn at random from its field's ranges."""

    field: Field
    myocardium: float
    fat: float
    pericardium: float
    pericardium_mm: float
    """Thickness at end diastole."""
    blur_mm: float
    noise: float
    flow: float
    trabeculae: float
    """Darkening of the cavity's outermost millimetres by trabeculae."""
    trabeculae_mm: float
    """Depth of the trabeculae in the cavity at end diastole."""
    trabeculae_from: float
    """Grain above which there are trabeculae: the lower, the more."""
    papillary_mm: float
    """Amount added to the radius of papillary muscles."""
    apex: float
    """Darkening of blood at the apex, where it hardly moves and the coil is far."""
    texture: int
    """Seed of the texture around the heart in this slice."""

    @classmethod
    def draw(cls, field: Field, patient: MrPatient, rng: np.random.Generator) -> "_Look":
        own = np.random.default_rng([patient.seed, 45])  # one scanner setting per patient; flow differs per slice
        myocardium = float(own.uniform(*field.myocardium))
        return cls(
            field,
            myocardium=myocardium,
            fat=float(own.uniform(*field.fat)),
            pericardium=float(own.uniform(*PERICARDIUM_SIGNAL)),
            blur_mm=float(own.uniform(*field.blur_mm)),
            noise=float(own.uniform(*field.noise)),
            flow=float(rng.uniform(0, field.flow)),
            trabeculae=float(own.uniform(0, 1)) * (1 - myocardium),
            trabeculae_mm=float(own.uniform(3, 9)),
            trabeculae_from=float(own.uniform(-0.2, 0.6)),
            papillary_mm=float(own.uniform(-1.5, 2)),
            apex=float(own.uniform(0, 0.4)),
            pericardium_mm=float(own.uniform(*PERICARDIUM_ED_MM)),
            texture=int(rng.integers(2**31)),
        )

    def of(self, part: Part) -> float:
        """Returns the signal of a part of the anatomy."""
        if part in (*BLOOD_PARTS, Part.CAVA_BLOOD, Part.HEPATIC_VEIN):
            return 1.0 if part in (Part.LV_BLOOD, Part.RV_BLOOD) else 0.95
        special = {Part.PERICARDIUM: self.pericardium, Part.LIVER: 1.3 * self.myocardium, Part.SPINE: 0.55}
        return special.get(part, 0.6 if part == Part.VALVE else self.myocardium)


def _layer(patient: MrPatient, points: Points, phases: NDArray[np.float64], look: _Look) -> tuple[Array, Distances]:
    """Returns the signal of an infinitely thin slice, (T, N, M), and the distances from which it was painted."""
    moment = moments(patient.heart, phases)
    material = trace_back(patient.heart, points, moment.contraction)
    parts = all_parts(patient.heart, landmarks(patient.heart), points, material, moment)
    # Muscle in the cavity keeps its thickness while the cavity shrinks: in end diastolic millimetres it grows.
    heart, beat = patient.heart, moment.contraction
    crowding = np.sqrt((1 - np.float32(heart.shortening) * beat) / (1 - np.float32(heart.ef) * beat))
    thicker_mm = look.papillary_mm + (crowding - 1) * PAPILLARY_MM
    parts[Part.PAPILLARY] = np.maximum(parts[Part.PAPILLARY] - thicker_mm, parts[Part.LV_BLOOD])
    thinner_mm = PERICARDIUM_MM - look.pericardium_mm - PERICARDIUM_THICKENS_MM * beat
    parts[Part.PERICARDIUM] = parts[Part.PERICARDIUM] + thinner_mm
    heart_mm = parts[Part.PERICARDIUM].min(axis=0)
    signal = background(patient.chest, points, heart_mm, look.texture) * np.float32(look.fat / FAT)
    signal = np.broadcast_to(signal, (len(phases), *points[0].shape[1:]))
    grain = _grain(patient.heart.seed, material.points)
    for part, distance in parts.items():
        share = np.clip(0.5 - distance / 1.4, 0, 1)
        value = np.float32(look.of(part)) * (1 + 0.06 * grain)
        if part == Part.LV_BLOOD:
            reach_mm = np.float32(look.trabeculae_mm) * crowding
            there = grain > look.trabeculae_from - 0.4 * beat
            value = value - look.trabeculae * np.clip(1 + distance / reach_mm, 0, 1) * there
            value = value * (1 - look.apex * np.clip(1 - material.points[2] / APEX_MM, 0, 1))
        if part in BLOOD_PARTS:
            value = value * (1 - look.flow * np.clip(grain, 0, 2) * moment.contraction)
        signal = signal + share * (value - signal)
    return np.asarray(signal, np.float32), parts


def _grain(seed: int, points: Points) -> Array:
    """Returns texture that moves with the tissue: a few plane waves of random direction."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(0, 0.22, (5, 3)), rng.uniform(0, 2 * np.pi, 5)
    total = sum(np.sin(sum(p * np.float32(k) for p, k in zip(points, wave, strict=True)) + np.float32(start))
                for wave, start in zip(*waves, strict=True))  # fmt: skip
    return np.asarray(total / np.float32(1.6), np.float32)


def _labels(parts: Distances, kind: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Returns the label map of a thin slice, painted in the anatomy's own order: a later part covers an earlier one."""
    labels, wanted = np.zeros(shape, np.uint8), LABEL_OF_PART[kind]
    for part, distance in parts.items():
        inside = np.broadcast_to(distance < 0, shape)
        if part == Part.VALVE:
            continue  # leaflets are thinner than a voxel: an annotator's contour runs over them
        labels[inside] = wanted.get(part, 0)
    return labels


def _received(signal_TNM: Array, grid: Grid, look: _Look, rng: np.random.Generator) -> Array:
    """Returns the signal after coil and receiver."""
    sigma = look.blur_mm / grid.pixel_mm
    blurred = gaussian_filter(signal_TNM, (0, sigma, sigma)) * _coil(signal_TNM.shape[1:], look.field, rng)
    if rng.random() < look.field.banding:
        blurred = blurred * _band(signal_TNM.shape[1:], rng)
    channels = rng.normal(0, look.noise, (2, *blurred.shape))
    return np.hypot(blurred + channels[0], channels[1]).astype(np.float32)


def _coil(shape: tuple[int, ...], field: Field, rng: np.random.Generator) -> Array:
    """Returns a sensitivity that decreases from the chest wall: e to the power of a random plane and bowl."""
    down, across = (np.linspace(-1, 1, n) for n in shape)
    slope = rng.normal(0, 0.5, 2) * field.bias
    bowl = -0.5 * abs(rng.normal(0, 0.5)) * field.bias
    log = slope[0] * down[:, None] + slope[1] * across[None] + bowl * (down[:, None] ** 2 + across[None] ** 2)
    return np.exp(log).astype(np.float32)


def _band(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Returns a dark line where the field is off by half a turn per repetition."""
    down, across = (np.linspace(-1, 1, n) for n in shape)
    angle, place, width = rng.uniform(0, np.pi), rng.uniform(-0.9, 0.9), rng.uniform(0.02, 0.06)
    bend = rng.normal(0, 0.3) * (down[:, None] ** 2 - across[None] ** 2)
    along = np.cos(angle) * down[:, None] + np.sin(angle) * across[None] + bend - place
    return (1 - rng.uniform(0.3, 0.8) * np.exp(-((along / width) ** 2))).astype(np.float32)
