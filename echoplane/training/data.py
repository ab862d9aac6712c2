"""Batches from shards. The samples of an epoch depend only on seed and epoch, never on the number of workers.

Axes: N sample, B batch, D draw of an epoch.
"""

from collections.abc import Callable, Iterator

import numpy as np

from echoplane.dataset.sampling import epoch_rows
from echoplane.dataset.shards import Shards, batches_of_one_shape
from echoplane.training.config import TrainConfig

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Batch = tuple[np.ndarray, np.ndarray]
"""Samples (batch, ...) and their targets (batch): labels, or values of a measurement."""


def training_truths(shards: Shards, shuffle_seed: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns label and target of every row; with a seed, those of the training split are permuted among themselves."""
    order_N, rows = np.arange(len(shards.index["label"])), shards.rows_of("train")
    if shuffle_seed is not None:
        order_N[rows] = np.random.default_rng(shuffle_seed).permutation(rows)
    return shards.index["label"].astype(np.int64)[order_N], shards.truths[order_N]


def training_batches(
    shards: Shards, augment: Augment, config: TrainConfig, *, epoch: int, steps: int, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """Yields the `steps` batches on which worker `rank` of `world` trains in `epoch`, each its part of
    `config.batch`."""
    label_N, truth_N = training_truths(shards, config.shuffle_labels_seed)
    rows = shards.rows_of("train")
    picks_D = epoch_rows(
        label_N[rows],
        shards.index["patient"][rows],
        draws=steps * config.batch,
        seed=config.seed,
        epoch=epoch,
        balance=config.balance,
    )
    for step in range(steps):
        places = range(step * config.batch + rank, (step + 1) * config.batch, world)
        rows_B = [rows[picks_D[place]] for place in places]
        # one generator per draw: the augmentation does not depend on the worker that shows it
        samples = [
            augment(shards.sample(row), np.random.default_rng([config.seed, epoch, place]))
            for row, place in zip(rows_B, places, strict=True)
        ]
        yield np.stack(samples), truth_N[rows_B]


def validation_batches(shards: Shards, batch: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """Yields worker `rank`'s part of the validation split, without augmentation."""
    for rows_B in batches_of_one_shape(shards, shards.rows_of("validation")[rank::world], batch):
        yield np.stack([shards.sample(row) for row in rows_B]), shards.truths[rows_B]
