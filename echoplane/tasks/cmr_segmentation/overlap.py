"""How well two masks agree: Dice and contour distances, as Bai et al. (arXiv 1710.09289) define them.

A contour is the mask's pixels that touch what is outside, by an edge. Distances are in the unit of the spacing, slice
by slice where both contours exist, averaged over slices. Axes: Z slice, H row, W column, P point."""

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

CROSS = ndimage.generate_binary_structure(2, 1)


def dice(a: np.ndarray, b: np.ndarray) -> float | None:
    """2 |A and B| / (|A| + |B|) over all axes; None where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int(np.logical_and(a, b).sum()) / total if total else None


def contour_points(mask_HW: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """Border pixels (point, row and column) in mm."""
    mask_HW = np.asarray(mask_HW, bool)
    return np.argwhere(mask_HW & ~ndimage.binary_erosion(mask_HW, CROSS)) * np.asarray(spacing_mm, float)


def slice_distances(a_HW: np.ndarray, b_HW: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[float, float] | None:
    """Mean contour distance (half the sum of both directed means) and Hausdorff (the larger directed maximum), mm."""
    a_P, b_P = contour_points(a_HW, spacing_mm), contour_points(b_HW, spacing_mm)
    if not len(a_P) or not len(b_P):
        return None
    forth, back = cKDTree(b_P).query(a_P)[0], cKDTree(a_P).query(b_P)[0]
    return float(forth.mean() + back.mean()) / 2, float(max(forth.max(), back.max()))


def contour_distances(
    a_ZHW: np.ndarray, b_ZHW: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[float, float] | None:
    """Both distances averaged over the slices that hold both contours; None where there is no such slice."""
    found = [d for a, b in zip(a_ZHW, b_ZHW, strict=True) if (d := slice_distances(a, b, spacing_mm))]
    return (float(np.mean([d[0] for d in found])), float(np.mean([d[1] for d in found]))) if found else None


def bland_altman(measured: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Bias, 95% limits of agreement (1.96 deviations of the differences) and mean absolute error, with their n."""
    difference = np.asarray(measured, float) - np.asarray(reference, float)
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    bias = float(difference.mean())
    return {
        "n": len(difference),
        "bias": bias,
        "low": bias - 1.96 * spread,
        "high": bias + 1.96 * spread,
        "mae": float(np.abs(difference).mean()),
    }
