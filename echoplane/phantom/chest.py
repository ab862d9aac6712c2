"""Surroundings of the heart in an MR picture: lung, diaphragm, liver and bowel, chest wall, fat.

The echo anatomy treats all of it as soft tissue, which is enough for a probe between two ribs; MR shows the whole
chest. All of it is static: breath is held. Positions are given along the directions of the body, in mm from the heart's
middle. Axes: N, M rows and columns of a slice plane.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from echoplane.phantom.heart import Heart
from echoplane.phantom.landmarks import Body, body_axes
from echoplane.phantom.shapes import Array, Points

FAT, MUSCLE, LUNG, LIVER, AIR = 1.25, 0.28, 0.06, 0.42, 0.0
"""Signal of balanced SSFP against blood = 1 at 1.5 T: fat is bright, muscle dark, lung and air empty."""


@dataclass(frozen=True)
class Tissues:
    """Signals around the heart. Negative fat is opposed to water, and cancels it where they share a voxel."""

    fat: float = FAT
    muscle: float = MUSCLE
    lung: float = LUNG
    liver: float = LIVER


USUAL_TISSUES = Tissues()


@dataclass(frozen=True)
class Chest:
    """Sizes of one chest, mm."""

    body: Body
    middle: tuple[float, float, float]
    """Middle of the heart, heart coordinates."""
    midline_mm: float
    """Distance of the body's midline to the right of the heart's middle."""
    half_width_mm: float
    half_depth_mm: float
    fat_mm: float
    """Thickness of the fat under the skin."""
    wall_mm: float
    """Thickness of muscle and ribs inside the fat."""
    epicardial_mm: float
    """Thickness of the fat around the heart, inside the lung."""
    diaphragm_mm: float
    """Height of the diaphragm under the heart's middle."""
    seed: int
    epicardial_sd_mm: float = 2.0
    """Deviation of that fat's thickness around the heart."""


def make_chest(heart: Heart, rng: np.random.Generator) -> Chest:
    """Returns a chest around `heart`: slim to obese, the diaphragm close under the heart."""
    outer = heart.lv_radius_mm + heart.wall_mm
    return Chest(
        body=body_axes(heart),
        middle=(8.0, 0.0, 0.5 * heart.lv_length_mm),
        midline_mm=float(rng.uniform(25, 45)),
        half_width_mm=float(rng.uniform(145, 185)),
        half_depth_mm=float(rng.uniform(95, 125)),
        fat_mm=float(rng.uniform(5, 32)),
        wall_mm=float(rng.uniform(12, 24)),
        epicardial_mm=float(rng.uniform(1, 12)),
        diaphragm_mm=float(outer + rng.uniform(0, 14)),
        seed=int(rng.integers(2**31)),
    )


def background(chest: Chest, points: Points, heart_mm: Array, texture: int, tissues: Tissues = USUAL_TISSUES) -> Array:
    """Returns the signal of everything but heart, vessels and spine at `points` (1, N, M); `heart_mm` is the distance
    to it.

    Layers of one slice share their `texture`.
    """
    rng = np.random.default_rng([chest.seed, texture])
    shape = points[0].shape[1:]
    right, front, up = (_along(chest, points, axis) for axis in ("right", "anterior", "superior"))
    skin = _skin(chest, right, front)
    dome: Array = (chest.diaphragm_mm + ((right - 15) ** 2 + (front + 20) ** 2) / 900).astype(np.float32)
    signal: Array = (tissues.lung * (1 + 2.5 * (_smooth(rng, shape, 1.2) > 2.2))).astype(np.float32)
    signal = _paint(signal, up + dome, _abdomen(rng, shape, right, tissues.liver))
    signal = _paint(signal, np.abs(right - chest.midline_mm) - 24 + 0.2 * np.abs(front), _patches(rng, shape))
    signal = _paint(
        signal, heart_mm - chest.epicardial_mm - chest.epicardial_sd_mm * _smooth(rng, shape, 9), 0.9 * tissues.fat
    )
    signal = _paint(signal, skin - chest.fat_mm - chest.wall_mm, _wall(rng, shape, tissues.muscle))
    signal = _paint(signal, skin - chest.fat_mm - 2 * _smooth(rng, shape, 14), tissues.fat)
    return _paint(signal, skin, AIR).astype(np.float32)


def _along(chest: Chest, points: Points, name: str) -> Array:
    """Returns the coordinate of `points` along one direction of the body, (N, M)."""
    axis = getattr(chest.body, name)
    return np.asarray(sum((p[0] - c) * float(a) for p, c, a in zip(points, chest.middle, axis, strict=True)))


def _skin(chest: Chest, right: Array, front: Array) -> Array:
    """Returns the depth under the skin, negative outside. The heart lies in front of the chest's middle."""
    across = (right - chest.midline_mm) / chest.half_width_mm
    deep = (front + 0.42 * chest.half_depth_mm) / chest.half_depth_mm
    return np.asarray((1 - (np.abs(across) ** 2.4 + np.abs(deep) ** 2.4) ** (1 / 2.4)) * chest.half_depth_mm)


def _paint(signal: Array, distance_mm: Array, value: Array | float, edge_mm: float = 1.6) -> Array:
    """Returns `value` inside the part (negative distance), blended over the edge: a voxel there holds both sides."""
    share = np.clip(0.5 - distance_mm / edge_mm, 0, 1)
    return np.asarray(signal + share * (value - signal))


def _abdomen(rng: np.random.Generator, shape: tuple[int, ...], right: Array, liver_signal: float) -> Array:
    """Returns the liver to the right; stomach, bowel and spleen to the left, in blobs of any signal."""
    blobs, levels = _smooth(rng, shape, 11), rng.uniform(0.05, 1.1, 4).astype(np.float32)
    left = levels[np.digitize(blobs, [-0.7, 0.0, 0.8])] * (1 + 0.1 * _smooth(rng, shape, 2))
    liver = liver_signal * rng.uniform(0.7, 1.5) * (1 + 0.5 * (_smooth(rng, shape, 3) > 1.7))
    return _paint(left, 12 - right + 10 * blobs, liver)


def _patches(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Returns patches of vessels, airways and fat behind the breastbone."""
    levels: Array = rng.uniform(0.1, 1.1, 4).astype(np.float32)
    return levels[np.digitize(_smooth(rng, shape, 7), [-0.6, 0.2, 1.0])]


def _wall(rng: np.random.Generator, shape: tuple[int, ...], muscle: float) -> Array:
    return muscle * (1 + 1.2 * (_smooth(rng, shape, 5) > 0.9))


def _smooth(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Array:
    """Returns smooth noise of deviation 1 (`sigma` in pixels), computed small and enlarged: it has no fine detail."""
    step = max(1, int(sigma / 2))
    small = gaussian_filter(rng.standard_normal([-(-n // step) + 2 for n in shape]), sigma / step, mode="wrap")
    small = (small / (small.std() + 1e-9)).astype(np.float32)
    rows, columns = small.shape
    return cv2.resize(small, (columns * step, rows * step), interpolation=cv2.INTER_LINEAR)[: shape[0], : shape[1]]
