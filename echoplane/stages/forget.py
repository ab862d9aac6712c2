"""Consent withdrawn: which datasets hold a patient, and which models learned from him or her.

Pseudonyms alone are compared: the person who knows the patient's id gets the pseudonym from `echoplane deid pseudonym`.
Nothing is removed here: a list says what to make again without the patient, and what to take out of service.
"""

import json
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from echoplane.dataset.shards import SHARDED
from echoplane.errors import ConfigError


class Found(BaseModel):
    """Folders below the root that know the patient."""

    model_config = ConfigDict(frozen=True)

    files: list[str] = Field(default=[])
    """De-identified files."""
    datasets: list[str] = Field(default=[])
    """Catalogues with samples of the patient."""
    trainings: list[str] = Field(default=[])
    """Checkpoints that were trained or tuned on the patient."""
    bundles: list[str] = Field(default=[])
    """Bundles that were trained or calibrated on the patient, by the digest of their data."""


def run(root: Path, pseudonym: str) -> Found:
    """All that learned from the patient with this pseudonym, as paths relative to `root`."""
    if not root.is_dir():
        raise ConfigError("`root` is not a folder; give the folder of the stages.")
    digests, datasets = set(), []
    for catalogue in sorted(root.rglob("catalogue.parquet")):
        splits = _splits(catalogue, pseudonym)
        datasets += [catalogue.parent] if splits else []
        if splits & set(SHARDED):  # a test patient is looked at, nothing learns from her
            digests.add(json.loads((catalogue.parent / "dataset.json").read_bytes())["data_digest"])
    trainings = [path.parent for path in sorted(root.rglob("training.json")) if pseudonym in _seen(path)]
    bundles = [path.parent for path in sorted(root.rglob("bundle.json")) if _data_digest(path) in digests]
    files = [path for folder in sorted(root.rglob(pseudonym)) if folder.is_dir() for path in folder.rglob("*.dcm")]
    lists = ([path.relative_to(root).as_posix() for path in paths] for paths in (files, datasets, trainings, bundles))
    return Found(**dict(zip(Found.model_fields, lists, strict=True)))


def _splits(catalogue: Path, pseudonym: str) -> set[str]:
    rows = pq.read_table(catalogue, columns=["patient", "split"]).to_pylist()
    return {row["split"] for row in rows if row["patient"] == pseudonym}


def _seen(training: Path) -> set[str]:
    splits = json.loads(training.read_bytes())["patients_seen"]
    return {patient for patients in splits.values() for patient in patients}


def _data_digest(bundle: Path) -> str | None:
    return json.loads(bundle.read_bytes()).get("data_digest")
