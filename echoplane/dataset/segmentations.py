"""Shards of image slices with their target masks, for training segmentation networks.

A sample is uint8 (2, row, column): the image as `preprocess` returns it, and its target. The label in the index is the
sample's stratum, by which sampling is balanced. Files of one call may differ in size from those of another.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from echoplane.dataset.shards import INDEX, Shards, read_shards


@dataclass(frozen=True)
class Slice:
    """One training sample with its name, patient and source."""

    sample: np.ndarray
    stratum: int
    name: str
    patient: str
    source: str


def write_slices(slices: Iterable[Slice], folder: Path) -> int:
    """Writes one shard of equally sized slices, all in the split `train`, and returns their number."""
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
    """Returns the slices of several folders as one set, without the patients in `left_out`; those in `validation` form
    the validation split."""
    parts = [read_shards(folder) for folder in folders]
    index = {name: np.concatenate([part.index[name] for part in parts]) for name in parts[0].index}
    first = np.cumsum([0, *(len(part.maps) for part in parts[:-1])])
    index["shard"] = np.concatenate([p.index["shard"] + n for p, n in zip(parts, first, strict=True)])
    index["split"] = np.where(np.isin(index["patient"], sorted(validation)), "validation", "train")
    kept = ~np.isin(index["patient"], sorted(left_out))
    return Shards({name: column[kept] for name, column in index.items()}, tuple(m for p in parts for m in p.maps))
