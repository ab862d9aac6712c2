"""Appearance of one scan, whatever it shows: the machine's settings, the echogenicity of tissue, and defects.

All are drawn at random without regard to the view, or they would reveal it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from echoplane.phantom.anatomy import Part
from echoplane.phantom.ranges import USUAL, DefectRanges, LookRanges, OpticsRanges, Pair, Ranges


@dataclass(frozen=True)
class Optics:
    """Settings of the machine, and transmission of the skin."""

    depth_mm: float
    half_angle_rad: float
    frequency_mhz: float
    gain_db: float
    dynamic_range_db: float
    tgc_db: tuple[float, ...]
    """Gain of the TGC sliders from the skin down."""
    clutter_db: float
    noise_db: float
    contact: tuple[float, ...]
    """Share of the beam that gets through, from the first line to the last: ribs and lung block the rest."""
    persistence: float
    seed: int


def draw_optics(rng: np.random.Generator, ranges: OpticsRanges = USUAL.optics) -> Optics:
    """Returns the settings of one scan, from one distribution for all views, or depth and gain would reveal the
    view."""
    edges = 1 - np.array([1.0, 0.35, 0, 0, 0, 0, 0.35, 1.0]) * rng.uniform(0, 0.6, 8) ** 1.5
    return Optics(
        depth_mm=float(rng.choice(ranges.depth_mm)),
        half_angle_rad=float(np.radians(rng.uniform(*ranges.half_angle_deg))),
        frequency_mhz=float(rng.uniform(*ranges.frequency_mhz)),
        gain_db=float(rng.normal(0, ranges.gain_sd_db)),
        dynamic_range_db=float(rng.uniform(*ranges.dynamic_range_db)),
        tgc_db=tuple(rng.normal(0, ranges.tgc_sd_db, 8).tolist()),
        clutter_db=float(rng.uniform(*ranges.clutter_db)),
        noise_db=float(rng.uniform(*ranges.noise_db)),
        contact=tuple(edges.tolist()),
        persistence=float(rng.uniform(*ranges.persistence)),
        seed=int(rng.integers(2**31)),
    )


@dataclass(frozen=True)
class Echogenicity:
    """Echo of a part: diffuse level, impedance relative to blood (its steps mirror), loss above average, unevenness."""

    diffuse_db: float
    impedance: float
    loss_db_cm: float = 0.0
    patchy_db: float = 0.0


ECHOES: Mapping[Part, Echogenicity] = MappingProxyType(
    {
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
)
WALLS = (Part.MYOCARDIUM, Part.HEART_WALL, Part.PERICARDIUM, Part.AORTA_WALL, Part.PULMONARY_WALL, Part.CAVA_WALL)
BLOOD = tuple(part for part in ECHOES if part.name.endswith("_BLOOD"))
THIN = (Part.VALVE, Part.PERICARDIUM, Part.PAPILLARY, Part.HEART_WALL)
FILLED = (Part.LA_BLOOD, Part.RA_BLOOD, Part.RV_BLOOD)


@dataclass(frozen=True)
class Look:
    """Echogenicity of the tissue in one scan."""

    echoes: Mapping[Part, Echogenicity]
    soft: Echogenicity
    """Echogenicity of the tissue around the heart."""
    facing: Pair
    """Floor and slope of a wall's echo as a function of its angle to the beam."""
    far_floor: float
    """Share of the echo of soft tissue that remains far from the heart."""
    far_decay_mm: float
    edge_per_mm: float
    """Steepness of the edges between parts."""
    patchiness: float = 1.0


USUAL_LOOK = Look(ECHOES, Echogenicity(-22, 0.7, 0.35, 4.0), (0.42, 0.75), 0.10, 16.0, 0.6)


def draw_look(rng: np.random.Generator, ranges: LookRanges) -> Look:
    """Returns the look of one scan: blood of one level in all chambers, walls brighter or fainter, thin parts lost."""
    blood_db, walls_db = rng.uniform(*ranges.blood_db), rng.uniform(*ranges.walls_db)
    impedance = rng.uniform(*ranges.impedance)
    changed = {}
    for part, echo in ECHOES.items():
        change_db = walls_db + rng.uniform(*ranges.part_db)
        if part in THIN and rng.random() < ranges.fade_share:
            change_db -= rng.uniform(*ranges.fade_db)
        level_db = blood_db + rng.uniform(-1, 1) if part in BLOOD else max(echo.diffuse_db + change_db, blood_db)
        if part in FILLED and rng.random() < ranges.filled_share:
            level_db = max(level_db, rng.uniform(*ranges.filled_db))
        share = impedance * 10 ** (min(change_db, 0) / 40)
        changed[part] = replace(echo, diffuse_db=float(level_db), impedance=float(echo.impedance * share))
    soft = USUAL_LOOK.soft
    return Look(
        MappingProxyType(changed),
        replace(soft, diffuse_db=float(soft.diffuse_db + rng.uniform(*ranges.soft_db))),
        (float(rng.uniform(*ranges.facing_floor)), float(rng.uniform(*ranges.facing_slope))),
        float(rng.uniform(*ranges.far_floor)),
        float(rng.uniform(*ranges.far_decay_mm)),
        float(rng.uniform(*ranges.edge_per_mm)),
        float(rng.uniform(*ranges.patchiness)) if ranges.patchiness else 1.0,
    )


@dataclass(frozen=True)
class Defects:
    """Defects of parts of the picture; positions are shares of the sector's width and depth."""

    point_spread: float
    """Factor of the width of the point-spread function."""
    lost_side: float
    """Share of the sector without contact: from the left if positive, from the right if negative."""
    regional_db: tuple[float, ...]
    """Gain at 4 x 4 positions, line by line; smooth between them."""
    dropouts: tuple[tuple[float, float, float, float, float], ...]
    """Regions that drop out: line, depth, their deviations, and loss in dB."""
    haze_db: float | None
    haze_place: tuple[float, float]
    haze_decay_mm: float
    far_gain_db: float = 0.0
    smoothing: float = 0.0
    side_gain_db: float = 0.0


NO_DEFECTS = Defects(1.0, 0.0, (), (), None, (0.5, 0.0), 1.0)


def draw_defects(rng: np.random.Generator, ranges: DefectRanges) -> Defects:
    """Returns the defects of one scan."""
    lost = rng.uniform(0.1, 0.35) * rng.choice([-1, 1]) if rng.random() < ranges.lost_contact_share else 0.0
    regional_db = rng.normal(0, rng.uniform(*ranges.regional_gain_db), 16)
    dropouts = [
        (rng.uniform(), rng.uniform(0.1, 0.9), rng.uniform(0.04, 0.16), rng.uniform(0.05, 0.2), loss_db)
        for loss_db in rng.uniform(*ranges.dropout_db, rng.integers(ranges.dropouts + 1))
    ]
    return Defects(
        point_spread=float(rng.uniform(*ranges.point_spread)),
        lost_side=float(lost),
        regional_db=tuple(regional_db.tolist()),
        dropouts=tuple((float(a), float(b), float(c), float(d), float(e)) for a, b, c, d, e in dropouts),
        haze_db=float(rng.uniform(*ranges.haze_db)) if rng.random() < ranges.haze_share else None,
        haze_place=(float(rng.uniform()), float(rng.uniform(0, 0.6))),
        haze_decay_mm=float(rng.uniform(*ranges.haze_decay_mm)),
        far_gain_db=float(rng.uniform(*ranges.far_gain_db)),
        smoothing=float(rng.uniform(*ranges.smoothing)),
        side_gain_db=float(rng.uniform(*ranges.side_gain_db)) if ranges.side_gain_db else 0.0,
    )


def draw_scan(rng: np.random.Generator, ranges: Ranges) -> tuple[Look, Defects]:
    """Returns look and defects of one scan; the usual ones if `ranges` has none."""
    look = draw_look(rng, ranges.look) if ranges.look else USUAL_LOOK
    return look, draw_defects(rng, ranges.defects) if ranges.defects else NO_DEFECTS


def pass_through_db(defects: Defects, lines: NDArray[np.float64], depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the gain of the defects over lines (A, 1) and depth (1, S), both from 0 to 1."""
    gain_db = defects.far_gain_db * (depth - 0.5) + defects.side_gain_db * (lines - 0.5)
    if defects.regional_db:
        gain_db += _bumps(lines) @ np.reshape(defects.regional_db, (4, 4)) @ _bumps(depth.T).T
    for line, deep, wide, long, loss_db in defects.dropouts:
        gain_db -= loss_db * np.exp(-(((lines - line) / wide) ** 2) - ((depth - deep) / long) ** 2)
    if defects.lost_side:
        from_edge = lines if defects.lost_side > 0 else 1 - lines
        gain_db -= 40 * np.clip(1 - from_edge / abs(defects.lost_side), 0, 1)
    return gain_db


def _bumps(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the weights of four evenly spaced smooth bumps at `places` (n, 1): (n, 4)."""
    weights = np.exp(-(((places - np.linspace(0, 1, 4)) / 0.3) ** 2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
