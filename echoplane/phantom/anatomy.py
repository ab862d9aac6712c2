"""Anatomy: the tissue at any point of a patient in any phase, as signed distances (mm, negative inside).

Parts that beat are defined in material coordinates, static parts in space. A scanner paints the parts in the order of
`Part`, later over earlier: blood over the wall that encloses it, valves over blood.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from echoplane.phantom import shapes
from echoplane.phantom.heart import Heart, Material, Moment, moments, trace_back
from echoplane.phantom.landmarks import Landmarks, Vec, landmarks
from echoplane.phantom.shapes import Array, Points, Vector
from echoplane.phantom.valves import arterial_valve, cone_valve


class Part(IntEnum):
    """Distinct parts of the body, in the order in which they are painted."""

    SOFT = 0
    LIVER = 1
    HEPATIC_VEIN = 2
    CAVA_WALL = 3
    PERICARDIUM = 4
    HEART_WALL = 5
    """Walls of the right ventricle and of both atria."""
    CAVA_BLOOD = 6
    RV_BLOOD = 7
    RA_BLOOD = 8
    LA_BLOOD = 9
    PULMONARY_WALL = 10
    PULMONARY_BLOOD = 11
    MYOCARDIUM = 12
    LV_BLOOD = 13
    PAPILLARY = 14
    AORTA_WALL = 15
    AORTA_BLOOD = 16
    """Blood of the aorta, with the part of the outflow tract that bulges beyond the ventricle's ellipsoid."""
    SPINE = 17
    VALVE = 18


Distances = dict[Part, Array]
WALL_MM = {"atrium": 2.6, "aorta": 1.7, "pulmonary": 1.6, "cava": 1.6}
PERICARDIUM_MM = 2.4
"""Thickness of the pericardium as ultrasound shows it."""
FAR = np.full((1, 1, 1), 99, np.float32)
"""Distance at which nothing is painted, mm."""
_Z = np.array([0.0, 0.0, 1.0])


def tissue_at(heart: Heart, points: Points, phase: float) -> NDArray[np.uint8]:
    """Returns the `Part` at each point (arrays x, y, z of shape (1, n, m)) at one phase of the beat."""
    moment = moments(heart, np.array([phase]))
    material = trace_back(heart, points, moment.contraction)
    parts = all_parts(heart, landmarks(heart), points, material, moment)
    labels = np.zeros(points[0].shape, np.uint8)
    for part, distance in parts.items():
        labels[np.broadcast_to(distance, labels.shape) < 0] = part
    return labels


def all_parts(heart: Heart, marks: Landmarks, points: Points, material: Material, moment: Moment) -> Distances:
    """Returns the distance to every part at points in space, in the order of painting."""
    still, beating = still_parts(heart, marks, points, moment), beating_parts(heart, marks, material, moment)
    both = {part: np.minimum(still[part], beating[part]) for part in still.keys() & beating.keys()}
    return dict(sorted((still | beating | both).items()))


def beating_parts(heart: Heart, marks: Landmarks, material: Material, moment: Moment) -> Distances:
    """Returns the parts that move with the heart."""
    p = material.points
    length = np.float32(heart.lv_length_mm)
    above = p[2] - length
    cavity = np.maximum(np.maximum(material.endocardium_mm, above), -p[2])
    wall = np.maximum(
        np.maximum(material.epicardium_mm, above - 2), -p[2] - np.float32(heart.apex_share * heart.wall_mm)
    )
    uneven = _uneven(heart, p)
    rv = _right_ventricle(marks, p, uneven)
    # Atria are smallest at end diastole, just after their kick, and half as large again at end systole (Lang 2015).
    fuller = np.float32(2.0) * moment.contraction
    la_radii, ra_radii = _radii(heart.la_radius_mm, heart.la_axes), _radii(heart.ra_radius_mm, heart.ra_axes)
    la = _atrium(p, marks.la, la_radii, marks.mitral, marks.mitral_radius_mm, uneven - fuller)
    ra = _atrium(p, marks.ra, ra_radii, marks.tricuspid, marks.tricuspid_radius_mm, -uneven - fuller)
    root = _tube(p, marks.root, marks.root_radii_mm)
    trunk = _tube(p, marks.pulmonary_trunk, np.array([11.5, 11.0]))
    walls = np.minimum(np.minimum(rv - heart.rv_wall_mm, la - WALL_MM["atrium"]), ra - WALL_MM["atrium"])
    return {
        Part.PERICARDIUM: np.minimum(wall, walls) - np.float32(PERICARDIUM_MM),
        Part.HEART_WALL: walls,
        Part.RV_BLOOD: rv,
        Part.RA_BLOOD: ra,
        Part.LA_BLOOD: la,
        Part.PULMONARY_WALL: trunk - np.float32(WALL_MM["pulmonary"]),
        Part.PULMONARY_BLOOD: trunk,
        Part.MYOCARDIUM: np.maximum(wall, -la),
        Part.LV_BLOOD: cavity,
        Part.PAPILLARY: np.maximum(_papillary(heart, p), cavity),
        Part.AORTA_WALL: np.maximum(root - np.float32(WALL_MM["aorta"]), -cavity),
        Part.AORTA_BLOOD: np.maximum(root, -cavity),
        Part.VALVE: _valves(heart, marks, p, moment),
    }


def still_parts(heart: Heart, marks: Landmarks, points: Points, moment: Moment) -> Distances:
    """Returns the parts that stay with the chest; the aorta widens with the pulse."""
    pulse = np.float32(1.1) * moment.pulse
    arch = _long_tube(points, marks.arch, marks.arch_radii_mm)
    for line in marks.neck:
        arch = np.minimum(arch, _tube(points, line, np.array([5.0, 4.0])))
    cava = _tube(points, marks.cava, marks.cava_radii_mm)
    veins = [_tube(points, line, np.array([4.5, 3.0])) for line in marks.hepatic_veins]
    right = _tube(points, marks.right_pulmonary, np.array([11.0, 9.0]))
    arch = arch - pulse
    return {
        Part.LIVER: shapes.ellipsoid(points, shapes.vector(marks.liver), (86.0, 70.0, 62.0)),
        Part.HEPATIC_VEIN: np.minimum(*veins),
        Part.CAVA_WALL: cava - np.float32(WALL_MM["cava"]),
        Part.CAVA_BLOOD: cava,
        Part.AORTA_WALL: arch - np.float32(WALL_MM["aorta"]),
        Part.AORTA_BLOOD: arch,
        Part.PULMONARY_WALL: right - np.float32(WALL_MM["pulmonary"]),
        Part.PULMONARY_BLOOD: right,
        Part.SPINE: _spine(marks, points),
    }


def _tube(points: Points, line: Vec, radii_mm: Vec) -> Array:
    """Returns the distance to a tube, or FAR if none of it is in reach."""
    return shapes.tube(points, line, radii_mm) if _in_reach(points, line, radii_mm.max()) else FAR


def _in_reach(points: Points, line: Vec, radius_mm: float) -> bool:
    """Returns True if an object of this radius around the line can lie among the points, by their bounding box."""
    return _reached(_bounds(points), line, radius_mm)


def _bounds(points: Points) -> tuple[Vec, Vec]:
    """Returns the lowest and the highest coordinates."""
    return np.array([float(p.min()) for p in points]), np.array([float(p.max()) for p in points])


def _reached(bounds: tuple[Vec, Vec], line: Vec, radius_mm: float) -> bool:
    lowest, highest = bounds
    gaps = np.maximum(line.min(axis=0) - highest, lowest - line.max(axis=0))
    return bool(gaps.max() <= radius_mm + 9)


def _long_tube(points: Points, line: Vec, radii_mm: Vec) -> Array:
    """Returns the distance to a tube, computed segment by segment, so that distant segments cost nothing."""
    whole, bounds = FAR, _bounds(points)
    for k in range(len(line) - 1):
        if _reached(bounds, line[k : k + 2], radii_mm[k : k + 2].max()):
            whole = np.minimum(whole, shapes.tube(points, line[k : k + 2], radii_mm[k : k + 2]))
    return whole


def _radii(radius_mm: float, axes: Vector) -> Vector:
    x, y, z = axes
    return x * radius_mm, y * radius_mm, z * radius_mm


def _atrium(p: Points, centre: Vec, radii_mm: Vector, valve: Vec, valve_radius_mm: float, inward_mm: Array) -> Array:
    """Returns the distance to an ellipsoid with its wall moved in by `inward_mm`, and a neck to its valve."""
    body = shapes.ellipsoid(p, shapes.vector(centre), radii_mm) + inward_mm
    neck = shapes.tube(p, np.array([valve, centre]), np.array([valve_radius_mm - 2.0, 0.85 * min(radii_mm)]))
    # The round end of the neck would bulge through the valve; 3 mm of overlap leave no wall across its mouth.
    return np.minimum(body, np.maximum(neck, float(valve[2]) - 3 - p[2]))


def _uneven(heart: Heart, p: Points) -> Array:
    """Returns bulges and trabeculae, about 2 mm by default: only the left ventricle has a smooth shape."""
    turns = np.random.default_rng(heart.seed).uniform(0, 6.28, 3)
    waves = [
        np.sin(axis * np.float32(k) + np.float32(t)) for axis, k, t in zip(p, (0.17, 0.15, 0.13), turns, strict=True)
    ]
    return np.asarray(np.float32(heart.unevenness_mm) * (waves[0] * waves[1] + waves[2] * waves[0] * waves[0]))


def _right_ventricle(marks: Landmarks, p: Points, uneven: Array) -> Array:
    """Returns inflow and body as an ellipsoid cut at the tricuspid valve, and the outflow tract to the pulmonary
    valve."""
    body = shapes.ellipsoid(p, shapes.vector(marks.rv), shapes.vector(marks.rv_radii_mm)) + uneven
    floor = shapes.half_space(p, shapes.vector(marks.tricuspid + _Z * 1.5), (0.1, -0.45, 0.887))
    start = marks.rv + np.array([6, 14, 0.12 * marks.rv_radii_mm[2]])
    outlet = shapes.tube(p, np.array([start, marks.pulmonary]), np.array([13.0, 11.0]))
    return np.minimum(np.maximum(body, floor), outlet)


def _papillary(heart: Heart, p: Points) -> Array:
    """Returns two muscles that rise from the wall at a third of the cavity's length, their heads towards the valve."""
    muscles = []
    for azimuth_deg in heart.papillary_deg:
        out = np.array([np.cos(np.radians(azimuth_deg)), np.sin(np.radians(azimuth_deg)), 0])
        foot = out * (0.86 + heart.papillary_out) * heart.lv_radius_mm + [0, 0, 0.34 * heart.lv_length_mm]
        head = out * (0.52 + heart.papillary_out) * heart.lv_radius_mm + [0, 0, 0.62 * heart.lv_length_mm]
        muscles.append(shapes.tube(p, np.array([foot, head]), heart.papillary_size * np.array([6.0, 4.2])))
    return np.minimum(*muscles)


def _valves(heart: Heart, marks: Landmarks, p: Points, moment: Moment) -> Array:
    mitral_top = marks.mitral - 0.22 * marks.mitral_radius_mm * marks.outflow
    tricuspid_top = marks.tricuspid - np.array([2.0, 0, 0])
    valves: Array = FAR
    for centre, top, radius_mm, thickness_mm in (
        (marks.mitral, mitral_top, marks.mitral_radius_mm, 1.5),
        (marks.tricuspid, tricuspid_top, marks.tricuspid_radius_mm, 1.2),
    ):
        if _in_reach(p, centre[None], 1.5 * radius_mm):
            leaflets = cone_valve(p, centre, top, radius_mm, moment.mitral, thickness_mm=thickness_mm)
            valves = np.minimum(valves, leaflets)
    for centre, axis, radius_mm in (
        (marks.aortic, marks.aortic_axis, marks.aortic_radius_mm),
        (marks.pulmonary, marks.pulmonary_axis, 11.0),
    ):
        if _in_reach(p, centre[None], 1.5 * radius_mm):
            valves = np.minimum(valves, arterial_valve(p, centre, axis, radius_mm, moment.aortic))
    return valves


def _spine(marks: Landmarks, points: Points) -> Array:
    """Returns the spine: vertebral bodies that bulge between the discs, 30 mm apart."""
    column = _tube(points, marks.spine, np.full(len(marks.spine), 17.0))
    along = shapes.half_space(points, shapes.vector(marks.spine[1]), shapes.vector(marks.body.superior))
    return column - np.float32(1.5) * np.abs(np.sin(along * np.float32(np.pi / 30)))
