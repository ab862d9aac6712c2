"""The answer to one study. Evaluation, the command line and the service all call this one function, so a study gets the
same probabilities from each at the same runtime and precision."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from echoplane.runtimes.features import input_features
from echoplane.runtimes.runtime import OpenModel
from echoplane.study.study import Study
from echoplane.tasks import Result


@dataclass(frozen=True)
class Answer:
    """Result of one study with all warnings of preprocessing and interpretation. `embedding` is the mean (feature) over
    the batch rows that hold a whole image; `features` describes the input; `timings_ms` has preprocess (with decoding),
    inference and interpret."""

    result: Result
    embedding: np.ndarray = field(repr=False)
    features: Mapping[str, float]
    timings_ms: dict[str, float]


def answer(study: Study, model: OpenModel) -> Answer:
    """Returns the answer of `model` to `study`, run alone. Raises InputError if the study cannot be answered."""
    bundle, runtime = model.bundle, model.runtime
    task, start = bundle.task, time.perf_counter()
    prepared = task.preprocess(study, bundle.preprocessing)
    ready = time.perf_counter()
    embeddings: list[np.ndarray] = []

    def run(batch: np.ndarray) -> np.ndarray:
        part = runtime.run(batch)
        if batch.shape[1:] == prepared.batch.shape[1:]:  # a crop is not comparable with a whole image
            embeddings.append(part.embedding)
        return part.output

    outputs = task.infer(run, prepared)
    ran = time.perf_counter()
    result = task.interpret(outputs, study, prepared.place, model.thresholds)
    end = time.perf_counter()
    timings_ms = {"preprocess": ready - start, "inference": ran - ready, "interpret": end - ran}
    return Answer(
        replace(result, warnings=tuple(dict.fromkeys(prepared.warnings + result.warnings))),  # each once per study
        np.concatenate(embeddings).mean(axis=0),
        input_features(study, prepared.batch),
        {name: 1000 * seconds for name, seconds in timings_ms.items()},
    )
