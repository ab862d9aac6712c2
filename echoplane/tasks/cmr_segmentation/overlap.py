"""Agreement of two masks: Dice and contour distances, as Bai et al. (arXiv 1710.09289) define them.

A contour is the set of mask pixels that share an edge with a pixel outside. Distances are in the unit of the spacing,
computed in each slice that has both contours, and averaged over slices. Axes: Z slice, H row, W column, P point."""

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

CROSS = ndimage.generate_binary_structure(2, 1)


def dice(a: np.ndarray, b: np.ndarray) -> float | None:
    """Returns 2 |A and B| / (|A| + |B|) over all axes; None if both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int(np.logical_and(a, b).sum()) / total if total else None


def contour_points(mask_HW: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """Returns the border pixels (point, row and column) in mm."""
    mask_HW = np.asarray(mask_HW, bool)
    return np.argwhere(mask_HW & ~ndimage.binary_erosion(mask_HW, CROSS)) * np.asarray(spacing_mm, float)


def slice_distances(a_HW: np.ndarray, b_HW: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[float, float] | None:
    """Returns mean contour distance and Hausdorff distance of one slice in mm; None if a contour is missing.

    The mean is half the sum of both directed means, the Hausdorff distance the larger directed maximum.
    """
    a_P, b_P = contour_points(a_HW, spacing_mm), contour_points(b_HW, spacing_mm)
    if not len(a_P) or not len(b_P):
        return None
    forth, back = cKDTree(b_P).query(a_P)[0], cKDTree(a_P).query(b_P)[0]
    return float(forth.mean() + back.mean()) / 2, float(max(forth.max(), back.max()))


def contour_distances(
    a_ZHW: np.ndarray, b_ZHW: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[float, float] | None:
    """Returns both distances averaged over the slices that have both contours; None if there is no such slice."""
    found = [d for a, b in zip(a_ZHW, b_ZHW, strict=True) if (d := slice_distances(a, b, spacing_mm))]
    return (float(np.mean([d[0] for d in found])), float(np.mean([d[1] for d in found]))) if found else None


def bland_altman(measured: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Returns n, bias, 95% limits of agreement (1.96 standard deviations of the differences), mean absolute error."""
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
