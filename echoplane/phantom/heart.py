"""One beating heart: its sizes, its landmarks and the motion of its tissue, independent of any scanner.

Heart coordinates, mm, right-handed: the origin is the endocardial apex of the left ventricle at end diastole; +z runs
along its long axis to the base, +x to the septum (azimuth 0), +y to the anterior wall (azimuth 90 degrees).
The shape is known at end diastole ("material" coordinates, capitals X Y Z). In any other phase a point in space is
traced back to the material point that lies there, so that one static anatomy gives the whole cine.
Wall tissue keeps its volume (Arts 1979); the cavity's volume has a closed form, hence EDV, ESV and EF are known.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import i0e

from echoplane.phantom.ranges import USUAL, HeartRanges
from echoplane.phantom.shapes import Array, Points, Vector

AXIS_SHARE = 1.6
"""Ratio of cavity length to the ellipsoid's long semi-axis: 2 would be a whole ellipsoid, the base is cut at 1.6."""


@dataclass(frozen=True)
class Sector:
    """Sector of the left ventricle's wall that differs: thicker as in asymmetric hypertrophy, or thinner as a scar."""

    azimuth_deg: float
    width_deg: float
    """Deviation of the bell curve by which it fades around the ventricle."""
    height: tuple[float, float]
    """Range along the long axis, as shares of the ventricle's length."""
    wall_mm: float
    """Added thickness in its middle, at end diastole."""
    akinesia: float = 0.0
    """Share of its inward motion that it lacks; the rest of the wall makes up for it."""
    signal: float = 0.0
    """Change of the muscle's signal on MR, as a share."""

    @property
    def steepness(self) -> float:
        return float(1 / np.radians(self.width_deg) ** 2)

    @property
    def mean_around(self) -> float:
        """Returns the mean of the bell curve over all azimuths."""
        return float(i0e(self.steepness))


@dataclass(frozen=True)
class Heart:
    """Sizes at end diastole and function of one heart; lengths in mm, azimuths in degrees."""

    lv_radius_mm: float
    lv_length_mm: float
    wall_mm: float
    ef: float
    shortening: float
    """Share of its length that the left ventricle loses in systole."""
    torsion_deg: float
    heart_rate_bpm: float
    rv_size: float
    """Size of the right ventricle and right atrium, relative to the usual."""
    rv_motion_mm: float
    la_radius_mm: float
    ra_radius_mm: float
    aorta_radius_mm: float
    ivc_radius_mm: float
    outflow_deg: float
    """Azimuth of the aortic valve, which is that of the long-axis plane of PLAX and A3C."""
    tilt_deg: tuple[float, float, float]
    """Rotation of this heart in its chest relative to the usual one: vessels and liver stay with the chest."""
    window_mm: float
    """Thickness of the tissue between the probe and the heart."""
    seed: int
    """Seed of the tissue's texture."""
    unevenness_mm: float = 1.1
    """Height of the bulges in the walls of atria and right ventricle."""
    la_axes: Vector = (1.0, 1.0, 1.15)
    """Semi-axes of the left atrium as factors of its radius."""
    ra_axes: Vector = (1.0, 1.0, 1.15)
    papillary_size: float = 1.0
    papillary_deg: tuple[float, float] = (145.0, 250.0)
    """Azimuths of both papillary muscles."""
    papillary_out: float = 0.0
    """Their displacement from the axis, as a share of the ventricle's radius; 0.2 lets them adhere to the wall."""
    sectors: tuple[Sector, ...] = ()
    apex_share: float = 0.75
    """Thickness of the muscle at the apex as a share of the wall's."""
    rv_axes: Vector = (1.0, 1.0, 1.0)
    """Semi-axes of the right ventricle as factors of the usual."""
    rv_place: Vector = (0.72, 5.0, 0.66)
    """Its middle: a share of the left ventricle's outer radius, mm, and a share of the length."""
    rv_wall_mm: float = 4.0

    @property
    def lv_semi_axis_mm(self) -> float:
        return self.lv_length_mm / AXIS_SHARE

    @property
    def edv_ml(self) -> float:
        """Returns the volume of the truncated ellipsoid at end diastole."""
        share = AXIS_SHARE - AXIS_SHARE**2 / 3
        return float(np.pi * self.lv_radius_mm**2 * self.lv_length_mm * share / 1000)

    @property
    def esv_ml(self) -> float:
        return self.edv_ml * (1 - self.ef)

    @property
    def systole_share(self) -> float:
        """Returns the share of the beat from R wave to aortic closure: 0.546 s - 2.1 ms per beat per minute (Weissler
        1968, men)."""
        return (0.546 - 0.0021 * self.heart_rate_bpm) * self.heart_rate_bpm / 60 * 0.95


def make_heart(rng: np.random.Generator, ranges: HeartRanges = USUAL.heart) -> Heart:
    """Returns a random heart within `ranges`, adult ones by default (Lang 2015, ASE/EACVI); weak hearts are larger and
    shorten less."""
    ef = float(rng.triangular(*ranges.ef))
    weakness = (0.65 - ef) / 0.35
    edv_ml = float(rng.uniform(*ranges.edv_ml) * (1 + 0.5 * max(weakness, 0)))
    length_mm = float(rng.normal(82, ranges.lv_length_sd_mm) * (edv_ml / 105) ** 0.25)
    radius_mm = float(np.sqrt(1000 * edv_ml / (np.pi * length_mm * (AXIS_SHARE - AXIS_SHARE**2 / 3))))
    tilt_sd_deg = ranges.tilt_sd_deg
    return Heart(
        lv_radius_mm=radius_mm,
        lv_length_mm=length_mm,
        wall_mm=float(rng.uniform(*ranges.wall_mm)),
        ef=ef,
        shortening=float(np.interp(ef, [0.3, 0.7], [0.07, 0.18]) * rng.uniform(0.9, 1.1)),
        torsion_deg=float(rng.uniform(6, 14) * ef / 0.6),
        heart_rate_bpm=float(rng.uniform(*ranges.heart_rate_bpm)),
        rv_size=float(rng.uniform(*ranges.rv_size)),
        rv_motion_mm=float(rng.uniform(4, 7)),
        la_radius_mm=float(rng.uniform(*ranges.la_radius_mm)),
        ra_radius_mm=float(rng.uniform(*ranges.ra_radius_mm)),
        aorta_radius_mm=float(rng.uniform(*ranges.aorta_radius_mm)),
        ivc_radius_mm=float(rng.uniform(*ranges.ivc_radius_mm)),
        outflow_deg=float(rng.uniform(*ranges.outflow_deg)),
        tilt_deg=(
            float(rng.normal(0, tilt_sd_deg)),
            float(rng.normal(0, tilt_sd_deg)),
            float(rng.normal(0, tilt_sd_deg)),
        ),
        window_mm=float(rng.uniform(*ranges.window_mm)),
        seed=int(rng.integers(2**31)),
        # Drawn last, so that a seed's other figures do not depend on them.
        unevenness_mm=float(rng.uniform(*ranges.unevenness_mm)),
        la_axes=_axes(rng, ranges),
        ra_axes=_axes(rng, ranges),
        papillary_size=float(rng.uniform(*ranges.papillary_size)),
    )


def _axes(rng: np.random.Generator, ranges: HeartRanges) -> Vector:
    x, y, z = (float(rng.uniform(*pair)) for pair in ranges.atrial_axes)
    return x, y, z


@dataclass(frozen=True)
class Moment:
    """State of the heart in some phases; each array is (frame, 1, 1)."""

    contraction: Array
    """Contraction, 0 at end diastole to 1 at end systole: the share of the stroke volume that has been ejected."""
    mitral: Array
    """Opening of the mitral valve, 0 shut to 1 wide; the tricuspid valve follows it."""
    aortic: Array
    pulse: Array
    """Arterial pressure wave, 0 to 1, which widens the aorta."""


def moments(heart: Heart, phases: NDArray[np.float64]) -> Moment:
    """Returns the heart at these phases of its beat (0 and 1 are the R wave)."""
    phase = np.mod(np.asarray(phases, dtype=np.float64), 1)
    end = heart.systole_share
    # Filling: fast to a quarter of the stroke, a pause, then the atrial kick (Nishimura 1997).
    fill_end, kick = end + 0.45 * (1 - end), 1 - 0.22 * (1 - end)
    systole = _ease(phase / end)
    filling = 1 - 0.72 * _ease((phase - end) / (fill_end - end)) - 0.28 * _ease((phase - kick) / (1 - kick))
    contraction = np.where(phase < end, systole, filling)
    early = _bump(phase, end + 0.03, fill_end + 0.02)
    mitral = np.maximum(early, 0.65 * _bump(phase, kick - 0.01, 0.999))
    rest = 0.25 * ((phase > fill_end - 0.05) & (phase < kick + 0.05))
    aortic = _bump(phase, 0.05, end, edge=0.12)
    pulse = _ease(phase / end * 1.3) * np.exp(-2.2 * np.clip(phase - 0.6 * end, 0, None))
    return Moment(*(_column(v) for v in (contraction, np.maximum(mitral, rest), aortic, pulse)))


def _ease(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(x, 0, 1))


def _bump(phase: NDArray[np.float64], start: float, end: float, edge: float = 0.35) -> NDArray[np.float64]:
    place = (phase - start) / (end - start)
    return _ease(place / edge) * _ease((1 - place) / edge)


def _column(values: NDArray[np.float64]) -> Array:
    return values.astype(np.float32).reshape(-1, 1, 1)


@dataclass(frozen=True)
class Material:
    """End-diastolic position of the tissue at some points in space, with its distances to the ventricle's walls."""

    points: Points
    endocardium_mm: Array
    """Signed distance to the left ventricle's inner surface, extended without end beyond the base, in end diastolic
    mm."""
    epicardium_mm: Array


def trace_back(heart: Heart, points: Points, contraction: Array) -> Material:
    """Returns the material coordinates of points in space (arrays that broadcast against `contraction`)."""
    x, y, z = points
    r = np.sqrt(x * x + y * y) + np.float32(1e-3)
    z_material = z + _base_descent(heart, r, z, contraction)
    inner, outer = _wall_radii(heart, z_material)
    stretch = 1 - np.float32(heart.shortening) * contraction
    ejected = np.float32(heart.ef) * contraction
    for sector in heart.sectors:
        around, along = sector_shares(heart, sector, (x, y, z_material))
        outer = outer * (1 + np.float32(sector.wall_mm / (heart.lv_radius_mm + heart.wall_mm)) * around * along)
        # What one sector lacks in motion the others add, so that the cavity's volume stays that of the closed form.
        lost = np.float32(sector.akinesia) * (around - np.float32(sector.mean_around)) * along
        ejected = ejected - np.float32(heart.ef) * contraction * lost
    squeeze2 = (1 - ejected) / stretch
    r_material, beyond = _radius(heart, points, r, inner, outer, stretch, squeeze2, contraction)
    fade = np.clip(1 - (z_material - np.float32(heart.lv_length_mm)) / 15, 0, 1)
    r_material = r + fade * (r_material - r)
    turn = np.float32(np.radians(heart.torsion_deg)) * contraction * (z_material / np.float32(heart.lv_length_mm) - 0.5)
    turn = turn * np.exp(-beyond / 15) * fade
    cosine, scale = 1 - turn * turn / 2, r_material / r
    turned = (scale * (x * cosine - y * turn), scale * (y * cosine + x * turn), z_material)
    return Material(turned, r_material - inner, r_material - outer)


def sector_shares(heart: Heart, sector: Sector, points: Points) -> tuple[Array, Array]:
    """Returns how far points belong to a sector, 0 to 1: around the long axis, and along it."""
    x, y, z = points
    azimuth = np.radians(sector.azimuth_deg)
    cosine = (x * np.float32(np.cos(azimuth)) + y * np.float32(np.sin(azimuth))) / (np.sqrt(x * x + y * y) + 1e-3)
    low, high = sector.height
    height = z / np.float32(heart.lv_length_mm)
    along = np.clip((height - low) / 0.2 + 0.5, 0, 1) * np.clip((high - height) / 0.2 + 0.5, 0, 1)
    return np.exp(np.float32(sector.steepness) * (cosine - 1)), np.asarray(along, np.float32)


def _base_descent(heart: Heart, r: Array, z: Array, contraction: Array) -> Array:
    """Returns the displacement of tissue towards the apex: maximum at the valve plane, zero at the apex and the roof of
    the atria."""
    length = np.float32(heart.lv_length_mm)
    descent = np.float32(heart.shortening) * length * contraction
    roof = length + 62
    lag = np.minimum(z * (descent / (length - descent)), (roof - z) * (descent / (roof - length + descent)))
    return np.maximum(lag, 0) / (1 + (r / 85) ** 4)


def _wall_radii(heart: Heart, z_material: Array) -> tuple[Array, Array]:
    """Returns the endocardial and epicardial radius at a height; beyond the base those of the base."""
    axis, cap = heart.lv_semi_axis_mm, heart.apex_share * heart.wall_mm
    height = np.minimum(z_material, np.float32(heart.lv_length_mm)) - np.float32(axis)
    inner = np.float32(heart.lv_radius_mm) * np.sqrt(np.maximum(1 - (height / np.float32(axis)) ** 2, 0))
    outer_axis, outer_radius = np.float32(axis + cap), np.float32(heart.lv_radius_mm + heart.wall_mm)
    return inner, outer_radius * np.sqrt(np.maximum(1 - (height / outer_axis) ** 2, 0))


def _radius(
    heart: Heart,
    points: Points,
    r: Array,
    inner: Array,
    outer: Array,
    stretch: Array,
    squeeze2: Array,
    contraction: Array,
) -> tuple[Array, Array]:
    """Returns the material radius of points, and their distance outside the epicardium (mm)."""
    now_inner2 = squeeze2 * inner * inner
    now_outer = np.sqrt(now_inner2 + (outer * outer - inner * inner) / stretch)
    cavity = r / np.sqrt(squeeze2)
    wall = np.sqrt(np.maximum(inner * inner + stretch * (r * r - now_inner2), 0))
    beyond = np.maximum(r - now_outer, 0)
    lean = np.radians(18.0)
    to_rv = np.maximum((points[0] * np.float32(np.cos(lean)) + points[1] * np.float32(np.sin(lean))) / r, 0)
    # The free wall of the right ventricle moves towards the septum; the displacement fades out in the chest.
    push = np.float32(heart.rv_motion_mm) * contraction * to_rv * (beyond / 24) * np.exp(1 - beyond / 24)
    outside = r + (outer - now_outer) * np.exp(-beyond / 40) + push
    return np.where(r < np.sqrt(now_inner2), cavity, np.where(r < now_outer, wall, outside)), beyond
