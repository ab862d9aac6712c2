"""Annotated masks as training samples and as volumes.

Only end diastole and end systole are used for training, as in the paper. Axes: K sample, T phase, Z slice, H row,
W column."""

import cv2
import numpy as np

from echoplane.errors import UnusableStudy
from echoplane.study.cine import Cine, display_turn, turned
from echoplane.study.masks import UNDRAWN, Masks
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation.structures import PLANES, SHOWN, STRUCTURES, target_of, unknown_of
from echoplane.tasks.task import Prepared, Samples, Truth


def samples(study: Study, prepared: Prepared, truth: Truth) -> Samples:
    """Returns image and target of each slice annotated at end diastole or end systole; the label is its plane."""
    masks = checked(truth, study)
    phases = {plane: both_ends(labels, masks) for plane, labels in masks.labels.items()}
    made, strata = [], []
    for k, (number, t, z) in enumerate(prepared.place["rows"][: len(prepared.batch) - prepared.place["mirrored"]]):
        cine = study.cines[number]
        labels_TZHW = masks.labels.get(cine.plane)
        if labels_TZHW is None or t not in phases[cine.plane] or (labels_TZHW[t, z] == UNDRAWN).all():
            continue
        target_HW = _target(labels_TZHW[t, z], cine, masks, prepared.place["sides"][number])
        padded_HW = np.full(prepared.batch.shape[1:], unknown_of(target_HW), np.uint8)
        padded_HW[: target_HW.shape[0], : target_HW.shape[1]] = target_HW
        made.append(np.stack([prepared.batch[k], padded_HW]))
        strata.append(PLANES.index(cine.plane))
    if not made:
        raise UnusableStudy("nothing was drawn on the study's slices.")
    return Samples(np.stack(made), tuple(strata))


def _target(labels_HW: np.ndarray, cine: Cine, masks: Masks, size: tuple[int, int]) -> np.ndarray:
    """Returns the target as the network sees the slice: turned for display, and resampled if the slice was."""
    target_HW = target_of(labels_HW, cine.plane, drawn_classes(masks, cine.plane))
    target_HW[labels_HW == UNDRAWN] = unknown_of(target_HW)
    shown_HW = np.ascontiguousarray(turned(target_HW, display_turn(cine.affine, cine.plane)))
    return shown_HW if shown_HW.shape == size else cv2.resize(shown_HW, size[::-1], interpolation=cv2.INTER_NEAREST)


def drawn_classes(masks: Masks, plane: str) -> tuple[int, ...]:
    """Returns the annotated classes of a plane."""
    values = {s.value for s in STRUCTURES if masks.drawn is None or s.name in masks.drawn}
    return tuple(k for k in SHOWN[plane][1:] if k in values)


def both_ends(labels_TZHW: np.ndarray, masks: Masks) -> tuple[int, int]:
    """Returns the annotated phases in which the plane's first structure is largest and smallest.

    That structure is the LV cavity or an atrium. In the short axis the phases are end diastole and end systole.
    """
    known_T = np.flatnonzero((labels_TZHW != UNDRAWN).any(axis=(1, 2, 3)))
    first = min(set(np.unique(labels_TZHW).tolist()) - {0, UNDRAWN}, default=0)
    size_T = (labels_TZHW[known_T] == first).sum(axis=(1, 2, 3))
    return int(known_T[size_T.argmax()]), int(known_T[size_T.argmin()])


def checked(truth: Truth, study: Study) -> Masks:
    """Returns the masks. Raises UnusableStudy if a class does not belong to its plane, or if `truth` is no mask."""
    if not isinstance(truth, Masks):
        raise UnusableStudy("a cine MR is trained on masks, not on a label.")
    names = {s.name for s in STRUCTURES}
    if wrong := sorted(set(truth.drawn or ()) - names):
        raise UnusableStudy(f"drawn.json names {', '.join(wrong)}; known are {', '.join(sorted(names))}.")
    for plane, labels in truth.labels.items():
        allowed = {*SHOWN[plane], UNDRAWN}
        if strange := sorted(set(np.unique(labels).tolist()) - allowed):
            raise UnusableStudy(f"the {plane} mask has the values {strange}; {sorted(allowed)} mean something there.")
    return truth
