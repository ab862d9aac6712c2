"""Evaluation of masks and measures: one row per study, figures over all studies, and published reference values.

Dice, distances and Bland-Altman are as in Bai et al. (arXiv 1710.09289), per structure and phase; classes and voxels
that are not annotated do not count. Axes: N row (one scored study), T phase, Z slice, H row, W column."""

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
"""Mean Dice of the LV cavity under which a result counts as failed."""
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
"""Published values for comparison, by figure: from PAPER, which gives both phases together, and from READERS."""


def score(result: Result, study: Study, truth: Truth) -> dict[str, Any]:
    """Returns the row of one study; values that do not exist are NaN.

    It holds `dice/STRUCTURE/PHASE` and both distances likewise, `dice/STRUCTURE` as the mean over phases, the value of
    each measure, its ground truth and their difference, and the names of the flags.
    """
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
            measured = 0.0  # a missing structure counts as 0, or failures would improve the means
        row[f"measured/{name}"] = float("nan") if measured is None else float(measured)
        row[f"truth/{name}"] = float("nan") if expected is None else float(expected)
        row[f"error/{name}"] = row[f"measured/{name}"] - row[f"truth/{name}"]
    return row | {"flags": " ".join(sorted({flag.name for flag in result.flags}))}


def _places(plane: str, ends: tuple[int, int]) -> list[tuple[str, int]]:
    """Returns the names of both scored phases, and their numbers: ed and es, or max and min of an atrium."""
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
    """Returns Dice and distances of one plane at its two scored phases."""
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
    """Returns the measures of the annotated masks, by the same formulas as for the network's masks.

    Measures of structures that are not annotated are left out. A stack with slices that are not annotated has no
    volumes.
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
    """Returns means over studies of Dice and distances, and bias and mean absolute error of each measure.

    NaN is left out. `flagged` is the share of results that carry a flag.
    """
    figures = {}
    for name, column in rows.items():
        if name.startswith(tuple(f"{kind}/" for kind in KINDS)) and np.isfinite(column).any():
            figures[name] = float(np.nanmean(column))
        if name.startswith("error/") and np.isfinite(column).any():
            figures[f"bias/{name[6:]}"] = float(np.nanmean(column))
            figures[f"mae/{name[6:]}"] = float(np.nanmean(np.abs(column)))
    return figures | {"flagged": float(np.mean(rows["abstained"]))}


def showing(rows: Rows) -> dict[str, np.ndarray]:
    """Returns the rows in which each structure is annotated, by its name."""
    return {s.name: np.flatnonzero(np.isfinite(rows[f"dice/{s.name}"])) for s in STRUCTURES[1:]}


def details(rows: Rows) -> dict[str, Any]:
    """Returns the agreement of each measure (Bland and Altman 1986) with its points, published values, and failures."""
    return {
        "agreement": {name: found for name in measuring.HEADERS if (found := _agreement(rows, name))},
        "reference": {name: {"paper": paper, "readers": readers} for name, (paper, readers) in REFERENCE.items()},
        "sources": {"paper": PAPER, "readers": READERS},
        "failures": _failures(rows),
    }


def _agreement(rows: Rows, name: str) -> dict[str, Any] | None:
    """Returns bias, limits, mean absolute error and the points (truth, measured); None if nothing was compared."""
    measured_N, truth_N = rows[f"measured/{name}"], rows[f"truth/{name}"]
    both = np.isfinite(measured_N) & np.isfinite(truth_N)
    if not both.any():
        return None
    points = np.stack([truth_N[both], measured_N[both]], axis=1).round(3).tolist()
    return {"title": measuring.HEADERS[name]} | bland_altman(measured_N[both], truth_N[both]) | {"points": points}


def _failures(rows: Rows) -> list[dict[str, Any]]:
    """Returns the studies whose LV cavity has a Dice under FAILED, or that were flagged, the worst first."""
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
