"""The figures of a scored test set, `evaluation.json`: plain data that the promotion gate, the report and MLflow
read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from echoplane.bundle import Bundle
from echoplane.dataset.catalogue import PROOF
from echoplane.dataset.split import assert_disjoint
from echoplane.errors import ConfigError
from echoplane.evaluation.intervals import RESAMPLES, bootstrap, take
from echoplane.evaluation.scores import SUBGROUPS, as_rows
from echoplane.runtimes import OpenModel
from echoplane.tasks import Rows, Task

SUBGROUP_RESAMPLES = 400
"""Bootstrap resamples per subgroup; fewer than for all patients, since there are a dozen groups and no decision depends
on their intervals."""


@dataclass(frozen=True)
class Conditions:
    """Conditions under which the figures were measured."""

    resamples: int = RESAMPLES
    seed: int = 0


def check_test_set(catalogue: pa.Table, data_digest: str, split_id: str, bundle: Bundle) -> pa.Table:
    """Returns the catalogue's test rows. Raises ConfigError unless catalogue and split are those that `bundle` was made
    from."""
    for name, found, expected in (
        ("catalogue", data_digest, bundle.spec.data_digest),
        ("split", split_id, bundle.spec.split_id),
    ):
        if found != expected:
            raise ConfigError(
                f"the {name} is {found[:16]}, the bundle was made from {expected[:16]}: its training patients could "
                "be among those tested. Give the dataset that it was trained on."
            )
    assert_disjoint(catalogue["patient"].to_pylist(), catalogue["split"].to_pylist())
    test = catalogue.take(np.flatnonzero(catalogue["split"].to_numpy() == "test"))
    if not len(test):
        raise ConfigError("the dataset has no test study; make its test fraction larger.")
    return test


def evaluation(scores: pa.Table, catalogue: pa.Table, model: OpenModel, conditions: Conditions) -> dict[str, Any]:
    """Returns all figures and the task's own details. A figure is {value, low, high}, where low and high bound the 95%
    interval of a bootstrap over patients."""
    bundle = model.bundle
    task, rows = bundle.task, as_rows(scores)
    intervals = bootstrap(rows, task.summary, conditions.resamples, conditions.seed)
    return {
        "schema": 1,
        "task": bundle.spec.task,
        "bundle_id": bundle.id,
        "split_id": bundle.spec.split_id,
        "data_digest": bundle.spec.data_digest,
        **model.runtime.settings.model_dump(),
        "bootstrap": {"resamples": conditions.resamples, "seed": conditions.seed, "unit": "patient"},
        **_size(rows),
        "figures": _with_intervals(task.summary(rows), intervals),
        "headline": list(task.HEADLINE),
        "labels": {name: _size(take(rows, shown)) for name, shown in task.showing(rows).items()},
        "subgroups": {name: _subgroups(rows, name, task, conditions.seed) for name in SUBGROUPS},
        "latency_ms": _latency(scores),
        "data": _data(catalogue),
    } | task.details(rows)


def _with_intervals(
    figures: dict[str, float], intervals: dict[str, tuple[float, float]]
) -> dict[str, dict[str, float]]:
    return {
        name: {"value": value, "low": intervals[name][0], "high": intervals[name][1]} for name, value in figures.items()
    }


def _size(rows: Rows) -> dict[str, int]:
    return {"patients": len(np.unique(rows["patient"])), "clips": len(rows["patient"])}


def _subgroups(rows: Rows, column: str, task: Task, seed: int) -> dict[str, Any]:
    groups = {}
    for value in sorted(set(rows[column])):
        part = take(rows, np.flatnonzero(rows[column] == value))
        intervals = bootstrap(part, task.summary, SUBGROUP_RESAMPLES, seed)
        groups[str(value)] = _size(part) | {"figures": _with_intervals(task.summary(part), intervals)}
    return groups


def _latency(scores: pa.Table) -> dict[str, float]:
    """Returns percentiles in ms of the time from a study's files to the answer, without HTTP."""
    latency_N = scores["latency_ms"].to_numpy()
    return {
        "p50": float(np.percentile(latency_N, 50)),
        "p95": float(np.percentile(latency_N, 95)),
        "preprocess_p50": float(np.percentile(scores["preprocess_ms"].to_numpy(), 50)),
        "inference_p50": float(np.percentile(scores["inference_ms"].to_numpy(), 50)),
    }


def _data(catalogue: pa.Table) -> dict[str, int]:
    """Returns what the promotion gate checks of the data: over all splits, since a model's weights may reveal training
    data."""
    splits_of: dict[str, set[str]] = {}
    for patient, split in zip(catalogue["patient"].to_pylist(), catalogue["split"].to_pylist(), strict=True):
        splits_of.setdefault(patient, set()).add(split)
    return {
        "samples": len(catalogue),
        "without_deid": sum(not PROOF.fullmatch(deid or "") for deid in catalogue["deid"].to_pylist()),
        "patients_in_two_splits": sum(len(splits) > 1 for splits in splits_of.values()),
    }
