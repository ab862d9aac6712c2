"""Position of the probe for each of the twelve views.

A pose is found as at the bedside: from a window in the chest towards a landmark, rotated until a second direction lies
in the picture. So each view follows the patient's own anatomy. Orientation as ASE shows it: apex up in apical views,
the base to the right in long-axis views, the patient's left to the right in the others (Mitchell 2019).
"""

from dataclasses import dataclass, replace

import numpy as np

from echoplane.phantom.heart import Heart
from echoplane.phantom.landmarks import Landmarks, Vec
from echoplane.phantom.optics import Optics
from echoplane.phantom.ranges import USUAL, HandRanges
from echoplane.phantom.shapes import unit


@dataclass(frozen=True)
class Pose:
    """Scan plane: the probe's position (mm, heart coordinates), and unit vectors down and right on the screen."""

    origin_mm: Vec
    down: Vec
    right: Vec


def pose(heart: Heart, marks: Landmarks, view: str, rng: np.random.Generator, ranges: HandRanges = USUAL.hand) -> Pose:
    """Returns the pose for a view, by default with a careful sonographer's deviation from the ideal: about 3 degrees
    and 2 mm."""
    origin, target, hint = _aim(heart, marks, view)
    turned_deg = 0.0
    if ranges.apical is not None and view in APICAL:
        origin = origin - rng.uniform(*ranges.apical.slide_mm) * unit(hint)
        turned_deg = rng.uniform(*ranges.apical.turn_deg)
    origin = origin + rng.normal(0, ranges.origin_mm, 3)
    target = target + rng.normal(0, ranges.target_mm, 3)
    down = unit(target - origin)
    right = unit(hint - (hint @ down) * down)
    angles_deg = rng.normal(0, ranges.swing_tilt_spin_deg) - [turned_deg, 0, 0]
    return _turn(Pose(origin, down, right), np.radians(angles_deg))


def framed(optics: Optics, heart: Heart, view: str, rng: np.random.Generator, ranges: HandRanges) -> Optics:
    """Returns the optics with the depth to which `ranges` frame the view; the same if they frame none."""
    if ranges.apical is None or view not in APICAL:
        return optics
    filling = ranges.apical.outflow_filling if view in ("a3c", "a5c") else ranges.apical.filling
    to_valve_mm = heart.lv_length_mm - _apex(heart)[2]
    return replace(optics, depth_mm=float(to_valve_mm / rng.uniform(*filling)))


def _turn(at: Pose, angles_rad: Vec) -> Pose:
    """Swings the pose within the plane, tilts it out of it, and rotates it about the beam."""
    swing, tilt, spin = angles_rad
    normal = np.cross(at.down, at.right)
    down = unit(at.down + np.tan(swing) * at.right + np.tan(tilt) * normal)
    right = at.right * np.cos(spin) + normal * np.sin(spin)
    return Pose(at.origin_mm, down, unit(right - (right @ down) * down))


def _aim(heart: Heart, marks: Landmarks, view: str) -> tuple[Vec, Vec, Vec]:
    """Returns origin, target and the direction to the right of the screen."""
    if view in APICAL:
        return _apical(heart, marks, view)
    if view in PARASTERNAL:
        return PARASTERNAL[view](heart, marks)
    return OTHER[view](heart, marks)


APICAL = ("a4c", "a5c", "a2c", "a3c")


def _apex(heart: Heart) -> Vec:
    """Returns the position of the probe over the apex."""
    return np.array([0.0, 0.0, -0.75 * heart.wall_mm - heart.window_mm])


def _apical(heart: Heart, marks: Landmarks, view: str) -> tuple[Vec, Vec, Vec]:
    origin = _apex(heart)
    if view == "a5c":
        # Tilted up from four chambers just to the valve, and rotated so that the left atrium stays in view.
        return origin, marks.aortic + 6 * marks.aortic_axis - np.array([0.0, 3.0, 0.0]), np.array([-1.0, -0.15, 0.0])
    if view == "a4c":
        return origin, 0.62 * marks.la + 0.38 * marks.ra, marks.la - marks.ra
    if view == "a3c":
        return origin, 0.6 * marks.mitral + 0.4 * marks.aortic, marks.outflow
    azimuth = np.radians(106.0)
    base = np.array([0.0, 0.0, heart.lv_length_mm])
    return origin, 0.5 * base + 0.5 * marks.la, np.array([np.cos(azimuth), np.sin(azimuth), 0.0])


def _chest(heart: Heart, marks: Landmarks) -> float:
    """Returns the distance of the parasternal window from the long axis of the left ventricle, mm."""
    return float(1.62 * (heart.lv_radius_mm + heart.wall_mm) + heart.window_mm)


def _plax(heart: Heart, marks: Landmarks) -> tuple[Vec, Vec, Vec]:
    length, out = heart.lv_length_mm, _chest(heart, marks)
    origin = out * marks.outflow + [0, 0, 0.93 * length]
    return origin, -20 * marks.outflow + [0, 0, 0.90 * length], np.array([0.0, 0.0, 1.0])


def _rv_inflow(heart: Heart, marks: Landmarks) -> tuple[Vec, Vec, Vec]:
    window = marks.tricuspid + np.array([20, 44, -0.42 * heart.lv_length_mm])
    origin = window + heart.window_mm * 0.7 * unit((17.0, 42.0, -25.0))
    return origin, marks.tricuspid + np.array([0, -4, 4]), np.array([0.0, 0.0, 1.0])


def _lateral(marks: Landmarks) -> Vec:
    """Returns the direction to the right of the short-axis screen: across the beam, to the lateral wall."""
    return np.array([-marks.outflow[1], marks.outflow[0], 0.0])


def _sax_basal(heart: Heart, marks: Landmarks) -> tuple[Vec, Vec, Vec]:
    origin = _chest(heart, marks) * marks.outflow + [0, 0, 0.90 * heart.lv_length_mm]
    return origin, marks.aortic + 6 * marks.aortic_axis, _lateral(marks)


def _sax_mid(heart: Heart, marks: Landmarks) -> tuple[Vec, Vec, Vec]:
    height = np.array([0, 0, 0.50 * heart.lv_length_mm])
    return _chest(heart, marks) * marks.outflow + 1.06 * height, height, _lateral(marks)


PARASTERNAL = {"plax": _plax, "rv-inflow": _rv_inflow, "sax-basal": _sax_basal, "sax-mid": _sax_mid}


def _xiphoid(heart: Heart, marks: Landmarks) -> Vec:
    """Returns the position below the breastbone, in front of the liver."""
    return marks.cava[3] + (62 + heart.window_mm) * marks.body.anterior + 4 * marks.body.right


def _subcostal_4c(heart: Heart, marks: Landmarks) -> tuple[Vec, Vec, Vec]:
    origin = _xiphoid(heart, marks)
    target = np.array([6, -2, 0.78 * heart.lv_length_mm])
    atria = 0.62 * marks.la + 0.38 * marks.ra
    return origin, target, np.array([-2.0, 0.0, 0.15 * heart.lv_length_mm]) - atria


def _subcostal_ivc(heart: Heart, marks: Landmarks) -> tuple[Vec, Vec, Vec]:
    return _xiphoid(heart, marks), marks.cava[1], marks.ra - marks.cava[-1]


def _subcostal_aorta(heart: Heart, marks: Landmarks) -> tuple[Vec, Vec, Vec]:
    middle = marks.arch[21]
    origin = middle + (68 + heart.window_mm) * marks.body.anterior
    return origin, middle, marks.arch[19] - marks.arch[23]


def _suprasternal(heart: Heart, marks: Landmarks) -> tuple[Vec, Vec, Vec]:
    top = marks.arch[7]
    origin = top + (22 + 1.2 * heart.window_mm) * marks.body.superior + 10 * marks.body.anterior
    return origin, top - 34 * marks.body.superior, marks.arch[12] - marks.arch[2]


OTHER = {
    "subcostal-4c": _subcostal_4c,
    "subcostal-ivc": _subcostal_ivc,
    "subcostal-aorta": _subcostal_aorta,
    "suprasternal": _suprasternal,
}
