"""Segmentation of cine MR (Bai et al., arXiv 1710.09289): a study's cines in, masks, measures and flags out.

This half is numpy alone, for training and serving.

preparation   cines -> the network's input
answers       the network's outputs -> masks, measures and flags
structures    what is segmented, and which source of labels drew what
cleaning, measures, overlap, quality   masks, volumes, distances, flags
networks, learning                     the torch half
"""

import numpy as np

from echoplane.study.cine import Cine
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation.answers import Segmentation, condense, interpret
from echoplane.tasks.cmr_segmentation.preparation import Preprocessing, preprocess
from echoplane.tasks.cmr_segmentation.structures import STRUCTURES
from echoplane.tasks.task import Label, Rows

__all__ = [
    "NAME",
    "Preprocessing",
    "Segmentation",
    "condense",
    "example",
    "interpret",
    "labels",
    "preprocess",
    "summary",
]
NAME = "cmr-segmentation"


def labels() -> tuple[Label, ...]:
    """The classes of a mask, in the order of the network's outputs."""
    return tuple(Label(s.name, s.title, s.code, "DCM" if s.value == 0 else "SCT", s.meaning) for s in STRUCTURES)


def summary(rows: Rows) -> dict[str, float]:
    """Means over studies of what each row holds (Dice by structure and phase, errors of measures); NaN is left out."""
    figures = {}
    for name, column in rows.items():
        if name.startswith(("dice/", "distance_mm/", "hausdorff_mm/")) and np.isfinite(column).any():
            figures[name] = float(np.nanmean(column))
        if name.startswith("error/") and np.isfinite(column).any():
            figures[f"bias/{name[6:]}"] = float(np.nanmean(column))
            figures[f"mae/{name[6:]}"] = float(np.nanmean(np.abs(column)))
    return figures | {"flagged": float(np.mean(rows["abstained"]))}


def example(seed: int) -> Study:
    """A bright cavity in a dark ring that beats, on noise: 2 phases of 3 slices, 64 x 64 pixels of 1.5 mm."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:64, :64]
    voxels_TZHW = rng.integers(40, 90, (2, 3, 64, 64))
    for t in range(2):
        for z in range(3):
            distance = np.hypot(row - 32, column - 32 - seed % 7)
            radius = 14 - 4 * t - 2 * z
            voxels_TZHW[t, z][distance < radius + 6] = 60
            voxels_TZHW[t, z][distance < radius] = 210
    cine = Cine("short-axis", voxels_TZHW.astype(np.uint8), (1.5, 1.5), 10.0, covers_beat=False)
    return Study((), (cine,))
