"""Segmentation of cine MR (Bai et al., arXiv 1710.09289): a study's cines in, masks, measures and flags out.

This half is numpy alone, for training and serving.

preparation   cines -> the network's input
inference     the network over a study, in parts; what is kept of its outputs
answers       that -> masks
base_plane    where the left ventricle ends at its base
figures       masks -> measures and flags
structures    what is segmented, and which source of labels drew what
drawn         readers' masks -> training samples
calibrating   when an answer is flagged as unsure
scoring       masks and measures against readers': rows, figures, failures
cleaning, measures, overlap, quality, coverage   masks, volumes, distances, flags
networks, learning                     the torch half
"""

from typing import Literal

import numpy as np

from echoplane.study.cine import Cine
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation.answers import interpret
from echoplane.tasks.cmr_segmentation.calibrating import calibrate
from echoplane.tasks.cmr_segmentation.drawn import samples
from echoplane.tasks.cmr_segmentation.figures import Segmentation, from_masks, remeasured
from echoplane.tasks.cmr_segmentation.inference import infer
from echoplane.tasks.cmr_segmentation.preparation import Preprocessing, preprocess
from echoplane.tasks.cmr_segmentation.scoring import details, score, showing, summary
from echoplane.tasks.cmr_segmentation.structures import STRUCTURES
from echoplane.tasks.cmr_segmentation.thresholds import Thresholds
from echoplane.tasks.task import Label

__all__ = [
    "HEADLINE",
    "MODALITY",
    "NAME",
    "STUDY",
    "TRUTH",
    "TRUTH_COLUMN",
    "Preprocessing",
    "Segmentation",
    "Thresholds",
    "about",
    "accepts",
    "calibrate",
    "details",
    "example",
    "from_masks",
    "infer",
    "interpret",
    "labels",
    "preprocess",
    "remeasured",
    "samples",
    "score",
    "showing",
    "summary",
]
NAME = "cmr-segmentation"
STUDY: Literal["folder"] = "folder"
TRUTH: Literal["masks"] = "masks"
TRUTH_COLUMN = ""
MODALITY = "MR"
HEADLINE = ("dice/lv-cavity", "dice/lv-myocardium", "dice/rv-cavity", "mae/lvef_percent", "mae/lvedv_ml", "flagged")


def accepts(study: Study) -> bool:
    """A cine MR, whose short axis may be beside long axes."""
    return bool(study.cines)


def labels() -> tuple[Label, ...]:
    """The classes of a mask, in the order of the network's outputs."""
    return tuple(Label(s.name, s.title, s.code, "DCM" if s.value == 0 else "SCT", s.meaning) for s in STRUCTURES)


def about(thresholds: Thresholds) -> str:
    return (
        "Masks of both ventricles on every phase of a short axis cine, of the atria on long axis cines, and volumes "
        "and function from them; flagged where a rule says that they may be wrong, or where the network "
        f"expects of itself a Dice of the LV cavity under {thresholds.abstain_below:.3f}."
    )


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
