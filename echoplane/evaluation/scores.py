"""Scoring a test split: one row a study, by the very function that serving calls."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from echoplane.bundle import Bundle
from echoplane.errors import InputError, StageError
from echoplane.runtimes import Runtime, answer
from echoplane.study.dicom import read_dicom
from echoplane.tasks import Rows

SUBGROUPS = ("manufacturer", "sex", "age_band")
UNKNOWN = "unknown"
SCHEMA = pa.schema(
    [
        pa.field("patient", pa.string(), nullable=False),
        pa.field("sample", pa.string(), nullable=False),
        pa.field("truth", pa.int32(), nullable=False),
        pa.field("truth_label", pa.string(), nullable=False),
        pa.field("label", pa.string()),  # null: "cannot tell"
        pa.field("probabilities", pa.list_(pa.float64()), nullable=False),
        pa.field("confidence", pa.float64(), nullable=False),
        pa.field("abstained", pa.bool_(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in SUBGROUPS),
        *(pa.field(f"{name}_ms", pa.float64(), nullable=False) for name in ("latency", "preprocess", "inference")),
    ]
)


def score(
    table: pa.Table, studies: Path, bundle: Bundle, runtime: Runtime, on_progress: Callable[[int, int], None]
) -> pa.Table:
    """The scores of the catalogue rows `table`, whose uris start from `studies`, sorted by sample.

    One study after the other and alone in its batch: as it will be served, and so that latencies mean something.
    StageError for a study that changed or that can't be answered.
    """
    rows = sorted(table.to_pylist(), key=lambda row: row["sample"])
    names = [label.name for label in bundle.spec.labels]
    scores = []
    for done, row in enumerate(rows, start=1):
        scores.append(_score(row, studies, names, bundle, runtime))
        on_progress(done, len(rows))
    return pa.Table.from_pylist(scores, schema=SCHEMA)


def _score(row: dict[str, Any], studies: Path, names: list[str], bundle: Bundle, runtime: Runtime) -> dict[str, Any]:
    content = (studies / row["uri"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != row["sha256"]:
        raise StageError(f"the study of sample {row['sample']} changed since it was catalogued; run `dataset` again.")
    start = time.perf_counter()
    try:
        given = answer(read_dicom(content), bundle, runtime)
    except InputError as error:
        raise StageError(f"sample {row['sample']} of the test split can't be answered: {error}") from error
    return {
        "patient": row["patient"],
        "sample": row["sample"],
        "truth": names.index(row["label"]),
        "truth_label": row["label"],
        "label": given.result.label,
        "probabilities": list(given.result.probabilities.values()),
        "confidence": given.result.confidence,
        "abstained": given.result.label is None,
        **{name: row[name] or UNKNOWN for name in SUBGROUPS},
        "latency_ms": 1000 * (time.perf_counter() - start),
        "preprocess_ms": given.timings_ms["preprocess"],
        "inference_ms": given.timings_ms["inference"],
    }


def read_scores(path: Path) -> pa.Table:
    table = pq.read_table(path)
    missing = set(SCHEMA.names) - set(table.column_names)
    if missing:
        raise StageError(f"the scores lack {', '.join(sorted(missing))}; run `evaluate` again.")
    return table


def as_rows(scores: pa.Table) -> Rows:
    """Scores as the columns that a task's `summary` takes: `probabilities` as (row, label)."""
    columns = {name: scores[name].to_numpy() for name in ("patient", "sample", "truth", "abstained", *SUBGROUPS)}
    return columns | {"probabilities": np.array(scores["probabilities"].to_pylist())}
