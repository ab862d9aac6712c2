"""`echoplane drift-reference`: studies that a bundle answered in service become those that drift is judged against.

An evaluation is such a reference only for a model that was trained on a laboratory's own studies. A shipped model knows
none of them, and its own test pictures are synthetic: every real study would be drift. So a person looks at the answers
of some weeks, by feedback or by hand, and accepts them; later studies are compared with these.
"""

from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.bundle import read
from echoplane.bundle.spec import ACCURACY, Sha256
from echoplane.errors import ConfigError
from echoplane.evaluation.scores import EMBEDDING, FEATURE
from echoplane.files import write_atomically
from echoplane.monitoring.compaction import logged_rows
from echoplane.monitoring.prediction_log import Row, unpacked
from echoplane.monitoring.reference import Reference, reference_of

RECORD, STUDIES = "reference.json", "studies.parquet"
MIN_REFERENCE = 200
"""Minimum number of accepted studies; ranks among fewer are too coarse to show anything."""


class Config(BaseModel):
    """Accepts the studies of some days as the reference for drift."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bundle: str
    """Folder of the bundle that answered them, such as models/NAME."""
    predictions: str
    """Folder or s3:// address of the prediction log, the service's setting ECHOPLANE_PREDICTION_LOG or
    ECHOPLANE_PREDICTION_LOG_URL."""
    since: date
    """First day of the studies, by UTC, such as 2026-11-02."""
    until: date
    """Last day of the studies."""
    by: str = Field(min_length=1, max_length=100)
    """Person who accepts the answers to these studies."""
    out: str
    """New folder for the reference, such as work/evaluate/november: below the one that the monitor reads
    (ECHOPLANE_EVALUATIONS)."""


class Accepted(BaseModel):
    """Content of `reference.json`, which is written last."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    task: str
    bundle_id: Sha256
    studies: int
    since: date
    until: date
    by: str

    @classmethod
    def read(cls, folder: Path) -> "Accepted":
        """Reads the record in the folder of a reference. Raises ConfigError if there is none of this version."""
        try:
            return cls.model_validate_json((folder / RECORD).read_bytes())
        except (OSError, ValidationError):
            raise ConfigError(f"there is no {RECORD} of this version; run `echoplane drift-reference`.") from None


def run(config: Config) -> Accepted:
    """Writes the reference and returns its record.

    Raises ConfigError if the folder is not empty, the days hold too few studies, or a study lacks what others have.
    """
    folder, bundle = Path(config.out), read(config.bundle)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError("`out` is there and not empty; give a new folder.")
    rows = _accepted(config, bundle.spec.task, bundle.id)
    if len(rows) < MIN_REFERENCE:
        raise ConfigError(
            f"the log holds {len(rows)} studies of these days that this bundle answered; drift needs a reference of "
            f"{MIN_REFERENCE}. Give more days."
        )
    table = _table(rows)
    folder.mkdir(parents=True, exist_ok=True)
    if ACCURACY in bundle.spec.files:
        (folder / ACCURACY).write_bytes(bundle.content(ACCURACY))
    pq.write_table(table, folder / STUDIES)
    record = Accepted(
        task=bundle.spec.task,
        bundle_id=bundle.id,
        studies=len(rows),
        since=config.since,
        until=config.until,
        by=config.by,
    )
    write_atomically(folder / RECORD, record.model_dump_json(indent=1).encode())
    return record


def _accepted(config: Config, task: str, bundle_id: str) -> list[Row]:
    """Returns the rows of these days, one per request."""
    rows = logged_rows(config.predictions, task)
    of_days = (row for row in rows if row.bundle == bundle_id and config.since <= row.time.date() <= config.until)
    return list({row.request_id: row for row in of_days}.values())


def _table(rows: list[Row]) -> pa.Table:
    """Returns label, confidence, features and embedding of each study, in columns named as in the scores of an
    evaluation; request, time and site are left out."""
    names, sizes = rows[0].features.keys(), {len(row.embedding) for row in rows}
    if len(sizes) > 1 or any(row.features.keys() != names for row in rows):
        raise ConfigError("services of two versions answered these studies; give days of one version.")
    embeddings = unpacked([row.embedding for row in rows])
    return pa.table(
        {"label": [row.label for row in rows], "confidence": [row.confidence for row in rows]}
        | {f"{FEATURE}{name}": [row.features[name] for row in rows] for name in sorted(names)}
        | {EMBEDDING: embeddings.tolist()}
    )


def read_accepted(folder: Path) -> Reference:
    """Returns the reference in a folder that `run` wrote."""
    return reference_of_table(pq.read_table(folder / STUDIES))


def reference_of_table(table: pa.Table) -> Reference:
    """Returns the reference of studies with the columns label, confidence, EMBEDDING, and FEATURE of each feature."""
    features = {
        name.removeprefix(FEATURE): table[name].to_pylist() for name in table.column_names if name.startswith(FEATURE)
    }
    embeddings = np.array(table[EMBEDDING].to_pylist(), np.float32)
    return reference_of(table["confidence"].to_pylist(), table["label"].to_pylist(), features, embeddings)
