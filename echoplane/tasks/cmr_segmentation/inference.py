"""Inference over a whole study in several batches, and a summary of the network's outputs.

In a whole cine, the network sees the first phase of the short axis in full, and later phases cropped to the heart found
so far: the heart stays in its place, and most of the picture is not heart.
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
"""Maximum number of rows that are run together: a cine of 500 slices must not need the activations of 500 slices."""
MARGIN = 24
"""Minimum margin, in pixels, of the crop of later phases around the heart found in earlier ones: more than the heart
moves from one phase to the next, plus the context that the network needs."""
STEP = 16
"""Crops begin and end at multiples of this, the stride of the network's coarsest level: so it computes the same values
there as in the whole picture."""
NEGLIGIBLE = -12.0
"""Logit relative to background at or under which a class is treated as absent: a probability of 6 in a million."""

Window = tuple[slice, slice]
"""Crop of the network's input: rows and columns."""


def infer(run: Run, prepared: Prepared) -> np.ndarray:
    """Runs the network and returns one record per row of the batch (see `condense`)."""
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
    """Yields the rows that are run together, and True if they are later phases of a short axis stack.

    If slices are averaged with their mirrored copies there are at most two phases, and none counts as later.
    """
    rows = place["rows"]
    stack = [row for row in rows[: len(rows) - place["mirrored"]] if row[0] == 0]
    first = sum(row[1] == rows[0][1] for row in stack)
    ends = [len(rows)] if place["averaged"] else [first, len(stack), len(rows)]
    for number, (start, end) in enumerate(pairwise([0, *ends])):
        for k in range(start, end, ROWS_AT_ONCE):
            yield slice(k, min(k + ROWS_AT_ONCE, end)), number == 1


def around(seen_HW: np.ndarray) -> Window:
    """Returns the crop around the heart with MARGIN, rounded out to STEP; the whole picture if no heart was found.

    `seen_HW` counts, per pixel, the slices that showed a structure; its sides are multiples of STEP. The heart is its
    connected component with the largest sum.
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
    """Returns one record per row of the logits `output` (B, K, H, W).

    `output` is a crop that begins at `corner` of pictures of size `side`; pixels outside it are background. Without
    `side`, it is the whole picture.

    A record holds `classes` (row, column) and, for each class, `mass` (the sum of its probability) and `inside` (that
    sum over the pixels of the class): 2 inside / (mass + pixels) is the Dice that the network expects of itself. With
    `probabilities`, the record also holds them as `p` (class, row, column), which takes a hundred times the memory.
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
    """Returns the smallest box around the pixels that may be other than background; one pixel if there are none."""
    rows, columns = bounding_box(worth_HW) if worth_HW.any() else (slice(0, 1), slice(0, 1))
    return rows, columns


def _moved(box: Window, corner: tuple[int, int]) -> Window:
    """Returns the box, given within a crop that begins at `corner`, in coordinates of the whole picture."""
    rows, columns = (slice(along.start + by, along.stop + by) for along, by in zip(box, corner, strict=True))
    return rows, columns


def _fill(row: np.void, p_KHW: np.ndarray, shown: tuple[int, ...], box: Window) -> None:
    """Fills the record of one row from the probabilities of its plane's classes in `box`; the rest is background."""
    highest = p_KHW.argmax(axis=0)
    others = row["classes"].size - highest.size
    row["classes"][:] = BACKGROUND
    row["classes"][box] = np.array(shown, np.uint8)[highest]
    row["mass"][list(shown)] = p_KHW.sum(axis=(1, 2))
    row["inside"][list(shown)] = [p[highest == c].sum() for c, p in enumerate(p_KHW)]
    row["mass"][BACKGROUND] += others
    row["inside"][BACKGROUND] += others


def averaged(outputs: np.ndarray, place: Mapping[str, Any]) -> np.ndarray:
    """Returns the outputs with each short axis slice averaged with its mirrored copy (mean of the probabilities).

    This needs a mirrored copy of every short axis slice (`place["averaged"]`). In a whole cine only two phases have
    one; averaging them would make them inconsistent with their neighbours, so such outputs are returned as they are.
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
    """Returns the row of each slice that has a mirrored copy, and the row of that copy."""
    count = len(place["rows"]) - place["mirrored"]
    row_of = {tuple(row): k for k, row in enumerate(place["rows"][:count])}
    return [(row_of[tuple(place["rows"][k])], k) for k in range(count, len(place["rows"]))]
