"""Consent withdrawn: finds the datasets that hold a patient, and the models that learned from the patient.

Only pseudonyms are compared: the person who knows the patient's id gets the pseudonym from `echoplane deid pseudonym`.
Nothing is removed; the list shows what to make again without the patient, and what to take out of service.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from echoplane.dataset.shards import SHARDED
from echoplane.errors import ConfigError
from echoplane.files import file_sha256

T = TypeVar("T")


class Found(BaseModel):
    """Folders below the root that hold data of the patient or learned from it."""

    model_config = ConfigDict(frozen=True)

    files: list[str] = Field(default=[])
    """De-identified files."""
    datasets: list[str] = Field(default=[])
    """Catalogues with samples of the patient."""
    trainings: list[str] = Field(default=[])
    """Checkpoints that were trained or tuned on the patient, or started from a bundle that was."""
    bundles: list[str] = Field(default=[])
    """Bundles that were trained or calibrated on the patient, by the digest of their data, or started from such a
    one."""
    unreadables: list[str] = Field(default=[])
    """Catalogues and records that cannot be read, so it is not known if they contain the patient."""


def run(root: Path, pseudonym: str) -> Found:
    """Returns everything that learned from the patient with this pseudonym, as paths relative to `root`."""
    if not root.is_dir():
        raise ConfigError("`root` is not a folder; give the folder of the stages.")
    unreadable: list[Path] = []
    read_splits = _read(root, "catalogue.parquet", lambda path: _splits(path, pseudonym), unreadable)
    splits = {path: found for path, found in read_splits if found}
    # a model is only evaluated on a test patient and learns nothing from one
    digests = {file_sha256(path) for path, found in splits.items() if found & set(SHARDED)}
    of_trainings = dict(_read(root, "training.json", _seen, unreadable))
    of_bundles = dict(_read(root, "bundle.json", _data_digest, unreadable))
    bundles = {path for path, (digest, _) in of_bundles.items() if digest in digests}
    ids, before = set[str](), -1
    while before < len(bundles):
        ids, before = {file_sha256(path) for path in bundles}, len(bundles)
        bundles |= {path for path, (_, start) in of_bundles.items() if start in ids}
    trainings = [path for path, (seen, start) in of_trainings.items() if pseudonym in seen or start in ids]
    folders = ([path.parent for path in paths] for paths in (splits, trainings, sorted(bundles)))
    files = [path for folder in sorted(root.rglob(pseudonym)) if folder.is_dir() for path in folder.rglob("*.dcm")]
    lists = ([path.relative_to(root).as_posix() for path in paths] for paths in (files, *folders, unreadable))
    return Found(**dict(zip(Found.model_fields, lists, strict=True)))


def _read(root: Path, name: str, read: Callable[[Path], T], unreadable: list[Path]) -> Iterator[tuple[Path, T]]:
    """Yields each file called `name` with what `read` returns for it; an unreadable file is added to `unreadable`
    instead."""
    for path in sorted(root.rglob(name)):
        try:
            yield path, read(path)
        except (OSError, ValueError, KeyError):
            unreadable.append(path)


def _splits(catalogue: Path, pseudonym: str) -> set[str]:
    rows = pq.read_table(catalogue, columns=["patient", "split"]).to_pylist()
    return {row["split"] for row in rows if row["patient"] == pseudonym}


def _seen(training: Path) -> tuple[set[str], str | None]:
    """Returns the patients of a training, and the id of the bundle that it started from."""
    stated = json.loads(training.read_bytes())
    splits = stated["patients_seen"]
    return {patient for patients in splits.values() for patient in patients}, stated.get("started_from")


def _data_digest(bundle: Path) -> tuple[str | None, str | None]:
    """Returns the digest of a bundle's data, and the id of the bundle that its training started from."""
    stated = json.loads(bundle.read_bytes())
    return stated.get("data_digest"), stated.get("started_from")
