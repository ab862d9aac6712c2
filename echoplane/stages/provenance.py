"""Origin of a bundle, as far as the root of its run shows: data set, de-identification reports, training.

It becomes part of the decision, which is signed, so `echoplane why` can state it when the root is gone. It holds counts
and digests, never a pseudonym.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from echoplane.bundle.spec import Spec

MAX_LISTED = 50
SETTINGS_OF_TRAINING = ("training", "workers", "steps", "augmentation", "started_from")


def provenance(root: Path, spec: Spec) -> dict[str, Any]:
    """Returns the provenance of a bundle; a part that is not under `root` is None."""
    return {
        "run": os.environ.get("KFP_POD_NAME") or os.environ.get("ECHOPLANE_RUN") or None,
        "code": spec.code.model_dump(),
        "data_digest": spec.data_digest,
        "split_id": spec.split_id,
        "dataset": _dataset(root, spec),
        "training": _training(root, spec),
    }


def _dataset(root: Path, spec: Spec) -> dict[str, Any] | None:
    """Returns counts by split and the proofs of de-identification of the data set with the bundle's digest."""
    import pyarrow.parquet as pq

    columns = ["patient", "split", "deid", "site", "manufacturer"]
    for folder, stated in _described(root / "dataset", "dataset.json"):
        if stated.get("data_digest") == spec.data_digest:
            rows = pq.read_table(folder / "catalogue.parquet", columns=columns).to_pylist()
            splits = sorted({row["split"] for row in rows})
            return {
                "samples": {split: sum(row["split"] == split for row in rows) for split in splits},
                "patients": {split: len({row["patient"] for row in rows if row["split"] == split}) for split in splits},
                "deidentification": _values(rows, "deid"),
                "sites": _values(rows, "site"),
                "manufacturers": _values(rows, "manufacturer"),
                "split": stated.get("split"),
            }
    return None


def _values(rows: list[dict[str, Any]], column: str) -> list[str]:
    """Returns the values of a column, the first MAX_LISTED of them."""
    return sorted({str(row[column]) for row in rows if row[column]})[:MAX_LISTED]


def _training(root: Path, spec: Spec) -> dict[str, Any] | None:
    """Returns the settings and the last figures of the training of this network on this data; None if two fit."""
    fitting = [
        stated
        for _, stated in _described(root / "train", "training.json")
        if stated.get("data_digest") == spec.data_digest and stated.get("network") == spec.network
    ]
    if len(fitting) != 1:
        return None
    (stated,) = fitting
    history = stated.get("history") or [None]
    return {name: stated.get(name) for name in SETTINGS_OF_TRAINING} | {"last": history[-1]}


def _described(folder: Path, name: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields each finished result in `folder` with its description; an unreadable one is left out."""
    for path in sorted(folder.glob(f"*/{name}")):
        if path.parent.suffix != ".partial":
            try:
                stated = json.loads(path.read_bytes())
            except (OSError, ValueError):
                continue
            if isinstance(stated, dict):
                yield path.parent, stated
