"""Wide ranges, Doppler spectra and M-mode of the phantom."""

import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from echoplane.errors import ConfigError
from echoplane.phantom import (
    BEDSIDE,
    CLINIC,
    WIDE,
    echo,
    make_patient,
    scan_echo,
    scan_strip,
    write_clip,
    write_patient,
)
from echoplane.phantom.landmarks import landmarks
from echoplane.phantom.optics import NO_DEFECTS, draw_optics, draw_scan, pass_through_db
from echoplane.phantom.probe import framed, pose
from echoplane.phantom.strip_screen import STRIP_NAMES
from echoplane.study.dicom import read_dicom
from echoplane.study.views import IMAGE_VIEWS, by_name


def digest(picture: np.ndarray) -> str:
    return hashlib.sha256(picture.tobytes()).hexdigest()


def test_a_seed_gives_one_wide_scan_and_another_seed_another():
    first, again, other = (
        scan_echo(make_patient(4, WIDE), "a4c", seed, frames=1, ranges=WIDE).rgb for seed in (1, 1, 2)
    )
    assert digest(first) == digest(again) != digest(other)


def test_wide_ranges_vary_more_than_the_usual_ones_in_anatomy_and_in_blood():
    usual, wide = [make_patient(s).heart for s in range(40)], [make_patient(s, WIDE).heart for s in range(40)]
    for name in ("edv_ml", "wall_mm", "la_radius_mm", "window_mm", "ef"):
        assert np.std([getattr(h, name) for h in wide]) > 1.3 * np.std([getattr(h, name) for h in usual]), name
    assert {h.unevenness_mm for h in usual} == {1.1}
    assert len({h.la_axes for h in wide}) == 40


def test_speckle_is_removed_by_the_share_that_the_ranges_state():
    """Bedside scans are smoother than hazy ones of the same heart; usual and wide ones keep all speckle."""
    assert draw_scan(np.random.default_rng(1), WIDE)[1].smoothing == 0.0
    patient, optics = make_patient(4, BEDSIDE), draw_optics(np.random.default_rng(2), BEDSIDE.optics)
    at = pose(patient.heart, landmarks(patient.heart), "a4c", np.random.default_rng(3), BEDSIDE.hand)
    rough, smooth = (
        echo.scan(patient.heart, at, optics, np.zeros(1), defects=replace(NO_DEFECTS, smoothing=share)).astype(float)
        for share in (0.0, 1.0)
    )
    assert np.abs(np.diff(smooth, axis=2)).mean() < 0.7 * np.abs(np.diff(rough, axis=2)).mean()


def test_gain_rises_with_depth_by_the_far_gain():
    lines, depth = np.zeros((1, 1)), np.array([[0.0, 0.5, 1.0]])
    gain_db = pass_through_db(replace(NO_DEFECTS, far_gain_db=8.0), lines, depth)
    assert gain_db.ravel().tolist() == [-4.0, 0.0, 4.0]


def test_one_side_is_brighter_by_the_side_gain():
    lines, depth = np.array([[0.0], [0.5], [1.0]]), np.zeros((1, 1))
    gain_db = pass_through_db(replace(NO_DEFECTS, side_gain_db=8.0), lines, depth)
    assert gain_db.ravel().tolist() == [-4.0, 0.0, 4.0]


def test_clinic_scans_never_cut_the_outflow_tract_of_five_chambers():
    """The valve lies in the upper 72 % of the depth; other views keep the depth that was drawn before them."""
    for seed in range(20):
        heart, rng = make_patient(seed, CLINIC).heart, np.random.default_rng(seed)
        drawn = draw_optics(rng, CLINIC.optics)
        to_valve_mm = heart.lv_length_mm + 0.75 * heart.wall_mm + heart.window_mm
        depths_mm = {view: framed(drawn, heart, view, rng, CLINIC.hand).depth_mm for view in ("a5c", "a4c", "plax")}
        assert 0.46 <= to_valve_mm / depths_mm["a5c"] <= 0.72
        assert 0.46 <= to_valve_mm / depths_mm["a4c"] <= 0.90
        assert depths_mm["plax"] == drawn.depth_mm
        assert framed(drawn, heart, "a5c", rng, BEDSIDE.hand) == drawn


def test_clinic_scans_show_the_left_ventricle_right_of_the_middle():
    """The middle of its long axis, across the beam; over the apex it would lie at 0."""
    places_mm = []
    for seed in range(40):
        heart = make_patient(seed, CLINIC).heart
        at = pose(heart, landmarks(heart), "a2c", np.random.default_rng(seed), CLINIC.hand)
        places_mm.append((np.array([0, 0, heart.lv_length_mm / 2]) - at.origin_mm) @ at.right)
    assert 5 < np.mean(places_mm) < 20


def test_patchy_tissue_is_less_even():
    patient, optics = make_patient(4, CLINIC), draw_optics(np.random.default_rng(2), CLINIC.optics)
    at = pose(patient.heart, landmarks(patient.heart), "a2c", np.random.default_rng(3), CLINIC.hand)
    look = replace(draw_scan(np.random.default_rng(1), BEDSIDE)[0], far_floor=1.0)
    even, patchy = (
        cv2.blur(echo.scan(patient.heart, at, optics, np.zeros(1), look=replace(look, patchiness=factor))[0], (5, 5))
        for factor in (1.0, 3.0)
    )
    assert look.patchiness == 1.0
    uneven = [np.abs(np.diff(picture[:, ::8].astype(float))).mean() for picture in (even, patchy)]
    assert uneven[1] > 1.15 * uneven[0]


def test_the_views_of_a_wide_patient_share_nothing_but_the_heart():
    """Depth and gain are drawn before the view is known: they must not tell it."""
    patient = make_patient(5, WIDE)
    clips = [scan_echo(patient, view, 1, frames=1, ranges=WIDE) for view in ("plax", "a4c", "suprasternal")]
    assert len({clip.optics for clip in clips}) == 1
    outside = [clip.rgb[:, ~clip.sector_mask] for clip in clips]
    assert np.array_equal(outside[0], outside[1])
    assert np.array_equal(outside[0], outside[2])


@pytest.mark.parametrize("kind", STRIP_NAMES)
def test_a_still_is_read_back_with_its_kind_from_the_region_and_its_code(kind, tmp_path):
    patient = make_patient(6)
    still = scan_strip(patient, kind, 1)
    write_clip(still, patient, tmp_path / "still")
    instance = read_dicom((tmp_path / "still").read_bytes()).only
    assert instance.frame_count == 1
    assert [region.kind for region in instance.regions] == [kind]
    assert instance.view == by_name(kind)
    region, (x0, y0, x1, y1) = instance.regions[0], still.box
    assert (region.left, region.top, region.right, region.bottom) == (x0, y0, x1 + 1, y1 + 1)


def test_a_spectrum_reaches_the_speed_that_its_scale_states():
    """Continuous Doppler of an adult heart stays under 6 m/s, pulsed Doppler under 1.5 m/s."""
    for kind, limit_cm_s in (("pw-doppler", 260), ("cw-doppler", 1000)):
        for seed in range(8):
            strip = scan_strip(make_patient(seed), kind, 1).strip
            rows = np.flatnonzero(strip.grey.mean(axis=1) > strip.grey.mean() * 0.5)
            assert np.abs(rows - strip.baseline_row).max() * strip.per_row < limit_cm_s
            assert 0 < strip.baseline_row < len(strip.grey)


def test_m_mode_repeats_with_the_beat():
    patient = make_patient(3)
    strip = scan_strip(patient, "m-mode", 2).strip
    beat = round(strip.grey.shape[1] / (strip.seconds * patient.heart.heart_rate_bpm / 60))
    grey = strip.grey.astype(float)
    beat_apart = np.abs(grey[:, beat:] - grey[:, :-beat]).mean()
    half_apart = np.abs(grey[:, beat // 2 :] - grey[:, : -(beat // 2)]).mean()
    assert beat_apart < half_apart


def test_an_unknown_still_is_refused_with_the_list():
    with pytest.raises(ConfigError, match="cw-doppler"):
        scan_strip(make_patient(0), "a4c", 1)


def test_all_fifteen_views_have_codes_of_their_own():
    assert len(IMAGE_VIEWS) == 15 == len({(view.scheme, view.code) for view in IMAGE_VIEWS})


def test_a_wide_study_with_stills_has_all_fifteen_views_and_is_found_again(tmp_path):
    views = [view.name for view in IMAGE_VIEWS]
    files = write_patient(tmp_path, 8, views=views, frames=8, ranges=WIDE)
    shown = [read_dicom(path.read_bytes()).only for path in files]
    assert {instance.view.name for instance in shown} == set(views)
    assert sorted({instance.frame_count for instance in shown}) == [1, 8]
    assert write_patient(tmp_path, 8, views=views, frames=8, ranges=WIDE) == files
    with pytest.raises(ConfigError, match="empty folder"):
        write_patient(tmp_path, 8, views=views, frames=9, ranges=WIDE)
