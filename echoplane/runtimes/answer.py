"""The answer to one study. Evaluation, the command line and the service all call this one function, so a study gets
the same probabilities from each at the same runtime and precision."""

import time
from dataclasses import dataclass, field, replace

import numpy as np

from echoplane.bundle import Bundle
from echoplane.runtimes.runtime import Runtime
from echoplane.study.study import Study
from echoplane.tasks import Result

ROWS_AT_ONCE = 16
"""Rows of a batch that are run together: a cine of 500 slices must not need 500 slices' activations."""


@dataclass(frozen=True)
class Answer:
    """`result` carries all warnings, of preparing and of interpreting; `embedding` is the batch's mean (feature);
    `timings_ms` has preprocess (with decoding), inference and interpret."""

    result: Result
    embedding: np.ndarray = field(repr=False)
    timings_ms: dict[str, float]


def answer(study: Study, bundle: Bundle, runtime: Runtime) -> Answer:
    """What `bundle` says of `study`, run alone and in parts; InputError where the study can't be answered."""
    task, start = bundle.task, time.perf_counter()
    prepared = task.preprocess(study, bundle.preprocessing)
    ready = time.perf_counter()
    outputs, embeddings = [], []
    for first in range(0, len(prepared.batch), ROWS_AT_ONCE):
        part = runtime.run(prepared.batch[first : first + ROWS_AT_ONCE])
        outputs.append(task.condense(part.output, prepared.place, first))
        embeddings.append(part.embedding)
    ran = time.perf_counter()
    result = task.interpret(np.concatenate(outputs), study, prepared.place, bundle.thresholds)
    end = time.perf_counter()
    timings_ms = {"preprocess": ready - start, "inference": ran - ready, "interpret": end - ran}
    return Answer(
        replace(result, warnings=prepared.warnings + result.warnings),
        np.concatenate(embeddings).mean(axis=0),
        {name: 1000 * seconds for name, seconds in timings_ms.items()},
    )
