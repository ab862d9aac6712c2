"""Clean-up of the network's class maps: removes voxels that cannot belong to their structure.

Axes: T phase, Z slice, H row, W column."""

import cv2
import numpy as np
from scipy import ndimage

from echoplane.tasks.cmr_segmentation.structures import BACKGROUND, LV_CAVITY, MYOCARDIUM, RV_CAVITY

REACH_PIXELS = 3
"""Distance up to which the cavities of neighbouring slices count as connected: the heart moves between breath holds,
so near the apex the cavity of one slice need not touch that of the next."""
NOTCH = np.ones((2, 2), bool)
"""Smallest shape that must fit into a notch of the cavity for the notch to count as papillary muscle."""
BRIDGE = 0.25
"""Maximum half width of a bridge between two chambers, as a share of the radius of the cavity."""
SMALL_PIXELS = 10
"""Size in pixels above which a second component counts as a separate structure (Bai et al.: 10 px)."""


def cleaned_stack(labels_ZHW: np.ndarray, present_Z: np.ndarray | None = None) -> np.ndarray:
    """Returns one phase of the short axis without components that are separate from the heart.

    Slices that the files do not hold (`present_Z` is False) are skipped: the slices on both sides of such a gap count
    as neighbours.
    """
    if present_Z is not None and not present_Z.all():
        cleaned_ZHW = np.zeros_like(labels_ZHW)
        cleaned_ZHW[present_Z] = cleaned_stack(labels_ZHW[present_Z])
        return cleaned_ZHW
    if not labels_ZHW.size:
        return labels_ZHW
    out = np.zeros_like(labels_ZHW)
    box = bounding_box(labels_ZHW)
    part_ZHW, kept_ZHW = labels_ZHW[box], out[box]
    heart = largest(part_ZHW != BACKGROUND)
    for structure in (RV_CAVITY, MYOCARDIUM, LV_CAVITY):
        kept = (part_ZHW == structure) & heart
        if structure == LV_CAVITY:
            kept = np.stack(
                [
                    with_papillary(filled(mask), muscle)
                    for mask, muscle in zip(
                        on_one_axis(largest(kept, REACH_PIXELS)), kept_ZHW == MYOCARDIUM, strict=True
                    )
                ]
            )
        kept_ZHW[kept] = structure
    return out


def on_one_axis(cavity_ZHW: np.ndarray) -> np.ndarray:
    """Returns the cavity without other chambers that a bridge narrower than half of it connects to it at the base.

    Of the parts of a slice, the one that overlaps most with the cavity of the other slices is kept.
    """
    out, others_HW = cavity_ZHW.copy(), cavity_ZHW.sum(axis=0)
    for kept_HW, mask_HW in zip(out, cavity_ZHW, strict=True):
        radius = round(BRIDGE * np.sqrt(mask_HW.sum() / np.pi))
        if not radius:
            continue
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        opened_HW = cv2.morphologyEx(mask_HW.astype(np.uint8), cv2.MORPH_OPEN, disc)
        count, parts_HW = cv2.connectedComponents(opened_HW, connectivity=4)
        if count > 2:
            there = np.bincount(parts_HW.ravel(), weights=(others_HW - mask_HW).ravel(), minlength=count)
            part_HW = (parts_HW == 1 + there[1:].argmax()).astype(np.uint8)
            kept_HW &= cv2.dilate(part_HW, disc) > 0
    return out


def filled(mask_HW: np.ndarray) -> np.ndarray:
    """Returns the mask with its holes filled."""
    contours, _ = cv2.findContours(mask_HW.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(mask_HW.shape, np.uint8), contours, -1, 1, cv2.FILLED) > 0


def with_papillary(cavity_HW: np.ndarray, muscle_HW: np.ndarray) -> np.ndarray:
    """Returns the cavity including the papillary muscles, as annotators contour it: myocardium inside its convex hull.

    Slivers along a straight border remain myocardium: a hull of pixels is always a little larger than its contents.
    """
    contours, _ = cv2.findContours(cavity_HW.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return cavity_HW
    hull_HW = np.zeros(cavity_HW.shape, np.uint8)
    cv2.fillConvexPoly(hull_HW, cv2.convexHull(np.concatenate(contours)), 1)
    notches_HW = (hull_HW > 0) & muscle_HW & ~cavity_HW
    return cavity_HW | ndimage.binary_opening(notches_HW, NOTCH) if notches_HW.any() else cavity_HW


def bounding_box(labels: np.ndarray) -> tuple[slice, ...]:
    """Returns the box around all labelled voxels, to limit the work to it; the whole array if none is labelled."""
    if not labels.any():
        return tuple(slice(0, n) for n in labels.shape)
    box = []
    for axis in range(labels.ndim):
        there = np.flatnonzero(labels.any(axis=tuple(k for k in range(labels.ndim) if k != axis)))
        box.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(box)


def cleaned_slice(labels_HW: np.ndarray, structures: tuple[int, ...]) -> np.ndarray:
    """Returns the largest component of each structure of one long axis picture."""
    out = np.zeros_like(labels_HW)
    for structure in structures[1:]:
        out[largest(labels_HW == structure)] = structure
    return out


def largest(mask: np.ndarray, reach: int = 0) -> np.ndarray:
    """Returns the largest connected component (face neighbours) of a mask; the mask itself if it is whole or empty.

    Before labelling, each slice is dilated by `reach` pixels, so components that are close to each other are joined.
    """
    if not mask.any():
        return mask
    joined = mask
    if reach:
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        joined = np.stack([cv2.dilate(slice_HW.astype(np.uint8), ellipse) for slice_HW in mask])
    parts, count = ndimage.label(joined)
    if count < 2:
        return mask
    sizes = np.bincount(parts[mask], minlength=count + 1)
    return np.asarray(mask & (parts == sizes.argmax()))


def component_sizes(mask_HW: np.ndarray) -> list[int]:
    """Returns the number of pixels of each connected component, the largest first."""
    parts, count = ndimage.label(mask_HW)
    return sorted(np.bincount(parts.ravel(), minlength=count + 1)[1:].tolist(), reverse=True)
