"""Scores of a test split: one row per study, computed by the same function that serving calls."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from echoplane.dataset.studies import check_unchanged
from echoplane.dataset.truths import truth_of
from echoplane.errors import InputError, StageError
from echoplane.runtimes import Answer, OpenModel, answer
from echoplane.study.reading import read_study_at
from echoplane.tasks import Rows

SUBGROUPS = ("manufacturer", "sex", "age_band")
UNKNOWN = "unknown"
SCHEMA = pa.schema(
    [
        pa.field("patient", pa.string(), nullable=False),
        pa.field("sample", pa.string(), nullable=False),
        pa.field("label", pa.string()),  # null: "cannot tell"
        pa.field("confidence", pa.float64()),  # null: the task has none
        pa.field("abstained", pa.bool_(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in SUBGROUPS),
        *(pa.field(f"{name}_ms", pa.float64(), nullable=False) for name in ("latency", "preprocess", "inference")),
    ]
)
"""Columns common to all tasks; a task's `score` adds its own."""


FEATURE, EMBEDDING = "feature_", "embedding"
"""Prefix and name of the columns that describe each input, against which drift is measured: one per input feature, and
the embedding."""


def score(table: pa.Table, studies: Path, model: OpenModel, on_progress: Callable[[int, int], None]) -> pa.Table:
    """Scores the catalogue rows `table`, whose uris are relative to `studies`, and returns the rows sorted by sample.

    Studies are scored one after the other, each alone in its batch, as they will be served; otherwise the latencies
    would mean nothing. Raises StageError for a study that changed or cannot be answered.
    """
    rows = sorted(table.to_pylist(), key=lambda row: row["sample"])
    common, own = [], []
    for done, row in enumerate(rows, start=1):
        both = _score(row, studies, model)
        common.append(both[0])
        own.append(both[1])
        on_progress(done, len(rows))
    return _joined(pa.Table.from_pylist(common, schema=SCHEMA), own)


def _joined(scores: pa.Table, own: list[dict[str, Any]]) -> pa.Table:
    for name in own[0]:
        scores = scores.append_column(name, pa.array([row[name] for row in own]))
    return scores


def _score(row: dict[str, Any], studies: Path, model: OpenModel) -> tuple[dict[str, Any], ...]:
    """Returns the columns common to all tasks, and those of this task."""
    path = studies / row["uri"]
    check_unchanged(path, row["sha256"], row["sample"])
    start = time.perf_counter()
    try:
        study = read_study_at(path)
        given = answer(study, model)
        latency_ms = 1000 * (time.perf_counter() - start)
        own = model.bundle.task.score(given.result, study, truth_of(row, studies, study))
    except InputError as error:
        raise StageError(f"sample {row['sample']} of the test split can't be answered: {error}") from error
    common = {
        "patient": row["patient"],
        "sample": row["sample"],
        "label": given.result.label,
        "confidence": given.result.confidence,
        "abstained": given.result.label is None,
        **{name: row[name] or UNKNOWN for name in SUBGROUPS},
        "latency_ms": latency_ms,
        "preprocess_ms": given.timings_ms["preprocess"],
        "inference_ms": given.timings_ms["inference"],
    }
    return common, own | input_columns(given)


def input_columns(given: Answer) -> dict[str, Any]:
    """Returns the features and the embedding of the answered study as columns."""
    features = {f"{FEATURE}{name}": value for name, value in given.features.items()}
    return features | {EMBEDDING: given.embedding.astype(np.float32).tolist()}


def read_scores(path: Path) -> pa.Table:
    table = pq.read_table(path)
    missing = set(SCHEMA.names) - set(table.column_names)
    if missing:
        raise StageError(f"the scores lack {', '.join(sorted(missing))}; run `evaluate` again.")
    return table


def as_rows(scores: pa.Table) -> Rows:
    """Returns scores as the columns that a task's `summary` takes; a column of lists becomes a matrix."""
    return {name: _column(scores[name]) for name in scores.column_names}


def _column(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist()) if pa.types.is_list(column.type) else column.to_numpy()
