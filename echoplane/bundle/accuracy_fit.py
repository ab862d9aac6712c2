"""Fits the accuracy estimate of a classifier: runs the exported network on corrupted copies of validation studies.

Axes: C condition, N study, K label, F feature.
"""

from collections.abc import Callable, Sequence

import numpy as np

from echoplane.bundle.accuracy_model import CLEAN, MIN_STUDIES, AccuracyModel, Condition, fit
from echoplane.bundle.corruptions import KINDS
from echoplane.bundle.embeddings import centre_and_scale, distances
from echoplane.dataset.shards import Shards
from echoplane.study.study import Study
from echoplane.tasks import Task, Thresholds
from echoplane.tasks.task import probabilities_of

Outputs = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""The network: maps a batch to its outputs and embeddings."""
MAX_STUDIES = 100
"""Maximum number of validation studies that are corrupted; it bounds the time of an export."""
SEVERITIES = (0.25, 0.5, 1.0)


def fitted_accuracy(task: Task, thresholds: Thresholds, shards: Shards, outputs: Outputs) -> AccuracyModel | None:
    """Returns the estimate fitted on the validation studies; None for a task that is no classification, or if there are
    fewer than MIN_STUDIES studies."""
    studies = _studies(shards)
    if task.TRUTH != "label" or len(studies) < MIN_STUDIES:
        return None
    wanted = [(CLEAN, 0.0), *((kind, severity) for kind in KINDS for severity in SEVERITIES)]
    probabilities_CNK, embeddings_CNF = _answers(task, thresholds, shards, studies, outputs, wanted)
    centre, scale = centre_and_scale(embeddings_CNF[0])
    truth_N = shards.truths[[rows[0] for rows in studies]]
    conditions = [
        Condition(
            kind,
            probabilities_NK,
            probabilities_NK.argmax(axis=1) == truth_N,
            distances(embeddings_NF, centre, scale),
        )
        for (kind, _), probabilities_NK, embeddings_NF in zip(wanted, probabilities_CNK, embeddings_CNF, strict=True)
    ]
    return fit(conditions, centre, scale)


def _studies(shards: Shards) -> list[np.ndarray]:
    """Returns the rows of each validation study, of at most MAX_STUDIES that are spread over all."""
    rows = shards.rows_of("validation")
    names = shards.index["sample"][rows]
    known = list(dict.fromkeys(names.tolist()))
    chosen = np.linspace(0, max(0, len(known) - 1), min(len(known), MAX_STUDIES)).astype(int)
    return [rows[names == known[number]] for number in chosen]


def _answers(
    task: Task,
    thresholds: Thresholds,
    shards: Shards,
    studies: list[np.ndarray],
    outputs: Outputs,
    wanted: Sequence[tuple[str, float]],
) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities (condition, study, label) and mean embeddings (condition, study, feature) of the studies'
    copies, corrupted by kind and severity as `wanted`."""
    probabilities: list[list[list[float]]] = [[] for _ in wanted]
    embeddings: list[list[np.ndarray]] = [[] for _ in wanted]
    for number, rows in enumerate(studies):
        batch = np.stack([shards.sample(row) for row in rows])
        for condition, (kind, severity) in enumerate(wanted):
            copy = batch if kind == CLEAN else KINDS[kind](batch, severity, np.random.default_rng(number))
            output, embedding = outputs(copy)
            result = task.interpret(output, Study(()), {}, thresholds)
            probabilities[condition].append(list(probabilities_of(result).values()))
            embeddings[condition].append(embedding.mean(axis=0))
    return np.array(probabilities), np.array(embeddings, np.float32)
