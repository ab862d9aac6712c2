"""Measures on solids whose volume has a closed form, and distances against MONAI's."""

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_distance import compute_average_surface_distance
from scipy.spatial import distance as scipy_distance

from echoplane.study.cine import Cine
from echoplane.tasks.cmr_segmentation import measures
from echoplane.tasks.cmr_segmentation.overlap import bland_altman, contour_distances, dice
from echoplane.tasks.cmr_segmentation.structures import LEFT_ATRIUM, LV_CAVITY, MYOCARDIUM

ROW_MM, COLUMN_MM, SLICE_MM = 1.2, 1.5, 8.0


def stack_of(solids: list, slices: int = 14, spacing: bool = True) -> tuple[np.ndarray, Cine]:
    """Label maps of `solids` (functions of x, y, z in mm, a phase each) on an anisotropic grid."""
    rows, columns = 120, 100
    y, x = (np.arange(rows) - rows / 2) * ROW_MM, (np.arange(columns) - columns / 2) * COLUMN_MM
    z = (np.arange(slices) - (slices - 1) / 2) * SLICE_MM
    labels_TZHW = np.stack([solid(x[None, None], y[None, :, None], z[:, None, None]) for solid in solids])
    known = {"spacing_mm": (ROW_MM, COLUMN_MM), "slice_spacing_mm": SLICE_MM} if spacing else {}
    return labels_TZHW.astype(np.uint8), Cine("short-axis", np.zeros(labels_TZHW.shape, np.uint8), **known)


def ellipsoid(a: float, b: float, c: float, wall: float = 0.0):
    def solid(x, y, z):
        inner = (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 < 1
        outer = (x / (a + wall)) ** 2 + (y / (b + wall)) ** 2 + (z / (c + wall)) ** 2 < 1
        return np.where(inner, LV_CAVITY, np.where(outer & (wall > 0), MYOCARDIUM, 0))

    return solid


def truncated_cone(low_mm: float, high_mm: float, height_mm: float):
    def solid(x, y, z):
        radius = low_mm + (high_mm - low_mm) * (z / height_mm + 0.5)
        return np.where((np.hypot(x, y) < radius) & (np.abs(z) < height_mm / 2), LV_CAVITY, 0)

    return solid


def test_volumes_mass_and_function_of_ellipsoids_are_right_to_one_percent() -> None:
    labels, cine = stack_of([ellipsoid(28, 26, 45, wall=9), ellipsoid(20, 19, 38, wall=12)])
    edv, esv = (4 / 3 * np.pi * a * b * c / 1000 for a, b, c in ((28, 26, 45), (20, 19, 38)))
    wall = 4 / 3 * np.pi * (37 * 35 * 54) / 1000 - edv
    found = measures.ventricles(labels, cine, 0, 1)
    assert found["lvedv_ml"] == pytest.approx(edv, rel=0.01)
    assert found["lvesv_ml"] == pytest.approx(esv, rel=0.01)
    assert found["lvm_g"] == pytest.approx(1.05 * wall, rel=0.01)
    assert found["lvef_percent"] == pytest.approx(100 * (1 - esv / edv), rel=0.01)


def test_volume_of_a_truncated_cone_is_right_to_one_percent() -> None:
    low, high, height = 12.0, 30.0, 10 * SLICE_MM
    labels, cine = stack_of([truncated_cone(low, high, height)] * 2)
    volume_ml = np.pi * height / 3 * (low**2 + low * high + high**2) / 1000
    assert measures.volume_curve(labels, LV_CAVITY, cine).size_T[0] == pytest.approx(volume_ml, rel=0.01)


def test_without_spacing_there_is_a_fraction_but_no_millilitre() -> None:
    labels, cine = stack_of([ellipsoid(28, 26, 45), ellipsoid(20, 19, 38)], spacing=False)
    found = measures.ventricles(labels, cine, 0, 1)
    assert found["lvef_percent"] == pytest.approx(100 * (1 - 20 * 19 * 38 / (28 * 26 * 45)), rel=0.01)
    assert all(value is None for name, value in found.items() if not name.endswith("ef_percent"))
    assert measures.volume_curve(labels, LV_CAVITY, cine).unit == "pixels"


def test_a_slice_missing_inside_the_stack_costs_no_volume() -> None:
    labels, cine = stack_of([truncated_cone(20, 24, 10 * SLICE_MM)] * 2)
    whole = measures.volume_curve(labels, LV_CAVITY, cine).size_T[0]
    cine.present_TZ[0, 6] = False
    labels[0, 6] = 0
    assert measures.volume_curve(labels, LV_CAVITY, cine).size_T[0] == pytest.approx(whole, rel=0.005)


def test_output_per_minute_needs_a_rate() -> None:
    labels, _ = stack_of([ellipsoid(28, 26, 45), ellipsoid(20, 19, 38)])
    timed = Cine("short-axis", np.zeros(labels.shape, np.uint8), (ROW_MM, COLUMN_MM), SLICE_MM, frame_time_ms=400.0)
    found = measures.ventricles(labels, timed, 0, 1)
    assert measures.heart_rate_bpm(timed) == pytest.approx(75)
    assert found["lvco_l_min"] == pytest.approx(found["lvsv_ml"] * 75 / 1000)


@pytest.mark.parametrize(
    ("phases", "known", "expected"),
    [
        (2, {"heart_rate_bpm": 70.0, "covers_beat": False}, None),
        (20, {"heart_rate_bpm": 70.0, "frame_time_ms": 50.0}, 70),
        (20, {"frame_time_ms": 50.0}, 60),
        (20, {"frame_time_ms": 5.0}, None),
        (20, {"frame_time_ms": 400.0}, None),
        (20, {}, None),
    ],
)
def test_a_heart_rate_needs_a_whole_beat_and_is_one_of_a_heart(phases: int, known: dict, expected: float) -> None:
    cine = Cine("short-axis", np.zeros((phases, 3, 48, 48), np.uint8), **known)
    assert measures.heart_rate_bpm(cine) == expected


def test_end_diastole_is_phase_0_unless_the_cine_starts_elsewhere() -> None:
    assert measures.end_diastole(np.array([100.0, 60, 104]), covers_beat=True) == 0
    assert measures.end_diastole(np.array([50.0, 60, 104]), covers_beat=True) == 2
    assert measures.end_diastole(np.array([100.0, 104]), covers_beat=False) == 1
    assert measures.end_systole(np.array([100.0, 60, 104])) == 1


@pytest.mark.parametrize("angle_degrees", [0, 20, 65])
def test_area_length_of_an_ellipsoid_is_its_volume(angle_degrees: float) -> None:
    spacing, (short, long) = (1.3, 1.3), (18.0, 27.0)
    row, column = ((np.arange(96) - 48) * 1.3,) * 2
    turn = np.radians(angle_degrees)
    along = row[:, None] * np.cos(turn) + column[None] * np.sin(turn)
    across = -row[:, None] * np.sin(turn) + column[None] * np.cos(turn)
    mask = (along / long) ** 2 + (across / short) ** 2 < 1
    volume_ml = 4 / 3 * np.pi * short**2 * long / 1000
    assert measures.atrial_curve([mask[None]], [spacing])[0] == pytest.approx(volume_ml, rel=0.03)
    assert measures.atrial_curve([mask[None]] * 2, [spacing] * 2)[0] == pytest.approx(volume_ml, rel=0.03)


@pytest.mark.parametrize("phases", [(25, 25), (25, 50), (50, 25), (10, 40)])
def test_planes_of_unequal_phases_are_matched_by_their_place_in_the_beat(phases: tuple[int, int]) -> None:
    row, column = np.mgrid[:64, :64] - 32
    planes = [
        np.array([np.hypot(row, column) < 14 + 6 * np.sin(np.pi * t / count) for t in range(count)]) for count in phases
    ]
    volumes_T = measures.atrial_curve(planes, [(1.0, 1.0)] * 2)
    assert len(volumes_T) == min(phases)
    assert volumes_T == pytest.approx(measures.atrial_curve(planes[:1], [(1.0, 1.0)])[:: len(planes[0]) // min(phases)])


def test_an_atrium_that_vanishes_has_no_volume() -> None:
    found = measures.atria(
        {("2-chamber", LEFT_ATRIUM): np.zeros((3, 40, 40), bool)},
        {"2-chamber": Cine("2-chamber", np.zeros((3, 1, 40, 40), np.uint8), (1.0, 1.0))},
    )
    assert found == {}


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:70, :60]
    shapes = []
    for _ in range(2):
        centre, radii = rng.uniform(25, 35, 2), rng.uniform(8, 20, 2)
        shapes.append(((row - centre[0]) / radii[0]) ** 2 + ((column - centre[1]) / radii[1]) ** 2 < 1)
    return shapes[0], shapes[1]


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_monai(seed: int) -> None:
    a, b = blobs(seed)
    pair = [torch.from_numpy(m)[None, None].float() for m in (a, b)]
    directed = [
        float(compute_average_surface_distance(x, y, include_background=True, spacing=[ROW_MM, COLUMN_MM]))
        for x, y in (pair, pair[::-1])
    ]
    hausdorff = float(compute_hausdorff_distance(*pair, include_background=True, spacing=[ROW_MM, COLUMN_MM]))
    found = contour_distances(a[None], b[None], (ROW_MM, COLUMN_MM))
    assert found == pytest.approx((np.mean(directed), hausdorff), abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_scipy_on_border_points(seed: int) -> None:
    a, b = blobs(seed)
    borders = []
    for mask in (a, b):
        near = np.pad(mask, 1)
        inner = near[:-2, 1:-1] & near[2:, 1:-1] & near[1:-1, :-2] & near[1:-1, 2:]
        borders.append(np.argwhere(mask & ~inner) * (ROW_MM, COLUMN_MM))
    between = scipy_distance.cdist(*borders)
    mean = (between.min(axis=0).mean() + between.min(axis=1).mean()) / 2
    largest = max(scipy_distance.directed_hausdorff(*order)[0] for order in (borders, borders[::-1]))
    assert contour_distances(a[None], b[None], (ROW_MM, COLUMN_MM)) == pytest.approx((mean, largest), abs=1e-6)


def test_dice_is_that_of_scipy_and_nothing_for_two_empty_masks() -> None:
    a, b = blobs(5)
    assert dice(a, b) == pytest.approx(1 - scipy_distance.dice(a.ravel(), b.ravel()))
    assert dice(a & False, b & False) is None
    assert contour_distances(a[None] & False, b[None], (1.0, 1.0)) is None


def test_slices_with_one_contour_do_not_count_for_distances() -> None:
    a, b = blobs(6)
    alone = contour_distances(a[None], b[None], (1.0, 1.0))
    assert contour_distances(np.stack([a, a]), np.stack([b, b & False]), (1.0, 1.0)) == alone


def test_bland_altman_gives_bias_limits_and_error() -> None:
    found = bland_altman(np.array([1.0, 2, 3]), np.array([2.0, 2, 2]))
    assert found == pytest.approx({"n": 3, "bias": 0, "low": -1.96, "high": 1.96, "mae": 2 / 3})
