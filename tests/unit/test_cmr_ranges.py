"""Ranges of the MR phantom: the usual draws are as they were, and varied patients have exact, plausible masks."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from echoplane.phantom import mr
from echoplane.phantom.cine import Scan, scan_mr, truth
from echoplane.phantom.heart import Heart, Sector, moments, trace_back
from echoplane.phantom.mr_patient import FIELDS, MrPatient, make_mr_patient
from echoplane.phantom.mr_planes import MAX_PIXELS, Grid, grid_of, short_axis_planes
from echoplane.phantom.mr_ranges import UNSEEN_VENDORS, USUAL_MR, VARIED_MR
from echoplane.phantom.mr_receiver import Receiver, folded, received

SEEDS = [3, 8, 21, 30]
"""Among them: thick and thin walls, dilated and small ventricles, scars."""
USUAL_FIGURES = {
    (11, None): [
        ([215.219, 211.33], 213.529, [11041, 12933, 8596, 0, 0], [-1.07613, 0.92984, -6.21237, 83.75857]),
        ([236.735, 232.478], 218.136, [0, 0, 0, 914, 0], [-0.69934, 1.36407, 3.20435, -14.15069]),
        ([213.142, 202.187], 224.962, [0, 0, 0, 890, 1140], [-1.48442, 0.85077, -1.99661, 93.54909]),
    ],
    (24, "west"): [
        ([363.748, 362.455], 473.316, [9085, 11050, 7915, 0, 0], [-1.08262, 0.59081, -6.20532, 110.67708]),
        ([497.754, 487.995], 703.29, [0, 0, 0, 1279, 0], [-0.52045, 1.15057, 4.81443, -7.1781]),
        ([309.293, 291.313], 315.585, [0, 0, 0, 1238, 1668], [-0.42236, 1.45159, -2.22724, -46.84508]),
    ],
}
"""Means and deviation of the pixels, labelled voxels and the affine's first row, from before there were ranges."""


def scans_of(patient: MrPatient, spacing_mm: float = 10.0) -> tuple[Scan, ...]:
    return scan_mr(patient, np.array([0.0, patient.heart.systole_share]), spacing_mm)


@pytest.mark.parametrize(("seed", "field"), USUAL_FIGURES)
def test_the_usual_ranges_give_the_patients_from_before_there_were_ranges(seed: int, field: str | None) -> None:
    scans = scans_of(make_mr_patient(seed, field, USUAL_MR))
    for scan, (means_T, deviation, voxels, row) in zip(scans, USUAL_FIGURES[seed, field], strict=True):
        assert scan.cine.voxels_TZHW.mean(axis=(1, 2, 3)) == pytest.approx(means_T, abs=0.01)
        assert scan.cine.voxels_TZHW.std() == pytest.approx(deviation, abs=0.01)
        assert [(scan.labels_TZNM == k).sum() for k in range(1, 6)] == pytest.approx(voxels, abs=3)
        assert scan.cine.affine[0] == pytest.approx(row, abs=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_varied_masks_hold_the_volumes_of_the_solid_heart_and_equal_strokes(seed: int) -> None:
    patient = make_mr_patient(seed, ranges=VARIED_MR)
    stack = scans_of(patient, spacing_mm=5.0)[0]
    figures = truth(patient, stack)
    assert figures["lvedv_ml"] == pytest.approx(figures["solid_lvedv_ml"], rel=0.05)
    assert figures["lvesv_ml"] == pytest.approx(figures["solid_lvesv_ml"], rel=0.08)
    assert figures["rvsv_ml"] == pytest.approx(figures["lvsv_ml"], rel=0.25)
    assert figures["rvedv_ml"] > 25
    mass_ml = (stack.labels_TZNM == mr.MYOCARDIUM).sum(axis=(1, 2, 3)) * stack.cine.voxel_mm3 / 1000
    assert mass_ml[1] == pytest.approx(mass_ml[0], rel=0.07)


@pytest.mark.parametrize("seed", SEEDS)
def test_muscle_is_closed_around_the_cavity_in_middle_slices_and_the_right_ventricle_holds_blood(seed: int) -> None:
    labels_TZNM = scans_of(make_mr_patient(seed, ranges=VARIED_MR))[0].labels_TZNM
    both = np.flatnonzero((labels_TZNM == mr.LV_CAVITY).any(axis=(2, 3)).all(axis=0))
    middle = both[len(both) // 3 : len(both) // 3 + 3]
    for labels_NM in labels_TZNM[:, middle].reshape(-1, *labels_TZNM.shape[2:]):
        cavity = labels_NM == mr.LV_CAVITY
        assert set(labels_NM[binary_dilation(cavity) & ~cavity]) == {mr.MYOCARDIUM}
    assert ((labels_TZNM[0, middle] == mr.RV_CAVITY).sum(axis=(1, 2)) > 30).all()


def test_a_seed_gives_one_varied_patient_and_another_seed_another() -> None:
    first, again, other = (scans_of(make_mr_patient(seed, ranges=VARIED_MR)) for seed in (8, 8, 4))
    for one, two, three in zip(first, again, other, strict=True):
        assert np.array_equal(one.cine.voxels_TZHW, two.cine.voxels_TZHW)
        assert one.cine.voxels_TZHW.shape == one.labels_TZNM.shape
        assert one.cine.spacing_mm != three.cine.spacing_mm


def test_varied_patients_differ_more_than_usual_ones() -> None:
    usual, varied = ([make_mr_patient(seed, ranges=r) for seed in range(12)] for r in (USUAL_MR, VARIED_MR))
    for name in ("papillary_size", "apex_share", "rv_wall_mm", "unevenness_mm", "rv_place", "rv_axes"):
        assert len({getattr(p.heart, name) for p in usual}) == 1
        assert len({getattr(p.heart, name) for p in varied}) == 12
    assert any(len(p.heart.sectors) == 3 for p in varied)
    assert {p.heart.sectors for p in usual} == {()}
    assert {p.field for p in varied} == {"varied"}


def test_held_out_vendors_lie_outside_what_varied_patients_show() -> None:
    seen = VARIED_MR
    assert seen.contrast
    assert seen.optics
    assert [vendor.vendor for vendor in UNSEEN_VENDORS.values()] == list(UNSEEN_VENDORS)
    contrasts = {name: vendor.contrast.scanner for name, vendor in UNSEEN_VENDORS.items() if vendor.contrast}
    optics = {name: vendor.optics for name, vendor in UNSEEN_VENDORS.items() if vendor.optics}
    assert contrasts["dull"].myocardium[0] > seen.contrast.scanner.myocardium[1]
    assert contrasts["noisy"].noise[0] > seen.contrast.scanner.noise[1]
    assert optics["shaded"].bias[0] > seen.optics.bias[1]
    assert optics["coarse"].acquired_mm[0] > seen.optics.acquired_mm[1]
    assert UNSEEN_VENDORS["coarse"].geometry.pixel_mm[0] > seen.geometry.pixel_mm[1]


@pytest.mark.parametrize("vendor", UNSEEN_VENDORS)
def test_a_held_out_vendor_shows_the_hearts_of_varied_patients(vendor: str) -> None:
    patient, seen = make_mr_patient(9, ranges=UNSEEN_VENDORS[vendor]), make_mr_patient(9, ranges=VARIED_MR)
    assert patient.heart == seen.heart
    assert patient.field == vendor
    planes = short_axis_planes(patient)
    grid = grid_of(patient.ranges.geometry, patient.seed)
    assert {1, 2, 3} <= set(np.unique(mr.scan_plane(patient, planes[len(planes) // 2], grid, np.zeros(1))[1]))


def test_a_field_beside_ranges_with_their_own_contrast_is_refused() -> None:
    with pytest.raises(ValueError, match="take no field"):
        make_mr_patient(1, next(iter(FIELDS)), VARIED_MR)


def test_grids_are_tight_and_wide_and_of_either_orientation() -> None:
    grids = [grid_of(VARIED_MR.geometry, seed) for seed in range(60)]
    assert max(g.rows * g.columns for g in grids) <= MAX_PIXELS * 1.02
    assert {g.rows > g.columns for g in grids} == {True, False}
    widths_mm = [max(g.rows, g.columns) * g.pixel_mm for g in grids]
    assert min(widths_mm) < 250
    assert max(widths_mm) > 380


def test_what_a_scar_lacks_in_motion_the_other_wall_adds() -> None:
    """At end systole the scar's wall stands further out than the opposite one."""
    plain = make_mr_patient(5, ranges=VARIED_MR).heart
    scarred = _with_scar(plain)
    contraction = moments(plain, np.array([plain.systole_share])).contraction
    x = np.array([[[-0.6, 0.6]]], np.float32) * np.float32(plain.lv_radius_mm)
    points = (x, np.zeros_like(x), np.full_like(x, 0.6 * plain.lv_length_mm))
    before, after = (trace_back(heart, points, contraction).endocardium_mm[0, 0] for heart in (plain, scarred))
    assert after[1] < before[1] - 1
    assert after[0] > before[0]


def _with_scar(heart: Heart) -> Heart:
    return replace(heart, sectors=(*heart.sectors, Sector(0.0, 40.0, (0.0, 1.2), 0.0, akinesia=0.6)))


def test_what_is_folded_in_appears_at_the_opposite_edge() -> None:
    picture = np.zeros((1, 6, 10), np.float32)
    picture[0, 3, 1] = 1  # one pixel inside a margin of two
    out = folded(picture, (0, 2))
    assert out.shape == (1, 6, 6)
    assert out[0, 3, 5] == 1
    assert out.sum() == 1


def test_a_sharp_end_of_k_space_rings_and_a_soft_one_does_not() -> None:
    edge = np.zeros((1, 64, 64), np.float32)
    edge[..., 20:44] = 1
    grid = Grid(64, 64, 1.0)
    sharp, soft = (
        received(edge, grid, Receiver(0.01, 0, 0, 0, (2.6, 2.6), roll_off), np.random.default_rng(1))
        for roll_off in (0.05, 0.9)
    )
    assert sharp.max() > 1.06
    assert soft.max() < 1.04


def test_opposed_fat_leaves_a_dark_line_beside_water() -> None:
    edge = np.full((1, 64, 64), -1.5, np.float32)
    edge[..., 32:] = 1
    seen = received(edge, Grid(64, 64, 1.0), Receiver(1.0, 0, 0, 0, (1.5, 1.5), 0.5), np.random.default_rng(1))
    assert seen[0, 32, 30:34].min() < 0.4
    assert seen[0, 32, 10] == pytest.approx(1.5, rel=0.05)
