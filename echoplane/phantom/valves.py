"""Heart valves as thin sheets: signed distances (mm, negative inside the leaflet).

An inlet valve is a funnel whose leaflets swing on their ring from a shallow tent into the ventricle; an outlet valve
has three cusps that meet on three lines (the "Mercedes" sign of the short axis) and fold to the wall when open.
"""

import numpy as np

from echoplane.phantom import shapes
from echoplane.phantom.landmarks import Vec
from echoplane.phantom.shapes import Array, Points


def cone_valve(p: Points, centre: Vec, meeting: Vec, radius_mm: float, opening: Array, *, thickness_mm: float) -> Array:
    """Returns the distance to an inlet valve: ring around `centre` normal to z, leaflets meeting on the line through
    `meeting` when shut."""
    dx, dy = p[0] - float(meeting[0]), p[1] - float(meeting[1])
    depth = float(centre[2]) - p[2]
    rho = np.sqrt(dx * dx + dy * dy) + np.float32(1e-3)
    off = centre - meeting
    # The ring seen from the line where the leaflets meet: farther on one side, hence a long anterior leaflet.
    ring = float(radius_mm) + (dx * float(off[0]) + dy * float(off[1])) / rho
    return _leaflet(rho - ring, depth, 1.07 * ring, np.float32(0.30) + opening * np.float32(0.95)) - thickness_mm / 2


def _leaflet(outside_ring: Array, depth: Array, length: Array | float, swing_rad: Array) -> Array:
    """Returns the distance to a sheet hinged at the origin, `swing_rad` from the ring's plane into the flow."""
    cosine, sine = np.cos(swing_rad), np.sin(swing_rad)
    along = np.clip(depth * sine - outside_ring * cosine, 0, length)
    return np.sqrt((outside_ring + along * cosine) ** 2 + (depth - along * sine) ** 2)


def arterial_valve(p: Points, centre: Vec, axis: Vec, radius_mm: float, opening: Array) -> Array:
    """Returns the distance to three cusps in a vessel that runs along `axis`; 1 mm thick."""
    first = shapes.unit(np.cross(axis, [0.3, 0.9, -0.2]))
    second = np.cross(axis, first)
    height = shapes.half_space(p, shapes.vector(centre), shapes.vector(axis))
    u = shapes.half_space(p, shapes.vector(centre), shapes.vector(first))
    v = shapes.half_space(p, shapes.vector(centre), shapes.vector(second))
    rho = np.sqrt(u * u + v * v) + np.float32(1e-3)
    belly = _leaflet(rho - radius_mm, height, 1.0 * radius_mm, np.float32(0.25) + opening * np.float32(1.15))
    lines = np.minimum.reduce([_ray(u, v, rho, turn) for turn in (0.5, 2.594, 4.689)])
    band = np.maximum(np.abs(height - 6) - 4.5, 0)
    # Open cusps leave the middle of the vessel: the lines of contact vanish rather than move.
    closure = np.sqrt(lines * lines + band * band) + 12 * opening
    return np.maximum(np.minimum(belly, closure), rho - radius_mm) - np.float32(0.5)


def _ray(u: Array, v: Array, rho: Array, turn_rad: float) -> Array:
    cosine, sine = float(np.cos(turn_rad)), float(np.sin(turn_rad))
    along = u * cosine + v * sine
    return np.where(along > 0, np.abs(v * cosine - u * sine), rho)
