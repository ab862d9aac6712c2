"""Scores a cine MR bundle on Sunnybrook patients that it never saw, and on synthetic ones with exact masks.

Everything goes through `runtimes.answer`, as serving and the command line do.
Axes: T phase, Z slice, H row, W column."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.sunnybrook import Patient
from echoplane import runtimes
from echoplane.phantom.cine import Scan, scan_mr, truth
from echoplane.phantom.mr_patient import MrPatient, make_mr_patient
from echoplane.runtimes import OpenModel
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import Segmentation
from echoplane.tasks.cmr_segmentation.measures import ejection_fraction_percent
from echoplane.tasks.cmr_segmentation.overlap import bland_altman, contour_distances, dice
from echoplane.tasks.cmr_segmentation.structures import LEFT_ATRIUM, LV_CAVITY

FAILED, GOOD = 0.80, 0.90
"""Dice under which a patient must be flagged, and from which flags are a nuisance."""


@dataclass(frozen=True)
class Row:
    """One patient's figures; distances in pixels, for the set states no spacing."""

    patient: str
    dice_ed: float
    dice_es: float
    distance_px: float
    hausdorff_px: float
    ef_percent: float
    """Over the slices that readers drew, as the truth's."""
    ef_truth_percent: float
    expected: float
    flags: tuple[str, ...]

    @property
    def dice(self) -> float:
        return (self.dice_ed + self.dice_es) / 2


def score(patient: Patient, model: OpenModel) -> Row:
    found = runtimes.answer(Study((), (patient.cine,)), model).result
    assert isinstance(found, Segmentation)  # noqa: S101
    masks_TZHW = (found.masks["short-axis"] == LV_CAVITY) & patient.drawn_TZ[:, :, None, None]
    sizes_T, found_T = (masks.sum(axis=(1, 2, 3)) for masks in (patient.truth_TZHW, masks_TZHW))
    ed, es = int(sizes_T.argmax()), patient.es
    overlaps = [dice(masks_TZHW[t], patient.truth_TZHW[t]) or 0.0 for t in (ed, es)]
    distances = contour_distances(_slices(masks_TZHW), _slices(patient.truth_TZHW), (1.0, 1.0)) or (np.nan, np.nan)
    return Row(
        patient=patient.name,
        dice_ed=overlaps[0],
        dice_es=overlaps[1],
        distance_px=distances[0],
        hausdorff_px=distances[1],
        ef_percent=ejection_fraction_percent(found_T[ed], found_T[es]) or 0.0,
        ef_truth_percent=ejection_fraction_percent(sizes_T[ed], sizes_T[es]) or 0.0,
        expected=found.confidence,
        flags=tuple(sorted({flag.name for flag in found.flags})),
    )


STRUCTURES_SHOWN = {"short-axis": (1, 2, 3), "2-chamber": (4,), "4-chamber": (4, 5)}
TITLES = {1: "lv", 2: "myocardium", 3: "rv", 4: "la", 5: "ra"}


def score_phantom(seed: int, field: str | None, model: OpenModel) -> dict[str, float]:
    """Figures of the synthetic patient of a seed, as `score_made`."""
    return score_made(make_mr_patient(seed, field), model)


def score_made(patient: MrPatient, model: OpenModel) -> dict[str, float]:
    """Dice by structure over both phases, and errors of the measures, of one synthetic patient."""
    scans = scan_mr(patient, np.array([0.0, patient.heart.systole_share]))
    found = runtimes.answer(Study((), tuple(scan.cine for scan in scans)), model).result
    assert isinstance(found, Segmentation)  # noqa: S101
    row: dict[str, float] = {"flagged": float(bool(found.flags))}
    for scan in scans:
        for k in STRUCTURES_SHOWN[scan.cine.plane]:
            row |= _agreement(found.masks[scan.cine.plane] == k, scan, k)
    known = truth(patient, scans[0])
    for name in ("lvedv_ml", "lvesv_ml", "lvef_percent", "lvm_g", "rvedv_ml", "rvesv_ml"):
        row[f"error/{name}"] = float(found.measures[name] or 0) - float(known[name])
    return row


def _agreement(mask_TZHW: np.ndarray, scan: Scan, structure: int) -> dict[str, float]:
    """Dice over both phases and at each, and contour distances, of one structure in one plane."""
    name = TITLES[structure] + (f"/{scan.cine.plane}" if structure == LEFT_ATRIUM else "")
    truth_TZHW = scan.labels_TZNM == structure
    found = {
        f"dice/{name}": dice(mask_TZHW, truth_TZHW) or 0.0,
        f"dice/{name}/ed": dice(mask_TZHW[0], truth_TZHW[0]) or 0.0,
        f"dice/{name}/es": dice(mask_TZHW[1], truth_TZHW[1]) or 0.0,
    }
    distances = contour_distances(_slices(mask_TZHW), _slices(truth_TZHW), scan.cine.spacing_mm or (1.0, 1.0))
    return found | dict(
        zip((f"distance_mm/{name}", f"hausdorff_mm/{name}"), distances or (np.nan, np.nan), strict=True)
    )


def summary_phantom(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Means of Dice, Bland-Altman of errors."""
    names = list(rows[0])
    columns = {name: np.array([row[name] for row in rows]) for name in names}
    return {"patients": len(rows)} | {
        name: bland_altman(c, np.zeros(len(c))) if name.startswith("error/") else float(np.nanmean(c))
        for name, c in columns.items()
    }


def _slices(masks_TZHW: np.ndarray) -> np.ndarray:
    return masks_TZHW.reshape(-1, *masks_TZHW.shape[2:])


def summary(rows: list[Row]) -> dict[str, Any]:
    """Means over patients, Bland-Altman of the ejection fraction, and what the flags caught."""
    failed = [row for row in rows if row.dice < FAILED]
    good = [row for row in rows if row.dice >= GOOD]
    ef_truth_N = np.array([row.ef_truth_percent for row in rows])
    return {
        "patients": len(rows),
        "dice_ed": float(np.mean([row.dice_ed for row in rows])),
        "dice_es": float(np.mean([row.dice_es for row in rows])),
        "dice": float(np.mean([row.dice for row in rows])),
        "distance_px": float(np.mean([row.distance_px for row in rows])),
        "hausdorff_px": float(np.mean([row.hausdorff_px for row in rows])),
        "ef_percent": bland_altman(np.array([row.ef_percent for row in rows]), ef_truth_N),
        "failed": len(failed),
        "failed_and_flagged": sum(bool(row.flags) for row in failed),
        "good": len(good),
        "good_but_flagged": sum(bool(row.flags) for row in good),
    }
