"""Planes of a cine MR: where its slices lie in the heart. Axes: N, M rows and columns of a slice."""

from dataclasses import dataclass

import numpy as np

from echoplane.phantom.landmarks import Vec, landmarks
from echoplane.phantom.mr_patient import MrPatient
from echoplane.phantom.mr_ranges import GeometryRanges
from echoplane.phantom.shapes import Points, unit

MAX_PIXELS = 46_000
"""Maximum number of pixels in a slice, so that fine pictures take no minute to render."""


@dataclass(frozen=True)
class Plane:
    """Geometry of a slice: its middle (mm, heart coordinates), unit vectors down and right in the picture, its kind."""

    kind: str
    middle_mm: Vec
    down: Vec
    right: Vec


@dataclass(frozen=True)
class Grid:
    """Sampling of every slice of a series."""

    rows: int = 176
    columns: int = 176
    pixel_mm: float = 1.4
    thickness_mm: float = 8.0


def grid_of(geometry: GeometryRanges, seed: int) -> Grid:
    """Returns the grid of a study: of fixed size, or of a drawn field of view with at most MAX_PIXELS in it."""
    rng = np.random.default_rng([seed, 99])
    pixel_mm, thickness_mm = float(rng.uniform(*geometry.pixel_mm)), float(rng.uniform(*geometry.thickness_mm))
    if geometry.field_of_view_mm is None:
        return Grid(176, 176, pixel_mm, thickness_mm)
    larger, aspect = rng.uniform(*geometry.field_of_view_mm) / pixel_mm, rng.uniform(*geometry.aspect)
    larger = min(larger, np.sqrt(MAX_PIXELS / aspect))
    sides = 2 * round(larger / 2), 2 * round(larger * aspect / 2)
    rows, columns = sides if rng.random() < 0.5 else sides[::-1]
    return Grid(rows, columns, pixel_mm, thickness_mm)


def short_axis_planes(patient: MrPatient, spacing_mm: float = 10.0) -> list[Plane]:
    """Returns a stack from above the mitral valve to below the apex, base first, rotated a little off the ideal
    axis."""
    rng, geometry = np.random.default_rng([patient.seed, 42]), patient.ranges.geometry
    tilt = geometry.tilt_sd
    right, down = unit(rng.normal([-1, 0, 0], tilt)), rng.normal([0, -1, 0], tilt)
    down = unit(down - (down @ right) * right)
    normal = np.cross(down, right)
    normal = normal if normal[2] > 0 else -normal
    turn = rng.normal(0, np.radians(geometry.turn_sd_deg))
    right, down = right * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - right * np.sin(turn)
    centre = np.array([6.0, 0.0, 0.5 * patient.heart.lv_length_mm]) + rng.normal(0, geometry.centre_sd_mm, 3) * (
        1,
        1,
        0,
    )
    reach = 0.5 * patient.heart.lv_length_mm + rng.uniform(2, 14)
    count = int(2 * reach / spacing_mm) + 1
    offsets = (np.arange(count) - (count - 1) / 2)[::-1] * spacing_mm
    return [Plane("short-axis", centre + s * normal, down, right) for s in offsets]


def long_axis_plane(patient: MrPatient, kind: str) -> Plane:
    """Returns the 2- or 4-chamber plane: through the apex and the middles of the atria that it shows."""
    rng = np.random.default_rng([patient.seed, 43, kind == "4-chamber"])
    marks, length = landmarks(patient.heart), patient.heart.lv_length_mm
    down = unit(marks.la + rng.normal(0, 2, 3))
    side = -marks.ra if kind == "4-chamber" else np.array([np.cos(np.radians(106)), np.sin(np.radians(106)), 0])
    right = unit(side - (side @ down) * down)
    turn = rng.normal(0, np.radians(20))
    turned = right * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - right * np.sin(turn)
    return Plane(kind, 0.75 * length * down + rng.normal(0, 5) * right, turned[1], turned[0])


def points_of(plane: Plane, grid: Grid, offset_mm: Vec) -> Points:
    """Returns pixel centres (1, N, M) in heart coordinates, mm."""
    down_mm = (np.arange(grid.rows) - (grid.rows - 1) / 2)[:, None] * grid.pixel_mm
    right_mm = (np.arange(grid.columns) - (grid.columns - 1) / 2)[None] * grid.pixel_mm
    middle = plane.middle_mm + offset_mm
    x, y, z = (
        (m + down_mm * d + right_mm * r).astype(np.float32)[None]
        for m, d, r in zip(middle, plane.down, plane.right, strict=True)
    )
    return x, y, z
