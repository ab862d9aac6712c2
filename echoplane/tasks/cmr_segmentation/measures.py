"""Volumes, function and mass from masks, as Bai et al. (arXiv 1710.09289) define them.

Volumes are sums of slices (area times slice spacing, known as Simpson's method); nothing is interpolated at base or
apex. If spacings are unknown there are no volumes, only counts of pixels and ratios.
Axes: T phase, Z slice, H row, W column."""

from dataclasses import dataclass

import numpy as np

from echoplane.study.cine import HEART_RATES_BPM, Cine
from echoplane.tasks.cmr_segmentation.structures import LEFT_ATRIUM, LV_CAVITY, MYOCARDIUM, RIGHT_ATRIUM, RV_CAVITY

MYOCARDIUM_G_PER_ML = 1.05
LATER_ED = 1.10
"""Factor between the largest LV volume and that of phase 0 up to which phase 0 is end diastole, as in the paper. Above
it, the phase of the largest volume is taken instead, and a warning is added."""
MAX_TIME_GAP = 0.2
"""Maximum time between two pictures of a slice, as a share of the beat, over which its area is interpolated in time."""
HEADERS = {
    "lvedv_ml": "LVEDV (mL)",
    "lvesv_ml": "LVESV (mL)",
    "lvsv_ml": "LVSV (mL)",
    "lvef_percent": "LVEF (%)",
    "lvco_l_min": "LVCO (L/min)",
    "lvm_g": "LVM (g)",
    "rvedv_ml": "RVEDV (mL)",
    "rvesv_ml": "RVESV (mL)",
    "rvsv_ml": "RVSV (mL)",
    "rvef_percent": "RVEF (%)",
    "lav_max_ml": "LAV max (mL)",
    "lav_min_ml": "LAV min (mL)",
    "rav_max_ml": "RAV max (mL)",
    "rav_min_ml": "RAV min (mL)",
}
"""Columns of measures.csv, as in the paper, by the names used in measures.json."""


@dataclass(frozen=True)
class Curve:
    """Size of a structure at every phase, in mL if spacings are known, else in pixels."""

    size_T: np.ndarray
    unit: str
    """Unit of the sizes: mL or pixels."""


def slice_counts(labels_TZHW: np.ndarray, structure: int, cine: Cine) -> np.ndarray:
    """Returns the pixels of `structure` per phase and slice (T, Z), estimated for slices that the files do not hold.

    A missing slice is interpolated over time if it is present shortly before and after, else between its neighbours.
    At the ends of the stack a missing slice counts 0.
    """
    counts_TZ = (labels_TZHW == structure).sum(axis=(2, 3)).astype(float)
    if cine.present_TZ.all():
        return counts_TZ
    slices, known_TZ = np.arange(cine.slices), known_slices(cine)
    for counts_T, known_T, present_T in zip(counts_TZ.T, known_TZ.T, cine.present_TZ.T, strict=True):
        there = np.flatnonzero(present_T)
        if len(there):
            estimated_T = np.interp(np.arange(cine.phases), there, counts_T[there], period=cine.phases)
            counts_T[known_T] = estimated_T[known_T]
    for counts_Z, known_Z in zip(counts_TZ, known_TZ, strict=True):
        if known_Z.any():
            counts_Z[:] = np.interp(slices, slices[known_Z], counts_Z[known_Z], left=0.0, right=0.0)
    return counts_TZ


def known_slices(cine: Cine) -> np.ndarray:
    """Returns True for each slice (T, Z) with a picture, or, in a whole beat, with one shortly before and after."""
    known_TZ = cine.present_TZ.copy()
    if not cine.covers_beat:
        return known_TZ
    max_gap = max(2, round(MAX_TIME_GAP * cine.phases))
    for known_T in known_TZ.T:
        there = np.flatnonzero(known_T)
        for before, after in zip(there, np.append(there[1:], there[:1] + cine.phases), strict=True):
            if after - before <= max_gap:
                known_T[np.arange(before, after) % cine.phases] = True
    return known_TZ


def volume_curve(labels_TZHW: np.ndarray, structure: int, cine: Cine) -> Curve:
    total_T = slice_counts(labels_TZHW, structure, cine).sum(axis=1)
    return Curve(total_T * cine.voxel_mm3 / 1000, "mL") if cine.voxel_mm3 else Curve(total_T, "pixels")


def end_diastole(lv_T: np.ndarray, covers_beat: bool) -> int:
    """Returns the phase of end diastole: 0 as in the paper, or the largest volume's if the cine starts elsewhere."""
    largest = int(lv_T.argmax())
    starts_there = lv_T[largest] <= LATER_ED * lv_T[0] if covers_beat else lv_T[largest] <= lv_T[0]
    return 0 if starts_there else largest


def end_systole(lv_T: np.ndarray) -> int:
    """Returns the phase of end systole, that of the smallest LV volume."""
    return int(lv_T.argmin())


def ejection_fraction_percent(end_diastolic: float, end_systolic: float) -> float | None:
    """Returns 100 (EDV - ESV) / EDV, from volumes or, for slices of equal spacing, from counts of pixels."""
    return float(100 * (end_diastolic - end_systolic) / end_diastolic) if end_diastolic > 0 else None


def heart_rate_bpm(cine: Cine) -> float | None:
    """Returns the heart rate stated by the scanner, else 60 / (T dt).

    None if the phases do not cover a whole beat, or if the rate is implausible.
    """
    if not cine.covers_beat:
        return None
    rate = cine.heart_rate_bpm or (60_000 / (cine.phases * cine.frame_time_ms) if cine.frame_time_ms else 0.0)
    return rate if HEART_RATES_BPM[0] <= rate <= HEART_RATES_BPM[1] else None


def ventricles(labels_TZHW: np.ndarray, cine: Cine, ed: int, es: int) -> dict[str, float | None]:
    """Returns all measures of the short axis stack; None for those that need an unknown spacing or rate, or a right
    ventricle that was not found."""
    lv, rv, wall = (volume_curve(labels_TZHW, k, cine) for k in (LV_CAVITY, RV_CAVITY, MYOCARDIUM))
    known = lv.unit == "mL"
    rate = heart_rate_bpm(cine)
    stroke = float(lv.size_T[ed] - lv.size_T[es])
    found: dict[str, float | None] = {
        "lvedv_ml": float(lv.size_T[ed]),
        "lvesv_ml": float(lv.size_T[es]),
        "lvsv_ml": stroke,
        "lvm_g": float(wall.size_T[ed]) * MYOCARDIUM_G_PER_ML,
        "rvedv_ml": float(rv.size_T[ed]),
        "rvesv_ml": float(rv.size_T[es]),
        "rvsv_ml": float(rv.size_T[ed] - rv.size_T[es]),
        "lvco_l_min": stroke * rate / 1000 if rate else None,
    }
    if not known:
        found = dict.fromkeys(found)
    if not rv.size_T.any():  # without a right ventricle: no volume, not 0 mL
        found |= dict.fromkeys(("rvedv_ml", "rvesv_ml", "rvsv_ml"))
    found["lvef_percent"] = ejection_fraction_percent(lv.size_T[ed], lv.size_T[es])
    found["rvef_percent"] = ejection_fraction_percent(rv.size_T[ed], rv.size_T[es])
    return {name: found[name] for name in HEADERS if name in found}


def long_axis_length_mm(mask_HW: np.ndarray, spacing_mm: tuple[float, float]) -> float:
    """Returns an atrium's length, the chord of its mask along its principal axis through its centre; 0 if empty."""
    points = np.argwhere(mask_HW) * spacing_mm
    if len(points) < 3:
        return 0.0
    centred = points - points.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    across = np.abs(centred @ np.array([-axis[1], axis[0]]))
    on_axis = centred[across <= 0.75 * max(spacing_mm)] @ axis
    return float(on_axis.max() - on_axis.min() + np.mean(spacing_mm))


def area_length_ml(area_mm2: float, other_area_mm2: float, length_mm: float) -> float | None:
    """Returns 8 / (3 pi) A1 A2 / L; with one plane, A1 and A2 are the same."""
    return 8 / (3 * np.pi) * area_mm2 * other_area_mm2 / length_mm / 1000 if length_mm > 0 else None


def atrial_curve(masks_THW: list[np.ndarray], spacings_mm: list[tuple[float, float]]) -> np.ndarray:
    """Returns the volume (mL) at every phase from one plane, or from two (biplane); NaN if the atrium is not visible.

    Two planes are matched by relative time in the beat, at the phases of the one that has fewer; L is the shorter of
    both lengths (ASE, Lang et al. 2015).
    """
    phases = min(len(mask) for mask in masks_THW)
    volumes_T = np.full(phases, np.nan)
    for t in range(phases):
        masks = [mask[t * len(mask) // phases] for mask in masks_THW]
        areas = [mask.sum() * s[0] * s[1] for mask, s in zip(masks, spacings_mm, strict=True)]
        lengths = [long_axis_length_mm(mask, s) for mask, s in zip(masks, spacings_mm, strict=True)]
        if min(lengths) > 0:
            volumes_T[t] = area_length_ml(areas[0], areas[-1], min(lengths)) or np.nan
    return volumes_T


def atria(masks_THW: dict[tuple[str, int], np.ndarray], cines: dict[str, Cine]) -> dict[str, float | None]:
    """Returns the largest and smallest volumes of the atria, biplane if both planes are present.

    `masks_THW` is by (plane, structure).
    """
    found: dict[str, float | None] = {}
    for name, structure in (("lav", LEFT_ATRIUM), ("rav", RIGHT_ATRIUM)):
        planes = [plane for plane, k in masks_THW if k == structure and cines[plane].spacing_mm]
        spacings = [s for plane in planes if (s := cines[plane].spacing_mm)]
        if not planes:
            continue
        curve_T = atrial_curve([masks_THW[plane, structure] for plane in planes], spacings)
        if np.isfinite(curve_T).any():
            found |= {f"{name}_max_ml": float(np.nanmax(curve_T)), f"{name}_min_ml": float(np.nanmin(curve_T))}
    return found
