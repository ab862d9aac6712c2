"""Prepared samples in files that training maps into memory: clips-NNNN.npy (uint8) and index.parquet.

One row of a shard is one element of what `task.preprocess` gives, without its first axis. The test split has no
shards: evaluation reads the studies themselves, as serving does. Axes: N sample."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from echoplane.dataset.parallel import in_order
from echoplane.dataset.split import assert_disjoint
from echoplane.errors import ConfigError, InputError
from echoplane.study.dicom import read_dicom
from echoplane.tasks import by_name

ROWS_A_SHARD = 4096
SHARDED = ("train", "validation")
INDEX = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),  # place in the task's labels
        *(pa.field(name, pa.string(), nullable=False) for name in ("sample", "patient", "split", "manufacturer")),
    ]
)


@dataclass(frozen=True)
class Shards:
    """What training reads: the index as columns, and the samples on demand."""

    index: dict[str, np.ndarray]
    maps: tuple[np.ndarray, ...]

    def rows_of(self, split: str) -> np.ndarray:
        """Rows of the index that belong to `split`."""
        return np.flatnonzero(self.index["split"] == split)

    def sample(self, row: int) -> np.ndarray:
        """The sample of row `row` of the index: a view of the file, read-only."""
        return self.maps[self.index["shard"][row]][self.index["row"][row]]


def write_shards(
    table: pa.Table,
    studies: Path,
    task: str,
    preprocessing: BaseModel,
    folder: Path,
    *,
    workers: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Prepare the train and validation samples of a catalogue; the same bytes however many `workers`.

    `studies` is the folder that the catalogue's uris start from. Returns why samples were left out, and how many.
    """
    rows = [row for row in table.to_pylist() if row["split"] in SHARDED]
    prepare = functools.partial(_prepare, studies=studies, task=task, preprocessing=preprocessing)
    names = [label.name for label in by_name(task).labels()]
    shards, left_out, index = _Writer(folder), Counter[str](), []
    for done, (row, batch) in enumerate(zip(rows, in_order(prepare, rows, workers), strict=True), start=1):
        if isinstance(batch, str):
            left_out[batch] += 1
        else:
            index += [_index_row(row, names) | place for place in shards.append(batch)]
        on_progress(done, len(rows))
    shards.flush()
    pq.write_table(pa.Table.from_pylist(index, schema=INDEX), folder / "index.parquet")
    return dict(sorted(left_out.items()))


def read_shards(folder: Path) -> Shards:
    """The shards of a finished dataset folder; ConfigError where a patient is in two splits."""
    table = pq.read_table(folder / "index.parquet")
    index = {name: table[name].to_numpy() for name in table.column_names}
    assert_disjoint(index["patient"], index["split"])
    if not len(table):
        raise ConfigError("the dataset holds no train or validation sample; see `left_out` in its manifest.")
    paths = [folder / f"clips-{number:04d}.npy" for number in range(int(index["shard"].max()) + 1)]
    return Shards(index, tuple(np.load(path, mmap_mode="r") for path in paths))


def _prepare(row: dict[str, Any], studies: Path, task: str, preprocessing: BaseModel) -> np.ndarray | str:
    """What the task makes of one catalogued file; or why it can't."""
    try:
        return by_name(task).preprocess(read_dicom(studies / row["uri"]), preprocessing).batch
    except InputError as error:
        return f"unusable: {error.kind}"


def _index_row(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: row[name] for name in ("sample", "patient", "split", "manufacturer")} | {
        "label": names.index(row["label"])
    }


class _Writer:
    """Collects samples and writes a shard whenever one is full."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0
        self._waiting: list[np.ndarray] = []

    def append(self, batch: np.ndarray) -> Iterator[dict[str, int]]:
        """Add every element of `batch`; yields where each went."""
        for sample in batch:
            if len(self._waiting) == ROWS_A_SHARD:
                self.flush()
            yield {"shard": self._number, "row": len(self._waiting)}
            self._waiting.append(sample)

    def flush(self) -> None:
        if self._waiting:
            np.save(self._folder / f"clips-{self._number:04d}.npy", np.stack(self._waiting))
            self._number, self._waiting = self._number + 1, []
