"""Right ventricle that ejects as much as the left one, as in a heart without a leaking valve or a shunt.

Axes: Z, Y, X of a grid in heart coordinates.
"""

from dataclasses import replace

import numpy as np
from scipy.optimize import brentq

from echoplane.phantom.anatomy import Part, beating_parts
from echoplane.phantom.heart import Heart, moments, trace_back
from echoplane.phantom.landmarks import landmarks
from echoplane.phantom.shapes import Points

MAX_RV_EF = 0.6
"""Maximum ejection fraction of a right ventricle; one that is too small for the stroke volume is enlarged."""
MAX_RV_SIZE = 1.5
"""Maximum size of a right ventricle relative to the usual: a larger one would reach around the left one."""
RV_MOTIONS_MM = (0.0, 30.0)
"""Range of the inward motion of the right ventricle's free wall."""
MOTION_STEP_MM = 0.1
"""Accuracy of that motion; a millimetre of it ejects about 5 mL."""
GRID_MM = 4.0
"""Distance of the points that are counted for a volume."""


def with_equal_strokes(heart: Heart) -> Heart:
    """Returns the heart with the size and motion of the right ventricle at which both stroke volumes are equal.

    A right ventricle that would have to eject more than MAX_RV_EF of its blood is enlarged first.
    """
    stroke_ml = heart.edv_ml - heart.esv_ml
    grown = stroke_ml / (MAX_RV_EF * _rv_volume_ml(heart, 0.0))
    heart = replace(heart, rv_size=min(MAX_RV_SIZE, heart.rv_size * max(1.0, grown)))
    ed_ml, end = _rv_volume_ml(heart, 0.0), heart.systole_share

    def excess_ml(motion_mm: float) -> float:
        return ed_ml - _rv_volume_ml(replace(heart, rv_motion_mm=motion_mm), end) - stroke_ml

    lowest, highest = RV_MOTIONS_MM
    if excess_ml(lowest) >= 0:
        return replace(heart, rv_motion_mm=lowest)
    if excess_ml(highest) <= 0:
        return replace(heart, rv_motion_mm=highest)
    return replace(heart, rv_motion_mm=float(brentq(excess_ml, lowest, highest, xtol=MOTION_STEP_MM)))


def _rv_volume_ml(heart: Heart, phase: float) -> float:
    """Returns the volume of the right ventricle at one phase of the beat, without what other parts cover."""
    marks = landmarks(heart)
    low = np.minimum(marks.rv - marks.rv_radii_mm, marks.pulmonary - 16)
    high = np.maximum(marks.rv + marks.rv_radii_mm, marks.pulmonary + 16)
    x, y, z = (np.arange(a, b, GRID_MM, dtype=np.float32) for a, b in zip(low, high, strict=True))
    z_ZYX, y_ZYX, x_ZYX = (axis.reshape(1, len(z), -1) for axis in np.meshgrid(z, y, x, indexing="ij"))
    points: Points = (x_ZYX, y_ZYX, z_ZYX)
    moment = moments(heart, np.array([phase]))
    parts = beating_parts(heart, marks, trace_back(heart, points, moment.contraction), moment)
    inside = parts[Part.RV_BLOOD] < 0
    for part, distance in parts.items():
        if part > Part.RV_BLOOD and part != Part.VALVE:
            inside = inside & (distance >= 0)
    return float(inside.sum()) * GRID_MM**3 / 1000
