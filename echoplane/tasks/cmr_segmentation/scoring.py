"""How right masks and measures are: a study's row, the figures of many, and what they stand beside.

Dice, distances and Bland-Altman as in Bai et al. (arXiv 1710.09289), per structure and phase; classes and voxels that
readers did not draw do not count. Axes: N row (one scored study), T phase, Z slice, H row, W column."""

from typing import Any

import numpy as np

from echoplane.study.cine import Cine
from echoplane.study.masks import UNDRAWN, Masks
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import measures as measuring
from echoplane.tasks.cmr_segmentation.drawn import both_ends, checked, drawn_classes
from echoplane.tasks.cmr_segmentation.figures import Segmentation
from echoplane.tasks.cmr_segmentation.overlap import bland_altman, contour_distances, dice
from echoplane.tasks.cmr_segmentation.structures import PLANES, SHOWN, STRUCTURES
from echoplane.tasks.task import Result, Rows, Truth

FAILED = 0.80
"""Mean Dice of the LV cavity under which an answer counts as failed."""
PAPER = (
    "Bai et al. 2018, J Cardiovasc Magn Reson 20:65 (arXiv 1710.09289): the network against its readers; "
    "from memory, so compare with the paper before quoting"
)
READERS = "Bernard et al. 2018, IEEE Trans Med Imaging 37:2514 (ACDC): between two readers"
REFERENCE: dict[str, tuple[float | None, float | None]] = {
    "dice/lv-cavity/ed": (0.94, 0.956),
    "dice/lv-cavity/es": (0.94, 0.898),
    "dice/lv-myocardium/ed": (0.88, 0.870),
    "dice/lv-myocardium/es": (0.88, 0.891),
    "dice/rv-cavity/ed": (0.90, 0.930),
    "dice/rv-cavity/es": (0.90, 0.866),
    "dice/left-atrium/2-chamber/max": (0.93, None),
    "dice/left-atrium/2-chamber/min": (0.93, None),
    "dice/left-atrium/4-chamber/max": (0.95, None),
    "dice/left-atrium/4-chamber/min": (0.95, None),
    "dice/right-atrium/4-chamber/max": (0.96, None),
    "dice/right-atrium/4-chamber/min": (0.96, None),
    "mae/lvedv_ml": (6.1, 10.4),
    "mae/lvesv_ml": (5.3, None),
    "mae/lvm_g": (6.9, 12.6),
    "mae/rvedv_ml": (8.5, 9.2),
    "mae/rvesv_ml": (7.2, None),
}
"""What others reached: PAPER, which gives both phases together, and READERS."""


def score(result: Result, study: Study, truth: Truth) -> dict[str, Any]:
    """`dice/STRUCTURE/PHASE` and both distances likewise, `dice/STRUCTURE` over all of them; of each measure the value,
    its truth and their difference; the flags' names. NaN where there is none."""
    masks = checked(truth, study)
    if not isinstance(result, Segmentation):
        raise TypeError("a segmentation is scored")
    row: dict[str, Any] = dict.fromkeys(COLUMNS, float("nan"))
    for cine in study.cines:
        if cine.plane in masks.labels:
            row |= _overlaps(result.masks[cine.plane], cine, masks)
    for structure in STRUCTURES[1:]:
        found = [v for name, v in row.items() if name.startswith(f"dice/{structure.name}/") and np.isfinite(v)]
        row[f"dice/{structure.name}"] = float(np.mean(found)) if found else float("nan")
    known = true_measures(masks, study)
    for name in measuring.HEADERS:
        measured, expected = result.measures.get(name), known.get(name)
        if measured is None and expected is not None:
            measured = 0.0  # what was not found is wrong by all of it, or failures would improve the means
        row[f"measured/{name}"] = float("nan") if measured is None else float(measured)
        row[f"truth/{name}"] = float("nan") if expected is None else float(expected)
        row[f"error/{name}"] = row[f"measured/{name}"] - row[f"truth/{name}"]
    return row | {"flags": " ".join(sorted({flag.name for flag in result.flags}))}


def _places(plane: str, ends: tuple[int, int]) -> list[tuple[str, int]]:
    """Names and phases of both ends of systole: an atrium is largest where a ventricle is smallest."""
    if plane == PLANES[0]:
        return [("ed", ends[0]), ("es", ends[1])]
    return [(f"{plane}/max", ends[0]), (f"{plane}/min", ends[1])]


def _columns() -> list[str]:
    names = []
    for plane in PLANES:
        for k in SHOWN[plane][1:]:
            names += [f"{kind}/{STRUCTURES[k].name}/{end}" for end, _ in _places(plane, (0, 1)) for kind in KINDS]
    return names


KINDS = ("dice", "distance_mm", "hausdorff_mm")
COLUMNS = tuple(_columns())


def _overlaps(found_TZHW: np.ndarray, cine: Cine, masks: Masks) -> dict[str, float]:
    """Dice and distances of one plane at both ends of systole."""
    truth_TZHW, row = masks.labels[cine.plane], {}
    for end, t in _places(cine.plane, both_ends(truth_TZHW, masks)):
        looked_at = truth_TZHW[t] != UNDRAWN
        for k in drawn_classes(masks, cine.plane):
            ours, theirs = (found_TZHW[t] == k) & looked_at, truth_TZHW[t] == k
            name = f"{STRUCTURES[k].name}/{end}"
            overlap = dice(ours, theirs)
            row[f"dice/{name}"] = float("nan") if overlap is None else overlap
            apart = contour_distances(ours, theirs, cine.spacing_mm) if cine.spacing_mm else None
            row[f"distance_mm/{name}"], row[f"hausdorff_mm/{name}"] = apart or (float("nan"), float("nan"))
    return row


def true_measures(masks: Masks, study: Study) -> dict[str, float | None]:
    """The measures of what was drawn, by the formulas of the answers; those of structures not drawn are left out.

    A stack of which some slices were not looked at has no volumes.
    """
    stack, found = study.cines[0], {}
    labels_TZHW = masks.labels.get(stack.plane)
    if labels_TZHW is not None:
        ed, es = both_ends(labels_TZHW, masks)
        if not (labels_TZHW[[ed, es]] == UNDRAWN).any():
            found = measuring.ventricles(labels_TZHW, stack, ed, es)
            names = {STRUCTURES[k].name for k in drawn_classes(masks, stack.plane)}
            found = {name: v for name, v in found.items() if _structure(name) in names}
    by_structure = {
        (plane, k): labels[:, 0] == k
        for plane, labels in masks.labels.items()
        if plane != stack.plane
        for k in drawn_classes(masks, plane)
    }
    return found | measuring.atria(by_structure, {cine.plane: cine for cine in study.cines})


def _structure(measure: str) -> str:
    return {"lvm_g": "lv-myocardium"}.get(measure, "rv-cavity" if measure.startswith("rv") else "lv-cavity")


def summary(rows: Rows) -> dict[str, float]:
    """Means over studies of what each row holds (Dice and distances), bias and mean absolute error of each measure;
    NaN is left out. `flagged` is the share of answers that carry a flag."""
    figures = {}
    for name, column in rows.items():
        if name.startswith(tuple(f"{kind}/" for kind in KINDS)) and np.isfinite(column).any():
            figures[name] = float(np.nanmean(column))
        if name.startswith("error/") and np.isfinite(column).any():
            figures[f"bias/{name[6:]}"] = float(np.nanmean(column))
            figures[f"mae/{name[6:]}"] = float(np.nanmean(np.abs(column)))
    return figures | {"flagged": float(np.mean(rows["abstained"]))}


def showing(rows: Rows) -> dict[str, np.ndarray]:
    """Rows whose readers drew a structure."""
    return {s.name: np.flatnonzero(np.isfinite(rows[f"dice/{s.name}"])) for s in STRUCTURES[1:]}


def details(rows: Rows) -> dict[str, Any]:
    """Agreement of each measure (Bland and Altman 1986) with its points, what others reached, and failures by name."""
    return {
        "agreement": {name: found for name in measuring.HEADERS if (found := _agreement(rows, name))},
        "reference": {name: {"paper": paper, "readers": readers} for name, (paper, readers) in REFERENCE.items()},
        "sources": {"paper": PAPER, "readers": READERS},
        "failures": _failures(rows),
    }


def _agreement(rows: Rows, name: str) -> dict[str, Any] | None:
    """Bias, limits, mean absolute error and the points (truth, measured); None where nothing was compared."""
    measured_N, truth_N = rows[f"measured/{name}"], rows[f"truth/{name}"]
    both = np.isfinite(measured_N) & np.isfinite(truth_N)
    if not both.any():
        return None
    points = np.stack([truth_N[both], measured_N[both]], axis=1).round(3).tolist()
    return {"title": measuring.HEADERS[name]} | bland_altman(measured_N[both], truth_N[both]) | {"points": points}


def _failures(rows: Rows) -> list[dict[str, Any]]:
    """Studies whose LV cavity was missed, or that were flagged, the worst first."""
    lv_N = rows["dice/lv-cavity"]
    listed = np.flatnonzero((lv_N < FAILED) | np.asarray(rows["abstained"], bool))
    return [
        {
            "sample": str(rows["sample"][n]),
            "dice": None if np.isnan(lv_N[n]) else float(lv_N[n]),
            "failed": bool(lv_N[n] < FAILED),
            "flags": str(rows["flags"][n]).split(),
            "manufacturer": str(rows["manufacturer"][n]),
        }
        for n in sorted(listed, key=lambda n: lv_N[n])
    ]
