"""The network over a whole study, in parts, and what is kept of its outputs.

Of a whole cine, the network sees the first phase of the short axis whole and the later ones around what it has found
so far: a heart does not move about in the chest, and most of the picture is not heart.
Axes: B row of the batch, H row, W column, K class."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import ndimage

from echoplane.tasks.cmr_segmentation.cleaning import bounding_box
from echoplane.tasks.cmr_segmentation.structures import BACKGROUND, CLASSES, PLANES, SHOWN
from echoplane.tasks.task import Prepared, Run

ROWS_AT_ONCE = 16
"""Rows of a batch that are run together: a cine of 500 slices must not need 500 slices' activations."""
MARGIN = 24
"""Pixels at least that later phases are seen beyond what earlier ones showed of the heart: more than it moves from one
phase to the next, and what the network needs to see beside it."""
STEP = 16
"""Windows begin and end at multiples of this, as the network's coarsest level counts: it computes there what it would
in the whole picture."""
NEGLIGIBLE = -12.0
"""Logit against background under which a pixel's other classes are not worth an exponential: 6 in a million."""

Window = tuple[slice, slice]
"""Rows and columns of the network's input."""


def infer(run: Run, prepared: Prepared) -> np.ndarray:
    """A record of each row of the batch (see `condense`)."""
    place, batch = prepared.place, prepared.batch
    side = batch.shape[1:]
    seen_HW, found = np.zeros(side, np.intp), []
    for rows, later in _parts(place):
        window = around(seen_HW) if later else _whole(side)
        output = run(np.ascontiguousarray(batch[rows][:, *window]))
        corner = window[0].start, window[1].start
        found.append(condense(output, place["planes"][rows], side, corner, probabilities=place["averaged"]))
        seen_HW += (found[-1]["classes"] != BACKGROUND).sum(axis=0)
    return np.concatenate(found)


def _parts(place: Mapping[str, Any]) -> Iterator[tuple[slice, bool]]:
    """The rows that are run together, and whether they are later phases of a short axis stack.

    Where slices are averaged with their mirrored copies there are two phases at most, and no later ones to speak of.
    """
    rows = place["rows"]
    stack = [row for row in rows[: len(rows) - place["mirrored"]] if row[0] == 0]
    first = sum(row[1] == rows[0][1] for row in stack)
    ends = [len(rows)] if place["averaged"] else [first, len(stack), len(rows)]
    for number, (start, end) in enumerate(pairwise([0, *ends])):
        for k in range(start, end, ROWS_AT_ONCE):
            yield slice(k, min(k + ROWS_AT_ONCE, end)), number == 1


def around(seen_HW: np.ndarray) -> Window:
    """MARGIN beyond the heart, to the next STEP; all of the picture where none was seen.

    `seen_HW` counts the slices that showed a structure at each place, on sides that are multiples of STEP. The heart is
    the part of it that hangs together and was seen most.
    """
    parts, count = ndimage.label(seen_HW > 0)
    if not count:
        return _whole(seen_HW.shape)
    heart = np.bincount(parts.ravel(), weights=seen_HW.ravel()).argmax()
    rows, columns = (
        slice(max(0, (box.start - MARGIN) // STEP * STEP), min(length, -(-(box.stop + MARGIN) // STEP) * STEP))
        for box, length in zip(bounding_box(parts == heart), seen_HW.shape, strict=True)
    )
    return rows, columns


def _whole(side: tuple[int, ...]) -> Window:
    return slice(0, side[0]), slice(0, side[1])


def condense(
    output: np.ndarray,
    planes: Sequence[str],
    side: tuple[int, ...] | None = None,
    corner: tuple[int, int] = (0, 0),
    *,
    probabilities: bool = False,
) -> np.ndarray:
    """A record a row of `output` (B, K, H, W), which lies from `corner` on in pictures of `side`; all else is
    background. Without a side, whole pictures.

    It holds `classes` (row, column) and, for each class, `mass` (the sum of its probability) and `inside` (that sum
    over the pixels of the class): 2 inside / (mass + pixels) is the Dice that the network expects of itself. With
    `probabilities`, `p` (class, row, column) holds these too, at a hundred times the memory.
    """
    side = side or output.shape[2:]
    fields = [("classes", "u1", side), ("mass", "f4", CLASSES), ("inside", "f4", CLASSES)]
    kept = [("p", "f2", (CLASSES, *side))] if probabilities else []
    condensed = np.zeros(len(output), np.dtype(fields + kept))
    for row, logits_KHW, plane in zip(condensed, output, planes, strict=True):
        shown = SHOWN[plane]
        logits_KHW = logits_KHW[list(shown)]
        box = _box(logits_KHW[1:].max(axis=0) - logits_KHW[0] > NEGLIGIBLE)
        boxed_KHW = logits_KHW[:, *box]
        p_KHW = np.exp(boxed_KHW - boxed_KHW.max(axis=0))
        p_KHW /= p_KHW.sum(axis=0)
        there = _moved(box, corner)
        _fill(row, p_KHW, shown, there)
        if probabilities:
            row["p"][BACKGROUND] = 1
            boxed = row["p"][:, *there]
            boxed[list(shown)] = p_KHW
    return condensed


def _box(worth_HW: np.ndarray) -> Window:
    """The smallest box around the pixels that are worth a look; of one pixel where there are none."""
    rows, columns = bounding_box(worth_HW) if worth_HW.any() else (slice(0, 1), slice(0, 1))
    return rows, columns


def _moved(box: Window, corner: tuple[int, int]) -> Window:
    """A box of a window that begins at `corner`, in the whole picture."""
    rows, columns = (slice(along.start + by, along.stop + by) for along, by in zip(box, corner, strict=True))
    return rows, columns


def _fill(row: np.void, p_KHW: np.ndarray, shown: tuple[int, ...], box: Window) -> None:
    """The record of one row from the probabilities of its plane's classes in `box`; all else is background."""
    highest = p_KHW.argmax(axis=0)
    others = row["classes"].size - highest.size
    row["classes"][:] = BACKGROUND
    row["classes"][box] = np.array(shown, np.uint8)[highest]
    row["mass"][list(shown)] = p_KHW.sum(axis=(1, 2))
    row["inside"][list(shown)] = [p[highest == c].sum() for c, p in enumerate(p_KHW)]
    row["mass"][BACKGROUND] += others
    row["inside"][BACKGROUND] += others


def averaged(outputs: np.ndarray, place: Mapping[str, Any]) -> np.ndarray:
    """The short axis rows from the mean of the probabilities of each slice and of its mirrored copy.

    Only where every short axis slice has one (`place["averaged"]`): in a whole cine two phases alone have, and would
    differ in kind from their neighbours. Other studies' outputs are returned as they are.
    """
    if not place["averaged"]:
        return outputs
    found, shown = outputs.copy(), SHOWN[PLANES[0]]
    for plain, mirrored in pairs(place):
        both = outputs["p"][plain].astype(np.float32) + outputs["p"][mirrored][:, :, ::-1]
        box = _box(both[BACKGROUND] < 2)
        _fill(found[plain], both[list(shown), *box] / 2, shown, box)
    return found


def pairs(place: Mapping[str, Any]) -> list[tuple[int, int]]:
    """The row of each slice that is also shown mirrored, and the row of its mirrored copy."""
    count = len(place["rows"]) - place["mirrored"]
    row_of = {tuple(row): k for k, row in enumerate(place["rows"][:count])}
    return [(row_of[tuple(place["rows"][k])], k) for k in range(count, len(place["rows"]))]
