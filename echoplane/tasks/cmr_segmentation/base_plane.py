"""Basal end of the left ventricle: slices through atrium or outflow tract are not counted as ventricle.

With long axis cines, the mitral valve is taken to lie where the left atrium ends. Without them, a basal slice counts as
ventricle if myocardium surrounds at least half of its blood (SCMR: Schulz-Menger et al., J Cardiovasc Magn Reson 2020;
22: 19). In systole the valve moves towards the apex, so no slice beyond the base of end diastole belongs to the
ventricle at another phase. Axes: T phase, Z slice, H row, W column."""

from collections.abc import Mapping

import cv2
import numpy as np

from echoplane.study.cine import Cine
from echoplane.tasks.cmr_segmentation.structures import LEFT_ATRIUM, LV_CAVITY, MYOCARDIUM

MIN_SURROUNDED = 0.5
"""Minimum share of the cavity's outline along myocardium for a basal slice to count as ventricle."""
MAX_REMOVED_SLICES = 2
"""Maximum number of basal slices with a cavity that may be removed at one phase; if there are more, the masks that
suggest it are more likely wrong, and none is removed."""
ANNULUS_SHARE = 0.1
"""Share of the atrium, nearest to the apex, whose mean position is taken as that of the valve."""
ANNULUS_PIXELS = 20
"""Pixels of the atrium, nearest to the apex, whose mean position shows the motion of the valve. A share of the atrium
would understate it by a sixth: the atrium is largest at end systole, when its share reaches further from the valve."""
MIN_ATRIUM_PIXELS = 30
VALVE_MARGIN_SLICES = 0.25
"""Minimum distance beyond the valve, in slices, of the middle of a slice that counts as atrium: the position of the
heart differs by some millimetres between breath holds."""


def ventricle_without_atrium(
    labels_TZHW: np.ndarray, stack: Cine, ed: int, valve_T: np.ndarray | None
) -> tuple[np.ndarray, int]:
    """Returns the labels without LV cavity beyond the base, and the number of slices (over all phases) that changed.

    `valve_T` is the position of the mitral valve in slices, see `valve_slices`.
    """
    cavity_TZ = (labels_TZHW == LV_CAVITY).any(axis=(2, 3))
    if not cavity_TZ[ed].any():
        return labels_TZHW, 0
    order = from_base(labels_TZHW[ed])
    beyond_TZ = np.zeros_like(cavity_TZ)
    first = int(np.argmax(cavity_TZ[ed, order]))
    beyond_TZ[:, order[:first]] = stack.present_TZ[ed, order[:first]]
    for t in range(stack.phases):
        beyond_TZ[t, _open_slices(labels_TZHW[t], order)] = True
        if valve_T is not None and np.isfinite(valve_T[t]):
            side = 1 if order[0] == 0 else -1
            beyond_Z = (valve_T[t] - np.arange(stack.slices)) * side > VALVE_MARGIN_SLICES
            if (beyond_Z & cavity_TZ[t]).sum() <= MAX_REMOVED_SLICES:
                beyond_TZ[t] |= beyond_Z
    removed_TZ = beyond_TZ & cavity_TZ
    if not removed_TZ.any():
        return labels_TZHW, 0
    out = labels_TZHW.copy()
    out[(labels_TZHW == LV_CAVITY) & removed_TZ[:, :, None, None]] = 0
    return out, int(removed_TZ.sum())


def from_base(labels_ZHW: np.ndarray) -> np.ndarray:
    """Returns the slice numbers from base to apex; the base is the end towards which the cavity is wider."""
    area_Z = (labels_ZHW == LV_CAVITY).sum(axis=(1, 2)).astype(float)
    there, numbers = np.flatnonzero(area_Z), np.arange(len(area_Z))
    wider_first = not len(there) or area_Z[there] @ (there - there.mean()) <= 0  # missing slices do not count
    return numbers if wider_first else numbers[::-1]


def surrounded_share(labels_HW: np.ndarray) -> float:
    """Returns the share of the LV cavity's outline that runs along myocardium; NaN without a cavity."""
    cavity_HW = (labels_HW == LV_CAVITY).astype(np.uint8)
    outline_HW = (cv2.dilate(cavity_HW, np.ones((3, 3), np.uint8)) > 0) & (cavity_HW == 0)
    return float((labels_HW[outline_HW] == MYOCARDIUM).mean()) if outline_HW.any() else float("nan")


def _open_slices(labels_ZHW: np.ndarray, order: np.ndarray) -> list[int]:
    """Returns the most basal slices whose cavity myocardium does not surround; none if there are too many of them."""
    found = []
    for z in order:
        share = surrounded_share(labels_ZHW[z])
        if np.isnan(share):
            continue
        if share >= MIN_SURROUNDED:
            break
        found.append(int(z))
    return found if len(found) <= MAX_REMOVED_SLICES else []


def valve_slices(
    masks: Mapping[str, np.ndarray], cines: Mapping[str, Cine], stack: Cine, *, pixels: int | None = None
) -> np.ndarray | None:
    """Returns the position of the mitral valve at every phase of the stack, in slices of it (T); None if unknown.

    It is the mean over long axis planes of the part of the left atrium that lies nearest to the apex: ANNULUS_SHARE of
    its mask, or as many pixels as `pixels` says.
    """
    if stack.affine is None or stack.slices < 2:
        return None
    to_slices = np.linalg.inv(stack.affine)[2]
    found = [
        _atrium_ends(masks[plane], cine, to_slices, stack, pixels)
        for plane, cine in cines.items()
        if plane != stack.plane and cine.affine is not None
    ]
    found = [places_T for places_T in found if np.isfinite(places_T).all()]
    return np.mean(found, axis=0) if found else None


def _atrium_ends(
    labels_TZHW: np.ndarray, cine: Cine, to_slices: np.ndarray, stack: Cine, pixels: int | None
) -> np.ndarray:
    """Returns the apical end of the left atrium of one long axis cine, at every phase of the stack, in slices.

    NaN at phases at which the atrium is missing or too small.
    """
    places_T = np.full(stack.phases, np.nan)
    middle = (stack.slices - 1) / 2
    for t in range(stack.phases):
        rows, columns = np.nonzero(labels_TZHW[t * cine.phases // stack.phases, 0] == LEFT_ATRIUM)
        if len(rows) < MIN_ATRIUM_PIXELS:
            continue
        points = np.stack([columns, rows, np.zeros_like(rows), np.ones_like(rows)])
        slices = np.sort(to_slices @ cine.affine @ points)
        count = pixels or max(1, int(ANNULUS_SHARE * len(slices)))
        places_T[t] = slices[-count:].mean() if slices.mean() < middle else slices[:count].mean()
    return places_T
