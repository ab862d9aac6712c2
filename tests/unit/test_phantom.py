"""Synthetic patients: the heart's volumes and motion, what each view shows, and how speckle moves."""

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from echoplane.errors import ConfigError
from echoplane.phantom import echo, make_patient, scan_echo
from echoplane.phantom.anatomy import Part, all_parts, tissue_at
from echoplane.phantom.heart import Heart, moments, trace_back
from echoplane.phantom.landmarks import landmarks
from echoplane.phantom.optics import draw_optics
from echoplane.phantom.patient import VIEW_NAMES
from echoplane.phantom.probe import Pose, pose

MUST_SHOW = {
    "plax": (Part.LV_BLOOD, Part.LA_BLOOD, Part.AORTA_BLOOD, Part.RV_BLOOD, Part.MYOCARDIUM, Part.VALVE),
    "rv-inflow": (Part.RV_BLOOD, Part.RA_BLOOD),
    "sax-basal": (Part.AORTA_BLOOD, Part.LA_BLOOD, Part.RA_BLOOD, Part.RV_BLOOD),
    "sax-mid": (Part.LV_BLOOD, Part.PAPILLARY, Part.RV_BLOOD, Part.MYOCARDIUM),
    "a4c": (Part.LV_BLOOD, Part.RV_BLOOD, Part.LA_BLOOD, Part.RA_BLOOD, Part.MYOCARDIUM),
    "a5c": (Part.LV_BLOOD, Part.RV_BLOOD, Part.AORTA_BLOOD, Part.MYOCARDIUM),
    "a2c": (Part.LV_BLOOD, Part.LA_BLOOD, Part.MYOCARDIUM),
    "a3c": (Part.LV_BLOOD, Part.LA_BLOOD, Part.AORTA_BLOOD, Part.MYOCARDIUM),
    "subcostal-4c": (Part.LIVER, Part.LV_BLOOD, Part.RV_BLOOD, Part.LA_BLOOD, Part.RA_BLOOD),
    "subcostal-ivc": (Part.LIVER, Part.CAVA_BLOOD, Part.RA_BLOOD),
    "subcostal-aorta": (Part.AORTA_BLOOD, Part.LIVER, Part.SPINE),
    "suprasternal": (Part.AORTA_BLOOD, Part.PULMONARY_BLOOD),
}
MUST_NOT_SHOW = {
    "rv-inflow": (Part.LV_BLOOD,),
    "sax-mid": (Part.LA_BLOOD, Part.RA_BLOOD),
    "a2c": (Part.RA_BLOOD,),
    "a3c": (Part.RA_BLOOD,),
    "subcostal-ivc": (Part.LV_BLOOD,),
    "subcostal-aorta": (Part.RA_BLOOD,),
}


def distances(heart: Heart, points, phase: float):
    moment = moments(heart, np.array([phase]))
    material = trace_back(heart, points, moment.contraction)
    return all_parts(heart, landmarks(heart), points, material, moment)


def volume_ml(heart: Heart, part: Part, phase: float, step_mm: float = 1.6) -> float:
    """Voxels whose middle lies in a part, over the whole heart."""
    x, y, z = (np.arange(a, b, step_mm, dtype=np.float32) for a, b in ((-60, 75), (-65, 65), (-20, 150)))
    points = tuple(np.ascontiguousarray(p) for p in np.meshgrid(x, y, z, indexing="ij"))
    return float((distances(heart, points, phase)[part] < 0).sum() * step_mm**3 / 1000)


def end_systole(heart: Heart) -> float:
    return heart.systole_share


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_volumes_counted_in_voxels_are_the_ones_the_patient_states(seed):
    patient = make_patient(seed)
    edv = volume_ml(patient.heart, Part.LV_BLOOD, 0.0)
    esv = volume_ml(patient.heart, Part.LV_BLOOD, end_systole(patient.heart))
    assert edv == pytest.approx(patient.edv_ml, rel=0.02)
    assert esv == pytest.approx(patient.esv_ml, rel=0.02)
    assert 100 * (edv - esv) / edv == pytest.approx(patient.ef_percent, abs=1.5)


def test_a_weaker_heart_empties_less():
    strong = replace(make_patient(1).heart, ef=0.65)
    weak = replace(strong, ef=0.35)
    assert volume_ml(weak, Part.LV_BLOOD, end_systole(weak), 2.0) > 1.5 * volume_ml(
        strong, Part.LV_BLOOD, end_systole(strong), 2.0
    )


def test_myocardium_keeps_its_volume_and_atria_fill_while_ventricles_empty():
    heart = make_patient(4).heart
    x, y, z = (np.arange(a, b, 1.6, dtype=np.float32) for a, b in ((-60, 75), (-65, 65), (-20, 150)))
    points = tuple(np.ascontiguousarray(p) for p in np.meshgrid(x, y, z, indexing="ij"))
    diastole, systole = distances(heart, points, 0.0), distances(heart, points, end_systole(heart))

    def count(parts, part):
        return int((parts[part] < 0).sum())

    def wall(parts):
        return int(((parts[Part.MYOCARDIUM] < 0) & (parts[Part.LV_BLOOD] >= 0)).sum())

    assert wall(systole) == pytest.approx(wall(diastole), rel=0.06)
    assert count(systole, Part.RV_BLOOD) < 0.85 * count(diastole, Part.RV_BLOOD)
    assert count(systole, Part.LA_BLOOD) > 1.25 * count(diastole, Part.LA_BLOOD)
    assert count(systole, Part.RA_BLOOD) > 1.25 * count(diastole, Part.RA_BLOOD)


@pytest.mark.parametrize("seed", range(5))
def test_inlet_and_outlet_valves_are_never_open_together(seed):
    heart = make_patient(seed).heart
    moment = moments(heart, np.linspace(0, 1, 200, endpoint=False))
    mitral, aortic = moment.mitral.ravel(), moment.aortic.ravel()
    assert not np.any((mitral > 0.05) & (aortic > 0.05))
    assert mitral.max() > 0.9
    assert aortic.max() > 0.9
    assert moment.contraction.min() == pytest.approx(0, abs=1e-3)
    assert moment.contraction.max() == pytest.approx(1, abs=1e-3)


def fan(at: Pose, half_angle_rad: float = 0.63, depth_mm: float = 150):
    """Points of a scan plane on a polar grid."""
    angle = np.linspace(-half_angle_rad, half_angle_rad, 61)[:, None]
    depth = np.linspace(0, depth_mm, 101)[None, :]
    return tuple(
        (o + depth * (np.cos(angle) * d + np.sin(angle) * r)).astype(np.float32)[None]
        for o, d, r in zip(at.origin_mm, at.down, at.right, strict=True)
    )


@pytest.mark.parametrize("view", VIEW_NAMES)
def test_a_view_shows_what_it_is_named_for(view):
    for seed in range(6):
        heart = make_patient(seed).heart
        at = pose(heart, landmarks(heart), view, np.random.default_rng(seed))
        labels = tissue_at(heart, fan(at), 0.0)
        for part in MUST_SHOW[view]:
            assert (labels == part).sum() >= 10, f"patient {seed} lacks {part.name}"
        for part in MUST_NOT_SHOW.get(view, ()):
            assert (labels == part).sum() <= 5, f"patient {seed} shows {part.name}"


@pytest.mark.parametrize("view", ["plax", "sax-basal", "a3c", "a5c", "a4c", "a2c"])
def test_the_aortic_valve_tells_five_chambers_from_four_and_three_from_two(view):
    for seed in range(12):
        heart = make_patient(seed).heart
        marks = landmarks(heart)
        at = pose(heart, marks, view, np.random.default_rng(seed))
        cusps = marks.aortic + 5 * marks.aortic_axis
        off_plane_mm = abs((cusps - at.origin_mm) @ np.cross(at.down, at.right))
        assert off_plane_mm > 14 if view in ("a4c", "a2c") else off_plane_mm < marks.aortic_radius_mm


def test_patients_differ_in_function_size_and_rhythm():
    patients = [make_patient(seed) for seed in range(60)]
    ef = [p.ef_percent for p in patients]
    rate = [p.heart.heart_rate_bpm for p in patients]
    assert 30 <= min(ef) < 40
    assert 62 < max(ef) <= 70
    assert 50 <= min(rate) < 60
    assert 95 < max(rate) <= 110
    assert np.std([p.edv_ml for p in patients]) > 15
    assert len({p.style for p in patients}) >= 3


def test_speckle_moves_with_the_tissue():
    """A frame, warped by the motion that the heart is known to make, predicts the next one better than unwarped."""
    heart = replace(make_patient(6).heart, ef=0.65, shortening=0.17)
    optics = replace(draw_optics(np.random.default_rng(0)), persistence=0.0, noise_db=-90, clutter_db=-90)
    at = pose(heart, landmarks(heart), "a4c", np.random.default_rng(3))
    phases = np.array([0.45, 0.60]) * heart.systole_share
    before, after = echo.scan(heart, at, optics, phases).astype(np.float32)
    rows, columns = _where_it_came_from(heart, at, optics, phases)
    warped = cv2.remap(before, columns, rows, cv2.INTER_LINEAR)
    wall = _wall(heart, at, optics, phases[1])
    moving = correlation(speckle(warped)[wall], speckle(after)[wall])
    standing = correlation(speckle(before)[wall], speckle(after)[wall])
    assert moving > 0.35
    assert moving > 2 * standing


def grid(at: Pose, optics: echo.Optics):
    """Points of the fine grid in heart coordinates, (1, line, sample)."""
    angle = np.linspace(-optics.half_angle_rad, optics.half_angle_rad, echo.SCREEN.fine[0])[:, None]
    depth = np.linspace(0, optics.depth_mm, echo.SCREEN.fine[1])[None, :]
    return [
        (o + depth * (np.cos(angle) * d + np.sin(angle) * r)).astype(np.float32)[None]
        for o, d, r in zip(at.origin_mm, at.down, at.right, strict=True)
    ]


def _where_it_came_from(heart, at, optics, phases):
    """Line and sample in the first frame of the tissue at each line and sample of the second."""
    first, second = (moments(heart, phases[k : k + 1]).contraction for k in (0, 1))
    now = grid(at, optics)
    material = trace_back(heart, tuple(now), second).points
    then = [p.copy() for p in now]
    for _ in range(8):
        found = trace_back(heart, tuple(then), first).points
        then = [t + m - f for t, m, f in zip(then, material, found, strict=True)]
    away = [t - np.float32(o) for t, o in zip(then, at.origin_mm, strict=True)]
    down = sum(a * np.float32(d) for a, d in zip(away, at.down, strict=True))[0]
    right = sum(a * np.float32(r) for a, r in zip(away, at.right, strict=True))[0]
    line = (np.arctan2(right, down) / optics.half_angle_rad + 1) / 2 * (echo.SCREEN.fine[0] - 1)
    sample = np.hypot(right, down) / optics.depth_mm * (echo.SCREEN.fine[1] - 1)
    return line.astype(np.float32), sample.astype(np.float32)


def _wall(heart, at, optics, phase):
    parts = distances(heart, tuple(grid(at, optics)), phase)
    wall = (parts[Part.MYOCARDIUM] < -1.5) & (parts[Part.LV_BLOOD] > 1.5)
    return np.broadcast_to(wall, (1, *echo.SCREEN.fine))[0] & (grid(at, optics)[2][0] > 0.4 * heart.lv_length_mm)


def speckle(picture: np.ndarray) -> np.ndarray:
    """The grain of a picture without its shades."""
    return picture - cv2.GaussianBlur(picture, (0, 0), 6)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_blood_is_dark_walls_are_grey_and_the_pericardium_is_brightest():
    heart = make_patient(2).heart
    optics = draw_optics(np.random.default_rng(1))
    at = pose(heart, landmarks(heart), "plax", np.random.default_rng(1))
    picture = echo.scan(heart, at, optics, np.array([0.0]))[0]
    labels = tissue_at(heart, tuple(grid(at, optics)), 0.0)[0]
    # The near field is clutter and the far field faint, whatever lies there.
    middle = np.zeros(labels.shape, bool)
    middle[20:-20, 110:260] = True
    grey = {part: float(picture[(labels == part) & middle].mean()) for part in (Part.LV_BLOOD, Part.MYOCARDIUM)}
    bright = np.quantile(picture[(labels == Part.PERICARDIUM) & middle], 0.75)
    assert grey[Part.LV_BLOOD] + 40 < grey[Part.MYOCARDIUM] < bright


def test_twelve_views_of_a_patient_are_twelve_different_pictures():
    patient = make_patient(3)
    means = [scan_echo(patient, view, 1, frames=2).rgb[:, ..., 1].mean(axis=0) for view in VIEW_NAMES]
    small = [cv2.resize(m, (64, 64), interpolation=cv2.INTER_AREA) for m in means]
    inside = cv2.resize(scan_echo(patient, "plax", 1, frames=1).sector_mask.astype(np.float32), (64, 64)) > 0.99
    for k, one in enumerate(small):
        for other in small[:k]:
            assert correlation(one[inside], other[inside]) < 0.9


def test_an_unknown_view_is_refused_with_the_list_of_views():
    with pytest.raises(ConfigError, match="suprasternal"):
        scan_echo(make_patient(0), "a6c", 1)


def test_phantoms_need_no_torch():
    code = "import echoplane.phantom, sys; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
