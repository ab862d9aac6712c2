"""Explanation of a classification by occlusion (Zeiler and Fergus 2014, arXiv 1311.2901).

One cell of the network's input at a time is blurred, in all frames; the loss of the answer's probability says how much
the answer depends on that part. It runs on the model that answers, through the same lease and the same post-processing.
Axes: N row of the batch, H row, W column.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import cv2
import numpy as np

from echoplane.errors import InputError, UnusableStudy
from echoplane.runtimes import OpenModel
from echoplane.study.study import Study
from echoplane.tasks import Result, probabilities_of
from echoplane.tasks.task import Prepared
from serving.api.decoding.pool import Decoders
from serving.api.inference.answer import Received, StudyRefused
from serving.api.models.slots import Model, Slot

GRIDS = (8, 6, 4)
"""Cells along each side of the input, the finest first: the first that fits the time is taken."""


@dataclass(frozen=True)
class Explanation:
    """Loss of the most probable label's probability for each blurred cell, (row, column) from the top left."""

    label: str
    probability: float
    losses: np.ndarray
    input_shape: tuple[int, int]
    """Rows and columns of the network's input, which the cells divide evenly."""
    corner: tuple[int, int] | None
    """Top and left of the scan region in the file's frame; None if the task does not state it."""


def explain_file(
    file: BinaryIO, slot: Slot, decoders: Decoders, received: Received, budget_s: float
) -> tuple[Model, Explanation]:
    """Explains the answer to one file. Raises StudyRefused if there is nothing to explain, or it would take longer than
    `budget_s`; NoModel if the task has none."""
    with slot.lease() as model:
        try:
            with decoders.reading(file, received.deadline, received.request_id) as study:
                return model, explain(study, model, budget_s)
        except InputError as error:
            raise StudyRefused(error, slot.task) from None


def explain(study: Study, model: OpenModel, budget_s: float) -> Explanation:
    """Returns the explanation of the answer to `study`. Raises UnusableStudy if the answer is no classification."""
    task, bundle = model.bundle.task, model.bundle
    prepared = task.preprocess(study, bundle.preprocessing)

    def answer(batch: np.ndarray) -> Result:
        changed = replace(prepared, batch=batch)
        outputs = task.infer(lambda part: model.runtime.run(part).output, changed)
        return task.interpret(outputs, study, prepared.place, model.thresholds)

    start_s = time.perf_counter()
    probabilities = probabilities_of(answer(prepared.batch))
    if not probabilities:
        raise UnusableStudy("only a classification is explained; this task's answer is none.")
    cells = affordable_grid(time.perf_counter() - start_s, budget_s)
    label = max(probabilities, key=probabilities.__getitem__)
    losses = np.zeros((cells, cells))
    for row, column, occluded in occluded_batches(prepared, cells):
        losses[row, column] = probabilities[label] - probabilities_of(answer(occluded))[label]
    shape = prepared.batch.shape[-2:]
    return Explanation(label, probabilities[label], losses, (shape[0], shape[1]), _corner(prepared.place))


def affordable_grid(one_s: float, budget_s: float) -> int:
    """Returns the finest grid whose inferences, `one_s` each, take at most `budget_s`. Raises UnusableStudy if none
    does."""
    for cells in GRIDS:
        if cells * cells * one_s <= budget_s:
            return cells
    raise UnusableStudy(
        f"an explanation would take {GRIDS[-1] ** 2 * one_s:.0f} s here; at most {budget_s:.0f} s are allowed."
    )


def occluded_batches(prepared: Prepared, cells: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields (row, column, batch) with that cell of every image blurred."""
    batch = prepared.batch
    rows, columns = batch.shape[-2:]
    size = (2 * (columns // cells) + 1, 2 * (rows // cells) + 1)
    images = batch.reshape(-1, rows, columns)
    blurred = np.stack([cv2.blur(image, size) for image in images]).reshape(batch.shape)
    row_edges, column_edges = (np.linspace(0, side, cells + 1).round().astype(int) for side in (rows, columns))
    for row in range(cells):
        for column in range(cells):
            part = (
                ...,
                slice(row_edges[row], row_edges[row + 1]),
                slice(column_edges[column], column_edges[column + 1]),
            )
            occluded = batch.copy()
            occluded[part] = blurred[part]
            yield row, column, occluded


def _corner(place: Mapping[str, Any]) -> tuple[int, int] | None:
    return (int(place["top"]), int(place["left"])) if {"top", "left"} <= set(place) else None
