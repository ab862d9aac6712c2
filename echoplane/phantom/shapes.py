"""Signed distances to simple solids, in mm: negative inside, positive outside.

Points come as three arrays (x, y, z) of one shape rather than as one (..., 3) array: every formula then runs on
contiguous memory. All in float32; distances are exact for planes and tubes and first-order for ellipsoids.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Points = tuple[Array, Array, Array]
Vector = tuple[float, float, float]


def vector(values: NDArray[np.float64] | Vector) -> Vector:
    """Returns three plain floats: a float64 array would convert every float32 formula to double."""
    x, y, z = (float(value) for value in values)
    return x, y, z


def unit(values: NDArray[np.float64] | Vector) -> NDArray[np.float64]:
    """Returns the direction of `values`, of length 1."""
    array = np.asarray(values, dtype=np.float64)
    return array / np.linalg.norm(array)


def ellipsoid(points: Points, center_mm: Vector, radii_mm: Vector) -> Array:
    """Returns the distance to an axis-aligned ellipsoid, correct to first order near its surface."""
    scaled = [(p - c) / r for p, c, r in zip(points, center_mm, radii_mm, strict=True)]
    norm = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2)
    slope = np.sqrt(sum((s / r) ** 2 for s, r in zip(scaled, radii_mm, strict=True)))
    return np.asarray(norm * (norm - 1) / np.maximum(slope, 1e-6))


def half_space(points: Points, through_mm: Vector, outward: Vector) -> Array:
    """Returns the distance to the plane through a point; positive on the side to which `outward` points."""
    return np.asarray(sum((p - t) * o for p, t, o in zip(points, through_mm, outward, strict=True)))


def tube(points: Points, line_mm: NDArray[np.float64], radii_mm: NDArray[np.float64]) -> Array:
    """Returns the distance to a tube around a polyline (vertex, xyz), with one radius per vertex and round ends."""
    parts = [
        _cone(points, vector(start), vector(end), float(r0), float(r1))
        for start, end, r0, r1 in zip(line_mm[:-1], line_mm[1:], radii_mm[:-1], radii_mm[1:], strict=True)
    ]
    return np.minimum.reduce(parts)


def _cone(points: Points, start_mm: Vector, end_mm: Vector, start_radius_mm: float, end_radius_mm: float) -> Array:
    axis = [e - s for s, e in zip(start_mm, end_mm, strict=True)]
    away = [p - s for p, s in zip(points, start_mm, strict=True)]
    length2 = sum(a * a for a in axis)
    along = np.clip(sum(d * (a / length2) for d, a in zip(away, axis, strict=True)), 0, 1)
    distance = np.sqrt(sum((d - along * a) ** 2 for d, a in zip(away, axis, strict=True)))
    return np.asarray(distance - (start_radius_mm + along * (end_radius_mm - start_radius_mm)))


def smooth_line(points_mm: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Returns the Catmull-Rom curve of `count` vertices through the points (vertex, xyz)."""
    padded = np.vstack([2 * points_mm[0] - points_mm[1], points_mm, 2 * points_mm[-1] - points_mm[-2]])
    place = np.linspace(0, len(points_mm) - 1, count)
    index = np.minimum(place.astype(int), len(points_mm) - 2)
    t = (place - index)[:, None]
    p0, p1, p2, p3 = (padded[index + k] for k in range(4))
    return 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
