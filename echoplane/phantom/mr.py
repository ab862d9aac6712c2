"""MR scanner over the beating heart: cine slices in balanced SSFP contrast with exact label maps.

The picture shows, beyond anatomy: partial volume over edge and slice thickness, a receive coil's bias, Rician noise,
slices displaced between breath holds, blood darkened by flow, banding from an inhomogeneous field, papillary muscles
and trabeculae, which keep their volume and fill more of the cavity in systole. Axes: T phase, N, M rows and columns of
a slice.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from echoplane.phantom.anatomy import PERICARDIUM_MM, Distances, Part, all_parts
from echoplane.phantom.chest import background
from echoplane.phantom.heart import Heart, moments, sector_shares, trace_back
from echoplane.phantom.landmarks import Landmarks, landmarks
from echoplane.phantom.mr_look import BLOOD_PARTS, Look, draw_look
from echoplane.phantom.mr_patient import MrPatient
from echoplane.phantom.mr_planes import Grid, Plane, points_of
from echoplane.phantom.mr_receiver import received
from echoplane.phantom.shapes import Array, Points, tube

LV_CAVITY, MYOCARDIUM, RV_CAVITY, LEFT_ATRIUM, RIGHT_ATRIUM = 1, 2, 3, 4, 5
"""Values of a label map, as in the task; papillary muscles belong to the cavity, as in the reference annotations."""

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
PERICARDIUM_THICKENS_MM = 0.5
"""Increase of the pericardium's thickness up to end systole (Sechtem et al., AJR 1986; 147: 239)."""
FINE = 0.55
"""Frequency of fine trabeculae, radians per mm: about 7 mm from one to the next."""
ALONG = 0.3
"""Factor of that frequency along the heart, where trabeculae run, so that they show in thick slices."""
APEX_MM = 25.0
"""Distance from the apex within which blood darkens."""


def scan_plane(
    patient: MrPatient, plane: Plane, grid: Grid, phases: NDArray[np.float64]
) -> tuple[Array, NDArray[np.uint8]]:
    """Returns the signal (T, N, M), blood about 1, and labels (T, N, M) at these phases of the beat (0 is end
    diastole). Slices shift between breath holds, and labels with them."""
    rng = np.random.default_rng([patient.seed, 44, round(1000 * float(np.abs(plane.middle_mm).sum()))])
    shift = rng.normal(0, _breath_mm(patient), 2)
    moved = replace(plane, middle_mm=plane.middle_mm + shift[0] * plane.down + shift[1] * plane.right)
    normal = np.cross(plane.down, plane.right)
    look = draw_look(patient, rng)
    rows, columns = look.receiver.margin(grid)
    imaged = replace(grid, rows=grid.rows + 2 * rows, columns=grid.columns + 2 * columns)
    layers = [
        _layer(patient, points_of(moved, imaged, offset * normal), phases, look)
        for offset in np.array([-1, 0, 1]) * grid.thickness_mm / 3
    ]
    signal = np.mean([signal for signal, _ in layers], axis=0) * np.float32(look.gain)
    labels = _labels(layers[1][1], plane.kind, signal.shape)
    inside = labels[:, rows : rows + grid.rows, columns : columns + grid.columns]
    return received(signal, grid, look.receiver, rng), inside


def _breath_mm(patient: MrPatient) -> float:
    low, high = patient.ranges.geometry.breath_mm
    return low if low == high else float(np.random.default_rng([patient.seed, 49]).uniform(low, high))


def _layer(patient: MrPatient, points: Points, phases: NDArray[np.float64], look: Look) -> tuple[Array, Distances]:
    """Returns the signal of an infinitely thin slice, (T, N, M), and the distances from which it was painted."""
    heart, moment = patient.heart, moments(patient.heart, phases)
    points, marks = _stretched(points, patient.ellipse), landmarks(patient.heart)
    material = trace_back(heart, points, moment.contraction)
    parts = all_parts(heart, marks, points, material, moment)
    # Muscle in the cavity keeps its thickness while the cavity shrinks: in end diastolic millimetres it grows.
    beat = moment.contraction
    crowding = np.sqrt((1 - np.float32(heart.shortening) * beat) / (1 - np.float32(heart.ef) * beat))
    thicker_mm = look.papillary_mm + (crowding - 1) * PAPILLARY_MM
    parts[Part.PAPILLARY] = np.maximum(parts[Part.PAPILLARY] - thicker_mm, parts[Part.LV_BLOOD])
    thinner_mm = PERICARDIUM_MM - look.pericardium_mm - PERICARDIUM_THICKENS_MM * beat
    parts[Part.PERICARDIUM] = parts[Part.PERICARDIUM] + thinner_mm
    fluid_mm = _effusion_mm(look, material.points)
    heart_mm = (parts[Part.PERICARDIUM] - fluid_mm).min(axis=0)
    signal = background(patient.chest, points, heart_mm, look.texture, look.tissues) * np.float32(look.around)
    signal = np.broadcast_to(signal, (len(phases), *points[0].shape[1:]))
    grain = _grain(heart.seed, material.points)
    x, y, z = material.points
    fine = _grain(heart.seed + 1, (x, y, z * ALONG), FINE) if look.fingers else grain
    for part, distance in parts.items():
        share = np.clip(0.5 - distance / 1.4, 0, 1)
        value = np.float32(look.of(part)) * (1 + 0.06 * grain)
        if part == Part.PERICARDIUM and look.effusion_mm:
            signal = signal + np.clip(0.5 - (distance - fluid_mm) / 1.4, 0, 1) * (np.float32(look.effusion) - signal)
        if part == Part.MYOCARDIUM:
            value = value * _scarred(heart, material.points)
        if part == Part.LV_BLOOD:
            reach_mm = np.float32(look.trabeculae_mm) * crowding
            there = grain > look.trabeculae_from - 0.4 * beat
            value = value - look.trabeculae * np.clip(1 + distance / reach_mm, 0, 1) * there
            value = value * (1 - look.apex * np.clip(1 - z / APEX_MM, 0, 1))
        if part in (Part.LV_BLOOD, Part.RV_BLOOD) and look.fingers:
            height = np.clip(z / np.float32(heart.lv_length_mm), 0, 1)
            value = value - _fingers(look, distance, fine, crowding * (1.4 - 0.8 * height))
        if part == Part.RV_BLOOD and look.band_mm:
            value = value + _moderator_band(heart, marks, material.points, look) * (look.myocardium - value)
        if part in BLOOD_PARTS:
            value = value * (1 - look.flow * np.clip(grain, 0, 2) * moment.contraction - look.blood_falls * beat)
        signal = signal + share * (value - signal)
    return np.asarray(signal, np.float32), parts


def _stretched(points: Points, ellipse: tuple[float, float]) -> Points:
    """Returns the points of the round heart that lie at these points of the elliptical one, of equal volume."""
    stretch, azimuth = ellipse
    if stretch == 1.0:
        return points
    x, y, z = points
    cosine, sine = np.float32(np.cos(azimuth)), np.float32(np.sin(azimuth))
    along, across = (x * cosine + y * sine) / np.float32(stretch), (y * cosine - x * sine) * np.float32(stretch)
    return along * cosine - across * sine, along * sine + across * cosine, z


def _effusion_mm(look: Look, points: Points) -> Array | float:
    """Returns the thickness of the fluid in the pericardium: most at one azimuth, none opposite."""
    if not look.effusion_mm:
        return 0.0
    x, y, _ = points
    azimuth = np.radians(look.effusion_deg)
    cosine = (x * np.float32(np.cos(azimuth)) + y * np.float32(np.sin(azimuth))) / np.sqrt(x * x + y * y + 1)
    return np.asarray(np.float32(look.effusion_mm / 2) * (1 + cosine))


def _scarred(heart: Heart, points: Points) -> Array | float:
    """Returns the factor of the muscle's signal."""
    factor: Array | float = 1.0
    for sector in heart.sectors:
        if sector.signal:
            around, along = sector_shares(heart, sector, points)
            factor = factor * (1 + np.float32(sector.signal) * around * along)
    return factor


def _fingers(look: Look, distance: Array, fine: Array, reach: Array) -> Array:
    """Returns the darkening by fine trabeculae, which are densest at the wall; `reach` is a factor of their depth."""
    depth = np.clip(1 + distance / (np.float32(look.fingers_mm) * reach), 0, 1)
    return np.asarray(np.float32(look.fingers) * np.clip(2 * fine + 2.6 * depth - 1.6, 0, 1) * (depth > 0))


def _moderator_band(heart: Heart, marks: Landmarks, points: Points, look: Look) -> Array:
    """Returns the share of muscle of the moderator band, from the septum to the right ventricle's free wall, and of
    the muscle in front of it."""
    outer, z = heart.lv_radius_mm + heart.wall_mm, 0.4 * heart.lv_length_mm
    across, forward, _ = marks.rv_radii_mm
    septum = [0.95 * outer, 0.1 * outer, z]
    free = [marks.rv[0] + 0.75 * across, marks.rv[1] - 0.3 * forward, 0.75 * z]
    head = [marks.rv[0] + 0.3 * across, marks.rv[1] - 0.25 * forward, 1.5 * z]
    distance = tube(points, np.array([septum, free, head]), look.band_mm * np.array([1.0, 1.2, 0.7]))
    return np.asarray(np.clip(0.5 - distance / 1.4, 0, 1))


def _grain(seed: int, points: Points, frequency: float = 0.22) -> Array:
    """Returns texture that moves with the tissue: a few plane waves of random direction, `frequency` in radians per
    mm."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(0, frequency, (5, 3)), rng.uniform(0, 2 * np.pi, 5)
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
