"""Positions of the parts of a heart and of the chest around it, in heart coordinates at end diastole (mm).

Positions follow from the sizes of a `Heart`: valves sit on the rim of the left ventricle's base, vessels run along the
directions of the body. Both scanners and the probe's poses use them; nothing here depends on a scanner.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echoplane.phantom.heart import Heart
from echoplane.phantom.shapes import smooth_line, unit

Vec = NDArray[np.float64]


@dataclass(frozen=True)
class Body:
    """Directions of the body in heart coordinates: the heart's axis points left, forward and down."""

    superior: Vec
    right: Vec
    anterior: Vec


@dataclass(frozen=True)
class Landmarks:
    """Points (3,) and centre lines (vertex, 3) in mm; radii in mm."""

    body: Body
    outflow: Vec
    """Direction from the long axis to the aortic valve, in the short-axis plane."""
    mitral: Vec
    mitral_radius_mm: float
    tricuspid: Vec
    tricuspid_radius_mm: float
    aortic: Vec
    aortic_axis: Vec
    aortic_radius_mm: float
    pulmonary: Vec
    pulmonary_axis: Vec
    rv: Vec
    rv_radii_mm: Vec
    la: Vec
    ra: Vec
    root: Vec
    root_radii_mm: Vec
    arch: Vec
    """Centre line of ascending aorta, arch, descending and abdominal aorta: the part that does not follow the beat."""
    arch_radii_mm: Vec
    neck: tuple[Vec, ...]
    """Centre lines of the innominate, carotid and subclavian artery."""
    pulmonary_trunk: Vec
    right_pulmonary: Vec
    cava: Vec
    cava_radii_mm: Vec
    hepatic_veins: tuple[Vec, ...]
    liver: Vec
    spine: Vec
    """Centre line of the vertebral bodies."""


def body_axes(heart: Heart) -> Body:
    """Returns the usual orientation of the heart (axis 0.62 left, 0.55 forward, 0.56 down), rotated by this patient's
    tilt."""
    axes = np.array([[0.0, 0.83, 0.56], [0.65, -0.43, 0.62], [0.76, 0.36, -0.55]])
    q, _ = np.linalg.qr(axes.T)
    usual = (q * np.sign(np.sum(q * axes.T, axis=0))).T
    superior, right, anterior = usual @ _rotation(np.radians(heart.tilt_deg))
    return Body(superior, right, anterior)


def _rotation(angles_rad: Vec) -> Vec:
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles_rad), np.sin(angles_rad)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def landmarks(heart: Heart) -> Landmarks:
    """Returns the landmarks of one heart."""
    body = body_axes(heart)
    azimuth = np.radians(heart.outflow_deg)
    outflow = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    length, outer, size = heart.lv_length_mm, heart.lv_radius_mm + heart.wall_mm, heart.rv_size
    base_radius = 0.8 * heart.lv_radius_mm
    base = np.array([0, 0, length])
    valve_radius = 0.82 * heart.aorta_radius_mm
    aortic = base + outflow * (base_radius - 1.0) + [0, 0, 3]
    axis = unit(0.75 * body.superior + 0.45 * body.right + 0.1 * body.anterior + [0, 0, 0.55])
    tricuspid = base + np.array([outer + 5, -4, -5])
    across, forward_mm, up = heart.rv_place
    rv = np.array([across * outer, forward_mm, up * length])
    la = base + np.array([-7, -9, heart.la_radius_mm + 3])
    ra = np.array([tricuspid[0] - 2, -13, length - 5 + 1.15 * heart.ra_radius_mm])
    root, root_radii = _root(heart, aortic, axis, valve_radius)
    arch, arch_radii = _arch(heart, body, root[-1], la)
    pulmonary = aortic + 15 * body.anterior - 12 * body.right + 18 * body.superior
    trunk_axis = unit(0.6 * body.superior - 0.7 * body.anterior - 0.2 * body.right)
    fork = pulmonary + 42 * trunk_axis
    cava, cava_radii = _cava(heart, body, ra)
    middle = cava[len(cava) // 2]
    veins = tuple(
        np.array([cava[k], cava[k] + 35 * unit(body.anterior * a + body.right * b - 0.7 * body.superior)])
        for k, a, b in ((2, 0.9, 0.2), (3, 0.7, -0.5))
    )
    return Landmarks(
        body=body,
        outflow=outflow,
        mitral=base - outflow * (0.3 * base_radius),
        mitral_radius_mm=0.74 * base_radius,
        tricuspid=tricuspid,
        tricuspid_radius_mm=15 * size,
        aortic=aortic,
        aortic_axis=axis,
        aortic_radius_mm=valve_radius,
        pulmonary=pulmonary,
        pulmonary_axis=trunk_axis,
        rv=rv,
        rv_radii_mm=np.array([1.06 * outer * size, 1.0 * outer, 0.52 * length]) * heart.rv_axes,
        la=la,
        ra=ra,
        root=root,
        root_radii_mm=root_radii,
        arch=arch,
        arch_radii_mm=arch_radii,
        neck=_neck(body, arch),
        pulmonary_trunk=np.array([pulmonary, fork]),
        right_pulmonary=np.array([fork, fork + 65 * unit(0.95 * body.right - 0.25 * body.anterior)]),
        cava=cava,
        cava_radii_mm=cava_radii,
        hepatic_veins=veins,
        liver=middle + 22 * body.right + 18 * body.anterior - 14 * body.superior,
        spine=_spine(body, arch),
    )


def _root(heart: Heart, valve: Vec, axis: Vec, valve_radius: float) -> tuple[Vec, Vec]:
    """Returns outflow tract, valve, sinuses, sinotubular junction and the start of the ascending aorta."""
    below = valve - [0.35 * valve[0], 0.35 * valve[1], 18]
    line = np.array([below, valve, valve + 9 * axis, valve + 20 * axis, valve + 38 * axis])
    wide = heart.aorta_radius_mm
    return line, np.array([0.95 * valve_radius, valve_radius, 1.12 * wide, 0.95 * wide, wide])


def _arch(heart: Heart, body: Body, start: Vec, la: Vec) -> tuple[Vec, Vec]:
    across = unit(-0.45 * body.right - 0.85 * body.anterior)
    behind = la - 40 * body.anterior - 16 * body.right
    low = behind - 100 * body.superior + 20 * body.right
    points = np.array(
        [
            start,
            start + 26 * body.superior + 4 * across,
            start + 44 * body.superior + 24 * across,
            start + 40 * body.superior + 52 * across,
            start + 18 * body.superior + 66 * across,
            behind,
            behind - 45 * body.superior + 9 * body.right + 9 * body.anterior,
            low + 20 * body.anterior,
            low - 75 * body.superior + 15 * body.right + 34 * body.anterior,
        ]
    )
    radii = heart.aorta_radius_mm * np.interp(np.linspace(0, 1, 25), [0, 0.45, 1], [1.0, 0.85, 0.62])
    return smooth_line(points, 25), radii


def _spine(body: Body, arch: Vec) -> Vec:
    """Returns the centre line of the spine, behind the descending aorta and close to it from the diaphragm down."""
    top, middle, low = arch[15], arch[19], arch[24]
    side = 6 * body.right
    return np.array(
        [
            top + 60 * body.superior - 52 * body.anterior + side,
            top - 48 * body.anterior + side,
            middle - 34 * body.anterior + side,
            low - 33 * body.anterior + side,
            low - 60 * body.superior - 33 * body.anterior + side,
        ]
    )


def _neck(body: Body, arch: Vec) -> tuple[Vec, ...]:
    return tuple(
        np.array([arch[k], arch[k] + 45 * unit(body.superior + lean * body.right)])
        for k, lean in ((5, 0.5), (7, 0.0), (9, -0.4))
    )


def _cava(heart: Heart, body: Body, ra: Vec) -> tuple[Vec, Vec]:
    """Returns the inferior vena cava, from the floor of the right atrium down through the liver."""
    mouth = ra - 0.8 * heart.ra_radius_mm * body.superior
    down = unit(-body.superior - 0.15 * body.anterior + 0.08 * body.right)
    steps = np.array([0, 10, 22, 36, 55, 85])[:, None]
    radii = heart.ivc_radius_mm * np.array([0.9, 0.95, 1.05, 1.0, 0.95, 0.9])
    return mouth + steps * down, radii
