"""Fits the accuracy estimate of a classifier: runs the exported network on corrupted copies of validation studies."""

from collections.abc import Callable, Iterator

import numpy as np

from echoplane.bundle.accuracy_model import CLEAN, MIN_STUDIES, AccuracyModel, Condition, fit
from echoplane.bundle.corruptions import KINDS
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
    answers = [_answers(task, thresholds, shards, studies, outputs, kind, severity) for kind, severity in wanted]
    embeddings = answers[0][1]
    centre, scale = embeddings.mean(axis=0), np.maximum(embeddings.std(axis=0), 1e-6)
    truth_N = shards.truths[[rows[0] for rows in studies]]
    conditions = [
        Condition(
            kind,
            probabilities_NK,
            probabilities_NK.argmax(axis=1) == truth_N,
            np.sqrt((((embedded - centre) / scale) ** 2).mean(axis=1)),
        )
        for (kind, _), (probabilities_NK, embedded) in zip(wanted, answers, strict=True)
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
    kind: str,
    severity: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities (study, label) and mean embeddings (study, feature) of the studies' corrupted copies."""
    probabilities, embeddings = [], []
    for batch in _corrupted(shards, studies, kind, severity):
        output, embedding = outputs(batch)
        result = task.interpret(output, Study(()), {}, thresholds)
        probabilities.append(list(probabilities_of(result).values()))
        embeddings.append(embedding.mean(axis=0))
    return np.array(probabilities), np.array(embeddings, np.float32)


def _corrupted(shards: Shards, studies: list[np.ndarray], kind: str, severity: float) -> Iterator[np.ndarray]:
    for number, rows in enumerate(studies):
        batch = np.stack([shards.sample(row) for row in rows])
        yield batch if kind == CLEAN else KINDS[kind](batch, severity, np.random.default_rng(number))
