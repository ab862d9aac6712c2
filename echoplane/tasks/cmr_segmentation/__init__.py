"""Segmentation of cine MR (Bai et al., arXiv 1710.09289): turns the cines of a study into masks, measures and flags.

All modules but the last two use numpy without torch, and serve both training and inference.

preparation   preprocessing: cines -> the network's input
inference     the network over a study, batch by batch, and a summary of its outputs
answers       postprocessing: that summary -> masks
base_plane    the basal end of the left ventricle
figures       masks -> measures and flags
structures    the classes, the planes that show them, and partially annotated label maps
drawn         annotated masks -> training samples
calibrating   the threshold under which a result is flagged as unsure
scoring       comparison of masks and measures with annotations: rows, figures, failures
cleaning, measures, overlap, quality, coverage   mask clean-up, volumes, distances, quality control flags
segments, derived   wall thickness by segment; indexed measures, peak rates, reference ranges
greys         random changes of grey values for augmentation
networks, learning                               the parts that need torch
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
    """Returns True if the study holds cine MR: a short axis stack, with or without long axis cines."""
    return bool(study.cines)


def labels() -> tuple[Label, ...]:
    """Returns the classes of a mask, in the order of the network's outputs."""
    return tuple(Label(s.name, s.title, s.code, "DCM" if s.value == 0 else "SCT", s.meaning) for s in STRUCTURES)


def about(thresholds: Thresholds) -> str:
    return (
        "Masks of both ventricles on every phase of a short axis cine, of the atria on long axis cines, and volumes "
        "and function from them; flagged where a rule says that they may be wrong, or where the network "
        f"expects of itself a Dice of the LV cavity under {thresholds.abstain_below:.3f}."
    )


def example(seed: int) -> Study:
    """Returns a small synthetic study: a beating bright cavity in a dark ring, on noise.

    It has 2 phases of 3 slices, 64 x 64 pixels of 1.5 mm.
    """
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
