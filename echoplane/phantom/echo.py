"""An ultrasound probe over a heart: polar pictures (frame, line, sample), before scan conversion.

Tissue is sampled on a coarse polar grid (it is smooth), speckle on a fine one. Speckle is a complex scatterer texture
looked up in material coordinates, so that it travels and stretches with the wall, then blurred by a point-spread
function that is constant in angle and thus widens with depth (Meunier 1995); the envelope is detected and compressed.
Axes: T frame, A scan line, S sample along it.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from echoplane.phantom.anatomy import Distances, Part, all_parts
from echoplane.phantom.heart import Heart, Material, moments, trace_back
from echoplane.phantom.landmarks import landmarks
from echoplane.phantom.optics import NO_DEFECTS, USUAL_LOOK, WALLS, Defects, Look, Optics, pass_through_db
from echoplane.phantom.probe import Pose
from echoplane.phantom.shapes import Array, Points

Size = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """Numbers of lines and samples of the two polar grids."""

    coarse: Size = (72, 168)
    fine: Size = (128, 336)


SCREEN = Grid()
"""Grid as fine as a machine's screen shows."""
THUMBNAIL = Grid((48, 84), (80, 120))
"""Grid for pictures of about 112 pixels per side: a quarter of the time."""
TEXTURE = 64
SPECK_MM, GRAIN_MM = 0.7, 1.5
"""Edges of the cells of both textures, which repeat after TEXTURE of them."""


@dataclass(frozen=True)
class Tissue:
    """Tissue maps on the coarse grid, (T, A, S): linear amplitudes of diffuse and mirror echoes."""

    diffuse: Array
    mirror: Array


def scan(
    heart: Heart,
    pose: Pose,
    optics: Optics,
    phases: NDArray[np.float64],
    *,
    look: Look = USUAL_LOOK,
    defects: Defects = NO_DEFECTS,
    grid: Grid = SCREEN,
) -> NDArray[np.uint8]:
    """Returns the log-compressed echo strength, 0 to 255, (T, A, S) on the fine grid."""
    points = _points(pose, optics, grid.coarse)
    moment = moments(heart, phases)
    material = trace_back(heart, points, moment.contraction)
    parts = all_parts(heart, landmarks(heart), points, material, moment)
    tissue = _echoes(parts, material, optics, look, heart.seed)
    return _detect(tissue, material, optics, defects, grid.fine, heart.seed)


def _points(pose: Pose, optics: Optics, size: Size) -> Points:
    """Returns points (1, A, S) of a polar grid in heart coordinates, mm."""
    angle = np.linspace(-optics.half_angle_rad, optics.half_angle_rad, size[0])[:, None]
    depth = np.linspace(0, optics.depth_mm, size[1])[None, :]
    x, y, z = (
        (o + depth * (np.cos(angle) * d + np.sin(angle) * r)).astype(np.float32)[None]
        for o, d, r in zip(pose.origin_mm, pose.down, pose.right, strict=True)
    )
    return x, y, z


def _echoes(parts: Distances, material: Material, optics: Optics, look: Look, seed: int) -> Tissue:
    step_mm = optics.depth_mm / (parts[Part.PERICARDIUM].shape[-1] - 1)
    grain = _grain(seed % 8)[_cells(material.points, GRAIN_MM)]
    # Beyond the heart lie fat and lung: the echo weakens with distance.
    far: Array = np.clip(parts[Part.PERICARDIUM], 0, 60)
    soft, floor = look.soft, look.far_floor
    diffuse = _amplitude(soft.diffuse_db) * (floor + (1 - floor) * np.exp(-far / look.far_decay_mm))
    impedance = np.float32(soft.impedance) + np.float32(0.06) * grain
    loss, patchy = np.float32(soft.loss_db_cm) + far / 60, np.full_like(far, soft.patchy_db)
    for part, distance in parts.items():
        echo = look.echoes[part]
        cover = np.clip(0.5 - distance * np.float32(look.edge_per_mm), 0, 1)
        if not cover.any():
            continue
        strength: Array | np.float32 = _amplitude(echo.diffuse_db)
        if part in WALLS:
            strength = strength * _facing(distance, step_mm, look.facing)
        diffuse = diffuse + cover * (strength - diffuse)
        impedance += cover * (np.float32(echo.impedance) - impedance)
        loss += cover * (np.float32(echo.loss_db_cm) - loss)
        patchy += cover * (np.float32(echo.patchy_db) - patchy)
    through = _from_db(-np.cumsum(loss, axis=-1, dtype=np.float32) * np.float32(2 * step_mm / 10))
    step = np.abs(np.diff(impedance, axis=-1, append=impedance[..., -1:]))
    mirror: Array = np.asarray(step * np.sqrt(step), np.float32) * np.float32(0.35)
    uneven = _from_db(grain * patchy * np.float32(look.patchiness))
    return Tissue(np.asarray((diffuse * uneven + _haze(mirror)) * through, np.float32), mirror * through)


def _haze(mirror: Array) -> Array:
    """Returns the side lobes: a strong mirror echo is also received by the neighbouring lines."""
    reach = round(0.29 * mirror.shape[1])
    return np.stack([cv2.blur(frame, (3, reach)) for frame in mirror]) * np.float32(0.07)


def _from_db(level_db: Array) -> Array:
    """Returns amplitude ratios."""
    return np.exp(level_db * np.float32(np.log(10) / 20))


def _amplitude(level_db: float) -> np.float32:
    return np.float32(10 ** (level_db / 20))


def _facing(distance: Array, step_mm: float, floor_and_slope: tuple[float, float]) -> Array:
    """Returns a wall's echo relative to that of a wall across the beam: fibres along the beam drop out (Miller
    1983)."""
    slope = np.diff(distance, axis=-1, append=distance[..., -1:]) / np.float32(step_mm)
    floor, rise = floor_and_slope
    return np.float32(floor) + np.float32(rise) * np.minimum(slope * slope, 1)


@cache
def _texture(seed: int) -> NDArray[np.complex64]:
    """Returns scatterers, (TEXTURE**3,): complex amplitudes."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(2 * TEXTURE**3, dtype=np.float32).view(np.complex64)


@cache
def _grain(seed: int) -> NDArray[np.float32]:
    """Returns slow variation of echogenicity, (TEXTURE**3,): smooth noise of mean 0 and deviation 1 that repeats
    seamlessly."""
    field = np.random.default_rng(seed).standard_normal((TEXTURE,) * 3)
    fine, broad = (gaussian_filter(field, sigma, mode="wrap") for sigma in (1.6, 4.5))
    mixed = fine / fine.std() + broad / broad.std()
    return np.asarray(mixed / mixed.std(), np.float32).ravel()


def _cells(points: Points, cell_mm: float) -> NDArray[np.int32]:
    """Returns the flat texture index of points; cells of `cell_mm`, repeated in all directions."""
    x, y, z = ((p * np.float32(1 / cell_mm)).astype(np.int32) & (TEXTURE - 1) for p in points)
    return np.asarray((x * TEXTURE + y) * TEXTURE + z)


def _scatterers(material: Material, size: Size, seed: int, frame: int) -> NDArray[np.float32]:
    """Returns the texture at the fine grid's points, (A, S, 2)."""
    index = np.zeros(size, np.int32)
    for axis in material.points:
        plane = np.ascontiguousarray(np.broadcast_to(axis, material.epicardium_mm.shape)[frame])
        cell = cv2.resize(plane * np.float32(1 / SPECK_MM), size[::-1])
        index = index * TEXTURE + (cell.astype(np.int32) & (TEXTURE - 1))
    return _texture(seed % 8)[index].view(np.float32).reshape(*size, 2)


def _detect(
    tissue: Tissue, material: Material, optics: Optics, defects: Defects, size: Size, seed: int
) -> NDArray[np.uint8]:
    """Applies beamforming, envelope, gain and log compression, one frame at a time to stay in cache."""
    rng = np.random.default_rng(optics.seed)
    fixed = _fixed(optics, defects, size, rng)
    noise = rng.standard_normal((4, *size), dtype=np.float32)
    frames = len(tissue.diffuse)
    pictures = np.empty((frames, *size), np.uint8)
    before: Array | None = None
    for t in range(frames):
        scatter = _scatterers(material, size, seed, t)
        diffuse, mirror = (cv2.resize(np.ascontiguousarray(m[t]), size[::-1]) for m in (tissue.diffuse, tissue.mirror))
        signal = scatter * diffuse[..., None]
        signal[..., 0] += mirror * (1 + np.float32(0.5) * scatter[..., 0])
        signal = _blur(signal, optics, defects.point_spread)
        level: Array = np.asarray(cv2.magnitude(signal[..., 0], signal[..., 1]), np.float32)
        level = level * fixed.pass_through + fixed.clutter
        level += np.abs(np.roll(noise[t % 4], 37 * t, axis=0)) * fixed.noise
        if before is not None:
            level += np.float32(optics.persistence) * (before - level)
        before = level
        pictures[t] = _smooth(_compress(level, optics), defects.smoothing)
    return pictures


def _blur(signal: NDArray[np.float32], optics: Optics, spread: float) -> NDArray[np.float32]:
    """Applies the point-spread function: the lateral width follows wavelength over aperture, the axial width pulse
    length."""
    lines, samples = signal.shape[:2]
    line_deg = np.degrees(2 * optics.half_angle_rad) / lines
    sigma_lateral = spread * 1.55 / optics.frequency_mhz / line_deg
    sigma_axial = spread * 1.35 / optics.frequency_mhz / (optics.depth_mm / samples)
    blurred = cv2.GaussianBlur(signal, (0, 0), sigmaX=sigma_axial, sigmaY=sigma_lateral)
    # Blurring white noise by sigma samples leaves 1 / (2 sqrt(pi) sigma) of its power.
    return blurred * np.float32(np.sqrt(4 * np.pi * sigma_axial * sigma_lateral))


@dataclass(frozen=True)
class _Fixed:
    """Static parts of the picture while the heart moves, (A, S)."""

    pass_through: Array
    clutter: Array
    noise: Array


def _fixed(optics: Optics, defects: Defects, size: Size, rng: np.random.Generator) -> _Fixed:
    lines, depth = np.linspace(0, 1, size[0])[:, None], np.linspace(0, 1, size[1])[None, :]
    contact = np.interp(lines, np.linspace(0, 1, len(optics.contact)), optics.contact)
    tgc = np.interp(depth, np.linspace(0, 1, len(optics.tgc_db)), optics.tgc_db)
    through = contact * 10 ** ((tgc - 6 * depth**2) / 20)
    depth_mm = depth * optics.depth_mm
    grain = cv2.GaussianBlur(rng.standard_normal(size, dtype=np.float32), (0, 0), sigmaX=2.0, sigmaY=5.0)
    grain = 1 + 0.5 * grain / grain.std()
    skin = 0.5 * np.exp(-depth_mm / 5) + 10 ** (optics.clutter_db / 20) * np.exp(-depth_mm / 28)
    # Reverberation between probe and skin: bands at a fixed spacing.
    rings = 1 + 0.6 * np.cos(2 * np.pi * depth_mm / rng.uniform(7, 12)) * np.exp(-depth_mm / 30)
    clutter = np.abs(grain) * skin * rings
    noise = 10 ** ((optics.noise_db + 9 * depth**2 + tgc) / 20) * np.ones_like(contact)
    through = through * 10 ** (pass_through_db(defects, lines, depth) / 20)
    if defects.haze_db is not None:
        clutter = clutter + 10 ** (defects.haze_db / 20) * _haze_of(defects, lines, depth_mm, rng)
    return _Fixed(*(np.asarray(m, np.float32) for m in (through, clutter, noise)))


def _haze_of(
    defects: Defects, lines: NDArray[np.float64], depth_mm: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Returns speckled clutter that does not move with the heart, 1 at its position and fainter around it (Fatemi
    2019)."""
    line, deep = defects.haze_place
    away_mm = np.hypot((lines - line) * depth_mm.max(), depth_mm - deep * depth_mm.max())
    grain = rng.standard_normal(away_mm.shape, dtype=np.float32)
    speckle = np.abs(cv2.GaussianBlur(grain, (0, 0), sigmaX=1.5, sigmaY=2.5))
    return np.asarray(np.exp(-away_mm / defects.haze_decay_mm) * speckle / speckle.mean())


def _compress(level: Array, optics: Optics) -> NDArray[np.uint8]:
    """Converts amplitude to grey: `dynamic_range_db` of decibels over 255 steps."""
    scale = np.float32(255 * 20 / np.log(10) / optics.dynamic_range_db)
    top = np.float32(optics.dynamic_range_db + optics.gain_db - 2) * np.float32(255 / optics.dynamic_range_db)
    return np.clip(np.log(level + np.float32(1e-6)) * scale + top, 0, 255).astype(np.uint8)


def _smooth(picture: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Removes a share of the speckle and keeps edges, as the speckle reduction of machines does."""
    if share == 0:
        return picture
    return np.asarray(cv2.addWeighted(cv2.medianBlur(picture, 5), share, picture, 1 - share, 0), np.uint8)
