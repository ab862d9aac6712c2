"""Drawn hearts for the tests of cmr-segmentation: rings, and a network that answers them."""

import numpy as np

from echoplane.study.cine import Cine
from echoplane.tasks.cmr_segmentation import structures

LV, MYO, RV, LA, RA = 1, 2, 3, 4, 5


def rings(radii_px: list[list[int]], size: int = 80, **known: object) -> tuple[np.ndarray, Cine]:
    """Labels and bright-blood pictures of discs in rings: `radii_px` a phase, a slice."""
    row, column = np.mgrid[:size, :size]
    distance = np.hypot(row - size / 2, column - size / 2)
    labels_TZHW = np.array(
        [[np.where(distance < r, LV, np.where(distance < r + 6, MYO, 0)) for r in p] for p in radii_px]
    )
    grey = np.choose(labels_TZHW, [60, 220, 30]).astype(np.uint8)
    return labels_TZHW.astype(np.uint8), Cine("short-axis", grey, **known)


def logits_for(labels_BHW: np.ndarray, sure: float = 12.0) -> np.ndarray:
    return sure * (labels_BHW[:, None] == np.arange(structures.CLASSES)[None, :, None, None]).astype(np.float32)
