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
from echoplane.phantom.probe import Pose
from echoplane.phantom.shapes import Array, Points

COARSE = (72, 168)
FINE = (128, 336)
"""Lines and samples of the two grids."""
TEXTURE = 64
SPECK_MM, GRAIN_MM = 0.7, 1.5
"""Edges of the cells of both textures, which repeat after TEXTURE of them."""


@dataclass(frozen=True)
class Optics:
    """What the user and the body do to a picture, drawn without regard to the view."""

    depth_mm: float
    half_angle_rad: float
    frequency_mhz: float
    gain_db: float
    dynamic_range_db: float
    tgc_db: tuple[float, ...]
    """Sliders from the skin down."""
    clutter_db: float
    noise_db: float
    contact: tuple[float, ...]
    """Share of the beam that gets through, from the first line to the last: ribs and lung take the rest."""
    persistence: float
    seed: int


def draw_optics(rng: np.random.Generator) -> Optics:
    """Settings of one scan; one distribution for all views, or depth and gain would tell them apart."""
    edges = 1 - np.array([1.0, 0.35, 0, 0, 0, 0, 0.35, 1.0]) * rng.uniform(0, 0.6, 8) ** 1.5
    return Optics(
        depth_mm=float(rng.choice([150, 155, 160, 165, 170, 175, 180])),
        half_angle_rad=float(np.radians(rng.uniform(36, 44))),
        frequency_mhz=float(rng.uniform(1.7, 3.2)),
        gain_db=float(rng.normal(0, 2.5)),
        dynamic_range_db=float(rng.uniform(46, 60)),
        tgc_db=tuple(rng.normal(0, 1.5, 8).tolist()),
        clutter_db=float(rng.uniform(-44, -30)),
        noise_db=float(rng.uniform(-62, -52)),
        contact=tuple(edges.tolist()),
        persistence=float(rng.uniform(0.0, 0.15)),
        seed=int(rng.integers(2**31)),
    )


@dataclass(frozen=True)
class Echogenicity:
    """How a part answers: diffuse level, impedance against blood (its steps mirror), loss above average, unevenness."""

    diffuse_db: float
    impedance: float
    loss_db_cm: float = 0.0
    patchy_db: float = 0.0


ECHOES: dict[Part, Echogenicity] = {
    Part.LIVER: Echogenicity(-24, 0.45, 0.1, 1.5),
    Part.HEPATIC_VEIN: Echogenicity(-48, 0.15),
    Part.CAVA_WALL: Echogenicity(-22, 0.8),
    Part.PERICARDIUM: Echogenicity(-16, 1.9, 0.9, 2.0),
    Part.HEART_WALL: Echogenicity(-24, 0.55, 0.0, 2.5),
    Part.CAVA_BLOOD: Echogenicity(-52, 0.0, -0.3),
    Part.RV_BLOOD: Echogenicity(-52, 0.0, -0.3),
    Part.RA_BLOOD: Echogenicity(-52, 0.0, -0.3),
    Part.LA_BLOOD: Echogenicity(-52, 0.0, -0.3),
    Part.PULMONARY_WALL: Echogenicity(-20, 0.9, 0.0, 2.0),
    Part.PULMONARY_BLOOD: Echogenicity(-52, 0.0, -0.3),
    Part.MYOCARDIUM: Echogenicity(-24, 0.5, 0.0, 2.5),
    Part.LV_BLOOD: Echogenicity(-54, 0.0, -0.3),
    Part.PAPILLARY: Echogenicity(-24, 0.5, 0.0, 1.5),
    Part.AORTA_WALL: Echogenicity(-21, 1.1, 0.0, 2.0),
    Part.AORTA_BLOOD: Echogenicity(-52, 0.0, -0.3),
    Part.SPINE: Echogenicity(-16, 2.6, 14.0, 2.0),
    Part.VALVE: Echogenicity(-15, 1.2, 0.0, 1.5),
}
WALLS = (Part.MYOCARDIUM, Part.HEART_WALL, Part.PERICARDIUM, Part.AORTA_WALL, Part.PULMONARY_WALL, Part.CAVA_WALL)
SOFT = Echogenicity(-22, 0.7, 0.35, 4.0)


@dataclass(frozen=True)
class Tissue:
    """Maps on the coarse grid, (T, A, S): linear amplitudes of diffuse and mirror echoes."""

    diffuse: Array
    mirror: Array


def scan(heart: Heart, pose: Pose, optics: Optics, phases: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Log-compressed echo strength, 0 to 255, (T, A, S) on the FINE grid."""
    points = _grid(pose, optics)
    moment = moments(heart, phases)
    material = trace_back(heart, points, moment.contraction)
    parts = all_parts(heart, landmarks(heart), points, material, moment)
    tissue = _echoes(parts, material, optics, heart.seed)
    return _detect(tissue, material, optics, heart.seed)


def _grid(pose: Pose, optics: Optics) -> Points:
    """Points (1, A, S) of the coarse polar grid in heart coordinates, mm."""
    angle = np.linspace(-optics.half_angle_rad, optics.half_angle_rad, COARSE[0])[:, None]
    depth = np.linspace(0, optics.depth_mm, COARSE[1])[None, :]
    x, y, z = (
        (o + depth * (np.cos(angle) * d + np.sin(angle) * r)).astype(np.float32)[None]
        for o, d, r in zip(pose.origin_mm, pose.down, pose.right, strict=True)
    )
    return x, y, z


def _echoes(parts: Distances, material: Material, optics: Optics, seed: int) -> Tissue:
    step_mm = optics.depth_mm / (COARSE[1] - 1)
    grain = _grain(seed % 8)[_cells(material.points, GRAIN_MM)]
    # Beyond the heart lie fat and lung: less and less comes back.
    far: Array = np.clip(parts[Part.PERICARDIUM], 0, 60)
    diffuse = _amplitude(SOFT.diffuse_db) * (0.10 + 0.90 * np.exp(-far / 16))
    impedance = np.float32(SOFT.impedance) + np.float32(0.06) * grain
    loss, patchy = np.float32(SOFT.loss_db_cm) + far / 60, np.full_like(far, SOFT.patchy_db)
    for part, distance in parts.items():
        echo = ECHOES[part]
        cover = np.clip(0.5 - distance * np.float32(0.6), 0, 1)
        if not cover.any():
            continue
        strength: Array | np.float32 = _amplitude(echo.diffuse_db)
        if part in WALLS:
            strength = strength * _facing(distance, step_mm)
        diffuse = diffuse + cover * (strength - diffuse)
        impedance += cover * (np.float32(echo.impedance) - impedance)
        loss += cover * (np.float32(echo.loss_db_cm) - loss)
        patchy += cover * (np.float32(echo.patchy_db) - patchy)
    through = _from_db(-np.cumsum(loss, axis=-1, dtype=np.float32) * np.float32(2 * step_mm / 10))
    step = np.abs(np.diff(impedance, axis=-1, append=impedance[..., -1:]))
    mirror: Array = np.asarray(step * np.sqrt(step), np.float32) * np.float32(0.35)
    return Tissue(
        np.asarray((diffuse * _from_db(grain * patchy) + _haze(mirror)) * through, np.float32), mirror * through
    )


def _haze(mirror: Array) -> Array:
    """Side lobes: a strong mirror echo is also heard by the lines beside it."""
    return np.stack([cv2.blur(frame, (3, 21)) for frame in mirror]) * np.float32(0.07)


def _from_db(level_db: Array) -> Array:
    """Amplitude ratios."""
    return np.exp(level_db * np.float32(np.log(10) / 20))


def _amplitude(level_db: float) -> np.float32:
    return np.float32(10 ** (level_db / 20))


def _facing(distance: Array, step_mm: float) -> Array:
    """Wall echo against that of a wall across the beam: fibres along the beam drop out (Miller 1983)."""
    slope = np.diff(distance, axis=-1, append=distance[..., -1:]) / np.float32(step_mm)
    return np.float32(0.42) + np.float32(0.75) * np.minimum(slope * slope, 1)


@cache
def _texture(seed: int) -> NDArray[np.complex64]:
    """Scatterers, (TEXTURE**3,): complex amplitudes."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(2 * TEXTURE**3, dtype=np.float32).view(np.complex64)


@cache
def _grain(seed: int) -> NDArray[np.float32]:
    """Slow change of echogenicity, (TEXTURE**3,): smooth noise of mean 0 and deviation 1 that repeats seamlessly."""
    field = np.random.default_rng(seed).standard_normal((TEXTURE,) * 3)
    fine, broad = (gaussian_filter(field, sigma, mode="wrap") for sigma in (1.6, 4.5))
    mixed = fine / fine.std() + broad / broad.std()
    return np.asarray(mixed / mixed.std(), np.float32).ravel()


def _cells(points: Points, cell_mm: float) -> NDArray[np.int32]:
    """Flat texture index of points; cells of `cell_mm`, repeated in all directions."""
    x, y, z = ((p * np.float32(1 / cell_mm)).astype(np.int32) & (TEXTURE - 1) for p in points)
    return np.asarray((x * TEXTURE + y) * TEXTURE + z)


def _scatterers(material: Material, seed: int, frame: int) -> NDArray[np.float32]:
    """The texture at the fine grid's points, (A, S, 2)."""
    index = np.zeros(FINE, np.int32)
    for axis in material.points:
        plane = np.ascontiguousarray(np.broadcast_to(axis, material.epicardium_mm.shape)[frame])
        cell = cv2.resize(plane * np.float32(1 / SPECK_MM), FINE[::-1])
        index = index * TEXTURE + (cell.astype(np.int32) & (TEXTURE - 1))
    return _texture(seed % 8)[index].view(np.float32).reshape(*FINE, 2)


def _detect(tissue: Tissue, material: Material, optics: Optics, seed: int) -> NDArray[np.uint8]:
    """Beamforming, envelope, gain and log compression, one frame at a time to stay in cache."""
    rng = np.random.default_rng(optics.seed)
    fixed = _fixed(optics, rng)
    noise = rng.standard_normal((4, *FINE), dtype=np.float32)
    frames = len(tissue.diffuse)
    pictures = np.empty((frames, *FINE), np.uint8)
    before: Array | None = None
    for t in range(frames):
        scatter = _scatterers(material, seed, t)
        diffuse, mirror = (cv2.resize(np.ascontiguousarray(m[t]), FINE[::-1]) for m in (tissue.diffuse, tissue.mirror))
        signal = scatter * diffuse[..., None]
        signal[..., 0] += mirror * (1 + np.float32(0.5) * scatter[..., 0])
        signal = _blur(signal, optics)
        level: Array = np.asarray(cv2.magnitude(signal[..., 0], signal[..., 1]), np.float32)
        level = level * fixed.pass_through + fixed.clutter
        level += np.abs(np.roll(noise[t % 4], 37 * t, axis=0)) * fixed.noise
        if before is not None:
            level += np.float32(optics.persistence) * (before - level)
        before = level
        pictures[t] = _compress(level, optics)
    return pictures


def _blur(signal: NDArray[np.float32], optics: Optics) -> NDArray[np.float32]:
    """The point-spread function: lateral width goes with wavelength over aperture, axial with pulse length."""
    line_deg = np.degrees(2 * optics.half_angle_rad) / FINE[0]
    sigma_lateral = 1.55 / optics.frequency_mhz / line_deg
    sigma_axial = 1.35 / optics.frequency_mhz / (optics.depth_mm / FINE[1])
    blurred = cv2.GaussianBlur(signal, (0, 0), sigmaX=sigma_axial, sigmaY=sigma_lateral)
    # Blurring white noise by sigma samples leaves 1 / (2 sqrt(pi) sigma) of its power.
    return blurred * np.float32(np.sqrt(4 * np.pi * sigma_axial * sigma_lateral))


@dataclass(frozen=True)
class _Fixed:
    """What stays on the screen while the heart moves, (A, S)."""

    pass_through: Array
    clutter: Array
    noise: Array


def _fixed(optics: Optics, rng: np.random.Generator) -> _Fixed:
    lines, depth = np.linspace(0, 1, FINE[0])[:, None], np.linspace(0, 1, FINE[1])[None, :]
    contact = np.interp(lines, np.linspace(0, 1, len(optics.contact)), optics.contact)
    tgc = np.interp(depth, np.linspace(0, 1, len(optics.tgc_db)), optics.tgc_db)
    through = contact * 10 ** ((tgc - 6 * depth**2) / 20)
    depth_mm = depth * optics.depth_mm
    grain = cv2.GaussianBlur(rng.standard_normal(FINE, dtype=np.float32), (0, 0), sigmaX=2.0, sigmaY=5.0)
    grain = 1 + 0.5 * grain / grain.std()
    skin = 0.5 * np.exp(-depth_mm / 5) + 10 ** (optics.clutter_db / 20) * np.exp(-depth_mm / 28)
    # Sound that goes back and forth between probe and skin: bands at a fixed spacing.
    rings = 1 + 0.6 * np.cos(2 * np.pi * depth_mm / rng.uniform(7, 12)) * np.exp(-depth_mm / 30)
    clutter = np.abs(grain) * skin * rings
    noise = 10 ** ((optics.noise_db + 9 * depth**2 + tgc) / 20) * np.ones_like(contact)
    return _Fixed(*(np.asarray(m, np.float32) for m in (through, clutter, noise)))


def _compress(level: Array, optics: Optics) -> NDArray[np.uint8]:
    """Amplitude to grey: `dynamic_range_db` of decibels over 255 steps."""
    scale = np.float32(255 * 20 / np.log(10) / optics.dynamic_range_db)
    top = np.float32(optics.dynamic_range_db + optics.gain_db - 2) * np.float32(255 / optics.dynamic_range_db)
    return np.clip(np.log(level + np.float32(1e-6)) * scale + top, 0, 255).astype(np.uint8)
