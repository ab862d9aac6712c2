"""Hearts of patients of any hospital: thick, thin, dilated, scarred, with right ventricles of any shape."""

from dataclasses import replace

import numpy as np

from echoplane.phantom.chest import Chest
from echoplane.phantom.heart import AXIS_SHARE, Heart, Sector
from echoplane.phantom.mr_ranges import MrHeartRanges
from echoplane.phantom.ranges import Pair
from echoplane.phantom.shapes import Vector

HIGHEST_LOCAL_EF = 0.92
"""Maximum ejection fraction of the part of the ventricle that makes up for a scar."""


def varied_heart(heart: Heart, ranges: MrHeartRanges, rng: np.random.Generator) -> Heart:
    """Returns the heart with sizes, shapes and function drawn anew from `ranges`."""
    edv_ml = _log_uniform(rng, ranges.edv_ml)
    length_mm = float(82 * (edv_ml / 105) ** 0.25 * rng.uniform(*ranges.slenderness))
    radius_mm = float(np.sqrt(1000 * edv_ml / (np.pi * length_mm * (AXIS_SHARE - AXIS_SHARE**2 / 3))))
    low_ml, high_ml = ranges.stroke_ml
    ef = float(np.clip(rng.triangular(*ranges.ef), low_ml / edv_ml, min(high_ml / edv_ml, ranges.ef[2])))
    wall_mm = _log_uniform(rng, ranges.wall_mm)
    turned_deg = rng.normal(0, ranges.papillary_sd_deg, 2)
    return replace(
        heart,
        lv_radius_mm=radius_mm,
        lv_length_mm=length_mm,
        wall_mm=wall_mm,
        ef=ef,
        shortening=float(np.interp(ef, [0.12, 0.3, 0.7], [0.03, 0.07, 0.18]) * rng.uniform(0.8, 1.2)),
        torsion_deg=float(rng.uniform(4, 16) * ef / 0.6),
        sectors=_sectors(wall_mm, ef, ranges, rng),
        apex_share=float(rng.uniform(*ranges.apex)),
        papillary_size=float(rng.uniform(*ranges.papillary_size)),
        papillary_deg=(float(145 + turned_deg[0]), float(250 + turned_deg[1])),
        papillary_out=float(rng.uniform(*ranges.papillary_out)),
        rv_size=float(rng.uniform(*ranges.rv_size)),
        rv_axes=_vector(rng, ranges.rv_axes),
        rv_place=_vector(rng, ranges.rv_place),
        rv_wall_mm=float(rng.uniform(*ranges.rv_wall_mm)),
        unevenness_mm=float(rng.uniform(*ranges.unevenness_mm)),
        la_radius_mm=float(rng.uniform(*ranges.atrium_radius_mm)),
        ra_radius_mm=float(rng.uniform(*ranges.atrium_radius_mm)),
        la_axes=_vector(rng, ranges.atrial_axes),
        ra_axes=_vector(rng, ranges.atrial_axes),
        outflow_deg=float(rng.uniform(*ranges.outflow_deg)),
        tilt_deg=_normals(rng, ranges.tilt_sd_deg),
    )


def varied_chest(chest: Chest, ranges: MrHeartRanges, rng: np.random.Generator) -> Chest:
    """Returns the chest with fat under the skin and around the heart drawn anew from `ranges`."""
    return replace(
        chest,
        epicardial_mm=float(rng.uniform(*ranges.epicardial_mm)),
        epicardial_sd_mm=float(rng.uniform(*ranges.epicardial_sd_mm)),
        fat_mm=float(rng.uniform(*ranges.fat_mm)),
    )


def ellipse_of(ranges: MrHeartRanges, rng: np.random.Generator) -> tuple[float, float]:
    """Returns the stretch across the long axis, and the azimuth of its direction in radians."""
    return float(rng.uniform(*ranges.ellipse)), float(rng.uniform(0, np.pi))


def _sectors(wall_mm: float, ef: float, ranges: MrHeartRanges, rng: np.random.Generator) -> tuple[Sector, ...]:
    """Returns the uneven thickness of every heart, and in a share of them a thick septum, and a scar."""
    whole = (-0.5, 1.5)
    sectors = [
        Sector(
            float(rng.uniform(0, 360)), float(rng.uniform(*ranges.sector_deg)), whole,
            float(rng.uniform(*ranges.unevenness_wall_mm)),
        )
    ]  # fmt: skip
    if rng.random() < ranges.septum_share:
        azimuth, width = float(rng.normal(15, 35)), float(rng.uniform(*ranges.sector_deg))
        height = whole if rng.random() < 0.5 else (0.4, 1.5)
        sectors.append(Sector(azimuth, width, height, float(rng.uniform(*ranges.septum_mm))))
    if rng.random() < ranges.scar_share:
        azimuth, width = float(rng.uniform(0, 360)), float(rng.uniform(*ranges.sector_deg))
        low = float(rng.uniform(-0.3, 0.4))
        height = low, low + float(rng.uniform(0.5, 1.2))
        thinner_mm = -wall_mm * float(rng.uniform(*ranges.scar_thinning))
        scar = Sector(azimuth, width, height, thinner_mm, signal=float(rng.uniform(*ranges.scar_signal)))
        most = (HIGHEST_LOCAL_EF / ef - 1) / scar.mean_around
        sectors.append(replace(scar, akinesia=float(min(rng.uniform(*ranges.scar_akinesia), most))))
    return tuple(sectors)


def _log_uniform(rng: np.random.Generator, pair: Pair) -> float:
    return float(np.exp(rng.uniform(*np.log(pair))))


def _vector(rng: np.random.Generator, pairs: tuple[Pair, Pair, Pair]) -> Vector:
    x, y, z = (float(rng.uniform(*pair)) for pair in pairs)
    return x, y, z


def _normals(rng: np.random.Generator, sd: float) -> Vector:
    x, y, z = (float(value) for value in rng.normal(0, sd, 3))
    return x, y, z
