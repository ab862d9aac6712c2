"""Measures that follow from others: indexed by body surface, peak rates of ejection and filling, and the excursion of
the mitral annulus.

Axes: T phase."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.signal import savgol_filter

from echoplane.study.cine import Cine
from echoplane.study.subject import Subject
from echoplane.tasks.cmr_segmentation.measures import Curve

INDEXED = {
    "lvedvi_ml_m2": ("lvedv_ml", "LVEDV index (mL/m2)"),
    "lvesvi_ml_m2": ("lvesv_ml", "LVESV index (mL/m2)"),
    "lvsvi_ml_m2": ("lvsv_ml", "LVSV index (mL/m2)"),
    "lvci_l_min_m2": ("lvco_l_min", "Cardiac index (L/min/m2)"),
    "lvmi_g_m2": ("lvm_g", "LVM index (g/m2)"),
    "rvedvi_ml_m2": ("rvedv_ml", "RVEDV index (mL/m2)"),
    "rvesvi_ml_m2": ("rvesv_ml", "RVESV index (mL/m2)"),
    "rvsvi_ml_m2": ("rvsv_ml", "RVSV index (mL/m2)"),
    "lavi_max_ml_m2": ("lav_max_ml", "LAV max index (mL/m2)"),
}
"""Measure that is divided by the body surface, and title, by the name of the quotient."""
RATES = {"lvper_ml_s": "LV peak ejection rate (mL/s)", "lvpfr_ml_s": "LV peak filling rate (mL/s)"}
EXCURSION = {"lv_mapse_mm": "Mitral annular plane excursion (mm)"}
DERIVED_HEADERS = {name: title for name, (_, title) in INDEXED.items()} | RATES | EXCURSION
"""Titles by name; they are the last columns of measures.csv."""
BASE = {name: base for name, (base, _) in INDEXED.items()} | dict.fromkeys((*RATES, *EXCURSION), "lvsv_ml")
"""Measure that a derived one is as doubtful as."""
MIN_PHASES_OF_RATES = 16
"""Minimum number of phases of a beat: with fewer, early filling falls between them and its peak is missed."""
RATE_WINDOW, RATE_ORDER = 5, 3
"""Phases and order of the polynomial whose slope is a rate: it follows a peak that five phases resolve."""
SURFACE_SOURCE = "sqrt(height in cm x weight in kg / 3600), Mosteller, N Engl J Med 1987; 317: 1098"
NO_SURFACE = "height and weight are not stated: nothing is indexed; give both (--height-cm, --weight-kg)"
PETERSEN = (
    "mean +- 2 SD of healthy Caucasians of 45 to 74 years, papillary muscles in the cavity "
    "(UK Biobank; Petersen et al., J Cardiovasc Magn Reson 2017; 19: 18)"
)
REFERENCE_AGES = (45, 74)
REFERENCE = {
    "M": {"lvef_percent": (58, 5), "lvmi_g_m2": (53, 9), "lvsv_ml": (96, 20), "lvsvi_ml_m2": (49, 10)},
    "F": {"lvef_percent": (61, 5), "lvmi_g_m2": (42, 7), "lvsv_ml": (75, 14), "lvsvi_ml_m2": (45, 8)},
}
"""Mean and standard deviation by sex and measure, of PETERSEN; other measures have no range here."""


def derived(
    measures: Mapping[str, float | None], lv: Curve, stack: Cine, ed: int, es: int, annulus_T: np.ndarray | None
) -> dict[str, float | None]:
    """Returns the derived measures in the order of DERIVED_HEADERS; None for those whose parts are unknown.

    `annulus_T` is the position of the mitral annulus in slices, see `base_plane.valve_slices`.
    """
    surface_m2 = stack.subject.surface_m2
    indexed = {
        name: value / surface_m2 if surface_m2 and (value := measures.get(base)) is not None else None
        for name, (base, _) in INDEXED.items()
    }
    rates = dict(zip(RATES, peak_rates_ml_s(lv, stack), strict=True))
    excursion = excursion_mm(annulus_T, stack, ed, es) if lv.size_T.any() else None
    return indexed | rates | dict.fromkeys(EXCURSION, excursion)


def peak_rates_ml_s(lv: Curve, stack: Cine) -> tuple[float | None, float | None]:
    """Returns the peak rates of ejection and filling, both positive, from the slope of the LV volume over a whole beat.

    None without millilitres, without times, or with fewer than MIN_PHASES_OF_RATES phases.
    """
    enough = stack.covers_beat and stack.phases >= MIN_PHASES_OF_RATES and lv.size_T.any()
    if not enough or lv.unit != "mL" or not stack.frame_time_ms:
        return None, None
    step_s = stack.frame_time_ms / 1000
    slope_T = savgol_filter(lv.size_T, RATE_WINDOW, RATE_ORDER, deriv=1, delta=step_s, mode="wrap")
    return float(-slope_T.min()), float(slope_T.max())


def excursion_mm(annulus_T: np.ndarray | None, stack: Cine, ed: int, es: int) -> float | None:
    """Returns how far the mitral valve moves towards the apex from end diastole to end systole, along the normal of the
    short axis; negative if it moves away. Echo measures the same at the edge of the annulus, as MAPSE. None without
    long axis cines or spacing.
    """
    if annulus_T is None or not stack.slice_spacing_mm:
        return None
    towards_apex = -1 if annulus_T[ed] > (stack.slices - 1) / 2 else 1
    return float(towards_apex * (annulus_T[es] - annulus_T[ed]) * stack.slice_spacing_mm)


def body_as_json(subject: Subject) -> dict[str, Any]:
    """Returns the body surface with its source, or what is missing for it."""
    surface_m2 = subject.surface_m2
    known = {"height_cm": subject.height_cm, "weight_kg": subject.weight_kg}
    rounded = None if surface_m2 is None else round(surface_m2, 3)
    return known | {"surface_m2": rounded, "source": SURFACE_SOURCE, "missing": "" if surface_m2 else NO_SURFACE}


def reference_as_json(subject: Subject) -> dict[str, Any]:
    """Returns the reference range of each measure that has one for this sex and age, with its source, or why not."""
    missing, (low, high) = "", REFERENCE_AGES
    if subject.sex is None:
        missing = "sex is not stated: no reference range is shown; give it (--sex)"
    elif subject.age_years is not None and not low <= subject.age_years <= high:
        missing = f"the age is not between {low} and {high} years, for which the source is: no range is shown"
    found = {} if missing else {n: _range(*known) for n, known in REFERENCE[str(subject.sex)].items()}
    return {"ranges": found, "source": PETERSEN, "missing": missing}


def _range(mean: float, deviation: float) -> list[float]:
    return np.round([mean - 2 * deviation, mean + 2 * deviation], 1).tolist()
