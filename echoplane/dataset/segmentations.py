"""Slices with their targets as shards: what a segmentation is trained on, in the files that every training reads.

A sample is uint8 (2, row, column): the image as `preprocess` gives it, and its target. The label of the index is the
sample's stratum, by which sampling balances. Files of one call may differ in size from those of another."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from echoplane.dataset.shards import INDEX, Shards, read_shards


@dataclass(frozen=True)
class Slice:
    """One training sample and whose it is."""

    sample: np.ndarray
    stratum: int
    name: str
    patient: str
    source: str


def write_slices(slices: Iterable[Slice], folder: Path) -> int:
    """Write one shard of slices of one size, all of them in the split `train`; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    found = list(slices)
    np.save(folder / "clips-0000.npy", np.stack([each.sample for each in found]))
    rows = [
        {"shard": 0, "row": k, "label": s.stratum, "sample": s.name, "patient": s.patient, "split": "train"}
        | {"manufacturer": s.source}
        for k, s in enumerate(found)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=INDEX), folder / "index.parquet")
    return len(found)


def joined(
    folders: Iterable[Path], validation: frozenset[str] = frozenset(), left_out: frozenset[str] = frozenset()
) -> Shards:
    """The slices of several folders as one, without the patients `left_out`, those in `validation` set apart."""
    parts = [read_shards(folder) for folder in folders]
    index = {name: np.concatenate([part.index[name] for part in parts]) for name in parts[0].index}
    first = np.cumsum([0, *(len(part.maps) for part in parts[:-1])])
    index["shard"] = np.concatenate([p.index["shard"] + n for p, n in zip(parts, first, strict=True)])
    index["split"] = np.where(np.isin(index["patient"], sorted(validation)), "validation", "train")
    kept = ~np.isin(index["patient"], sorted(left_out))
    return Shards({name: column[kept] for name, column in index.items()}, tuple(m for p in parts for m in p.maps))
