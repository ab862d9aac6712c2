"""Measures that follow from others: indexed by body surface, peak rates, and the reference ranges beside them."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from echoplane.errors import ConfigError
from echoplane.phantom.cine import scan_mr
from echoplane.phantom.mr_patient import make_mr_patient
from echoplane.study.cine import Cine
from echoplane.study.subject import Subject, subject_of
from echoplane.tasks.cmr_segmentation.base_plane import ANNULUS_PIXELS, valve_slices
from echoplane.tasks.cmr_segmentation.derived import derived, excursion_mm, peak_rates_ml_s, reference_as_json
from echoplane.tasks.cmr_segmentation.measures import Curve


def beat(phases: int, **known) -> Cine:
    return Cine("short-axis", np.zeros((phases, 3, 48, 48), np.uint8), **known)


def test_measures_are_indexed_by_body_surface() -> None:
    stack = beat(20, subject=Subject(height_cm=180, weight_kg=80))
    found = derived({"lvedv_ml": 150.0, "lvm_g": 100.0, "rvedv_ml": None}, Curve(np.ones(20), "mL"), stack, 0, 8, None)
    assert found["lvedvi_ml_m2"] == pytest.approx(75)  # 180 x 80 / 3600 is the square of 2 m2
    assert found["lvmi_g_m2"] == pytest.approx(50)
    assert found["rvedvi_ml_m2"] is None


@pytest.mark.parametrize("subject", [Subject(), Subject(height_cm=170), Subject(weight_kg=70)])
def test_without_height_or_weight_nothing_is_indexed(subject: Subject) -> None:
    found = derived({"lvedv_ml": 150.0}, Curve(np.ones(20), "mL"), beat(20, subject=subject), 0, 8, None)
    assert found["lvedvi_ml_m2"] is None


@pytest.mark.parametrize(("phases", "frame_ms"), [(20, 45.0), (30, 30.0), (50, 18.0)])
def test_peak_rates_are_those_of_a_curve_of_known_slope(phases: int, frame_ms: float) -> None:
    beat_s, swing_ml = phases * frame_ms / 1000, 40.0
    volume_T = 100 + swing_ml * np.cos(2 * np.pi * np.arange(phases) / phases)
    steepest = swing_ml * 2 * np.pi / beat_s
    found = peak_rates_ml_s(Curve(volume_T, "mL"), beat(phases, frame_time_ms=frame_ms))
    assert found == pytest.approx((steepest, steepest), rel=0.03)


@pytest.mark.parametrize(
    ("phases", "unit", "known"),
    [
        (12, "mL", {"frame_time_ms": 70.0}),
        (20, "pixels", {"frame_time_ms": 45.0}),
        (20, "mL", {}),
        (20, "mL", {"frame_time_ms": 45.0, "covers_beat": False}),
    ],
)
def test_peak_rates_need_volumes_times_and_enough_phases(phases: int, unit: str, known: dict) -> None:
    assert peak_rates_ml_s(Curve(np.arange(float(phases)), unit), beat(phases, **known)) == (None, None)


@pytest.mark.parametrize("seed", [5200, 5204, 5205, 5207])
def test_the_excursion_of_the_annulus_is_that_of_the_synthetic_heart(seed: int) -> None:
    patient = make_mr_patient(seed)
    scans = scan_mr(patient, np.array([0.0, patient.heart.systole_share]), 9.0)
    cines = {scan.cine.plane: scan.cine for scan in scans}
    masks = {scan.cine.plane: scan.labels_TZNM for scan in scans}
    stack = scans[0].cine
    found = excursion_mm(valve_slices(masks, cines, stack, pixels=ANNULUS_PIXELS), stack, 0, 1)
    assert found == pytest.approx(patient.heart.shortening * patient.heart.lv_length_mm, abs=1.3)


@pytest.mark.parametrize(("annulus_T", "moved_mm"), [([0.5, 1.75], 10.0), ([5.5, 4.25], 10.0), ([0.5, 0.25], -2.0)])
def test_the_excursion_is_positive_towards_the_apex_from_either_end(annulus_T: list[float], moved_mm: float) -> None:
    stack = Cine("short-axis", np.zeros((2, 7, 48, 48), np.uint8), slice_spacing_mm=8.0)
    assert excursion_mm(np.array(annulus_T), stack, 0, 1) == pytest.approx(moved_mm)
    assert excursion_mm(np.array(annulus_T), replace(stack, slice_spacing_mm=None), 0, 1) is None
    assert excursion_mm(None, stack, 0, 1) is None


def test_reference_ranges_go_by_sex_and_age() -> None:
    assert reference_as_json(Subject(sex="F", age_years=60))["ranges"]["lvef_percent"] == [51, 71]
    assert reference_as_json(Subject(sex="M"))["ranges"]["lvmi_g_m2"] == [35, 71]
    for unknown, reason in ((Subject(), "sex"), (Subject(sex="M", age_years=30), "age")):
        found = reference_as_json(unknown)
        assert not found["ranges"]
        assert reason in found["missing"]


def test_a_header_is_read_and_never_guessed() -> None:
    header = Dataset()
    assert subject_of(header) == Subject()
    header.PatientSize, header.PatientWeight, header.PatientSex, header.PatientAge = 1.8, 80, "F", "061Y"
    header.PatientID = "P-1"
    assert subject_of(header) == Subject(180, 80, "F", 61)
    header.PatientIdentityRemoved = "YES"
    assert subject_of(header).pseudonym == "P-1"
    header.PatientSize, header.PatientWeight, header.PatientSex = 180, 0, "O"
    assert subject_of(header).surface_m2 is None
    assert subject_of(header).sex is None


def test_a_person_may_state_the_body_but_no_impossible_one() -> None:
    assert Subject(170, 70).stated(180, None, "M", None) == Subject(180, 70, "M")
    with pytest.raises(ConfigError, match="height_cm"):
        Subject().stated(1.8, None, None, None)
    assert "180" not in repr(Subject(180, 80))
