"""What a decision says of the data and training behind a bundle: counts and digests, no pseudonym."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from echoplane.bundle import read
from echoplane.stages.provenance import provenance
from tests.tiny_bundle import DATA_DIGEST, SPLIT_ID, make_tiny_bundle


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "dataset" / "other" / "dataset.json", {"data_digest": "f" * 64})
    write(tmp_path / "dataset" / "mine" / "dataset.json", {"data_digest": DATA_DIGEST, "split": {"rule": "rank"}})
    rows = [
        {"patient": f"P-{number}", "split": split, "deid": "a" * 64, "site": "lakeside", "manufacturer": "Acme"}
        for number, split in enumerate(("train", "train", "test"))
    ]
    pq.write_table(pa.Table.from_pylist([*rows, rows[0]]), tmp_path / "dataset" / "mine" / "catalogue.parquet")
    training = {"data_digest": DATA_DIGEST, "network": {}, "steps": 30, "history": [{"loss": 2.0}, {"loss": 1.0}]}
    write(tmp_path / "train" / "one" / "training.json", training | {"patients_seen": {"train": ["P-0"]}})
    return tmp_path


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))


def test_data_and_training_are_told_by_counts_and_digests(root: Path, tmp_path: Path) -> None:
    spec = read(make_tiny_bundle(tmp_path / "bundle")).spec
    found = provenance(root, spec)
    assert (found["data_digest"], found["split_id"]) == (DATA_DIGEST, SPLIT_ID)
    assert found["dataset"] == {
        "samples": {"test": 1, "train": 3},
        "patients": {"test": 1, "train": 2},
        "deidentification": ["a" * 64],
        "sites": ["lakeside"],
        "manufacturers": ["Acme"],
        "split": {"rule": "rank"},
    }
    assert (found["training"]["steps"], found["training"]["last"]) == (30, {"loss": 1.0})
    assert "P-0" not in json.dumps(found)


def test_what_is_not_under_the_root_is_none_and_two_trainings_are_not_guessed(root: Path, tmp_path: Path) -> None:
    spec = read(make_tiny_bundle(tmp_path / "bundle")).spec
    empty = provenance(tmp_path / "nowhere", spec)
    assert (empty["dataset"], empty["training"]) == (None, None)
    again = json.loads((root / "train" / "one" / "training.json").read_text())
    write(root / "train" / "two" / "training.json", again)
    (root / "train" / "broken").mkdir()
    (root / "train" / "broken" / "training.json").write_text("{")
    assert provenance(root, spec)["training"] is None
