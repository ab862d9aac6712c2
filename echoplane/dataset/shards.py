"""Prepared samples in files that training memory-maps: clips-NNNN.npy (uint8) and index.parquet.

Each row of a shard is one sample of `task.samples`; all samples of a shard have one shape. The test split has no
shards: evaluation reads the studies themselves, as serving does. Axes: N sample.
"""

import functools
import itertools
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
from echoplane.dataset.truths import truth_of
from echoplane.errors import ConfigError, InputError
from echoplane.study.reading import read_study_at
from echoplane.tasks import Samples, by_name

ROWS_A_SHARD = 4096
SHARDED = ("train", "validation")
INDEX = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),  # as in `Samples`
        *(pa.field(name, pa.string(), nullable=False) for name in ("sample", "patient", "split", "manufacturer")),
        pa.field("value", pa.float64()),  # as in `Samples`
    ]
)


@dataclass(frozen=True)
class Shards:
    """Training data: the index as columns, and samples on demand."""

    index: dict[str, np.ndarray]
    maps: tuple[np.ndarray, ...]

    def rows_of(self, split: str) -> np.ndarray:
        """Returns the rows of the index that belong to `split`."""
        return np.flatnonzero(self.index["split"] == split)

    @property
    def truths(self) -> np.ndarray:
        """Target of each row of the index: the value of a measurement, otherwise the label."""
        value_N = self.index.get("value")
        if value_N is not None and np.isfinite(value_N).any():
            return value_N
        return self.index["label"].astype(np.int64)

    def sample(self, row: int) -> np.ndarray:
        """Returns the sample at `row` of the index as a read-only view of the file."""
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
    """Prepares the training and validation samples of a catalogue; the bytes do not depend on the number of `workers`.

    `studies` is the folder to which the uris of the catalogue are relative. Returns the number of samples left out, by
    reason.
    """
    rows = [row for row in table.to_pylist() if row["split"] in SHARDED]
    prepare = functools.partial(_prepare, studies=studies, task=task, preprocessing=preprocessing)
    shards, left_out, index = _Writer(folder), Counter[str](), list[dict[str, Any]]()
    for done, (row, made) in enumerate(zip(rows, in_order(prepare, rows, workers), strict=True), start=1):
        if isinstance(made, str):
            left_out[made] += 1
        else:
            values = made.values or (None,) * len(made.labels)
            for label, value, place in zip(made.labels, values, shards.append(made.samples), strict=True):
                index.append(_index_row(row) | {"label": label, "value": value} | place)
        on_progress(done, len(rows))
    shards.flush()
    pq.write_table(pa.Table.from_pylist(index, schema=INDEX), folder / "index.parquet")
    return dict(sorted(left_out.items()))


def read_shards(folder: Path) -> Shards:
    """Reads the shards of a finished dataset folder. Raises ConfigError if a patient is in two splits."""
    table = pq.read_table(folder / "index.parquet")
    index = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    assert_disjoint(index["patient"], index["split"])
    if not len(table):
        raise ConfigError("the dataset holds no train or validation sample; see `left_out` in its manifest.")
    paths = [folder / f"clips-{number:04d}.npy" for number in range(int(index["shard"].max()) + 1)]
    return Shards(index, tuple(np.load(path, mmap_mode="r") for path in paths))


def batches_of_one_shape(shards: Shards, rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yields `rows` in order, in parts of at most `size` whose samples all have one shape."""
    for _, same in itertools.groupby(rows, key=lambda row: shards.sample(row).shape):
        while part := list(itertools.islice(same, size)):
            yield np.array(part)


def _prepare(row: dict[str, Any], studies: Path, task: str, preprocessing: BaseModel) -> Samples | str:
    """Returns the samples of one catalogued study, or the reason why it gives none."""
    try:
        study, half = read_study_at(studies / row["uri"]), by_name(task)
        return half.samples(study, half.preprocess(study, preprocessing), truth_of(row, studies, study))
    except InputError as error:
        return f"unusable: {error.kind}"


def _index_row(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("sample", "patient", "split", "manufacturer")}


class _Writer:
    """Collects samples and writes a shard if one is full or the next sample has another shape."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0
        self._waiting: list[np.ndarray] = []

    def append(self, batch: np.ndarray) -> Iterator[dict[str, int]]:
        """Adds every element of `batch` and yields the shard and row that each was given."""
        for sample in batch:
            if len(self._waiting) == ROWS_A_SHARD or (self._waiting and self._waiting[0].shape != sample.shape):
                self.flush()
            yield {"shard": self._number, "row": len(self._waiting)}
            self._waiting.append(sample)

    def flush(self) -> None:
        if self._waiting:
            np.save(self._folder / f"clips-{self._number:04d}.npy", np.stack(self._waiting))
            self._number, self._waiting = self._number + 1, []
