"""Stage `train`: trains weights on shards with Ray Train.

The folder holds `checkpoint.safetensors` (weights) and `training.json` (task, preprocessing, network, augmentation,
training settings, history, steps, split_id, data_digest, the patients seen).
"""

import inspect
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, ValidationError

from echoplane.bundle import Bundle, read
from echoplane.dataset.catalogue import read_catalogue
from echoplane.dataset.description import Description
from echoplane.dataset.shards import SHARDED, read_shards
from echoplane.dataset.split import assert_disjoint
from echoplane.errors import ConfigError, wrong_field
from echoplane.stages.outputs import StageResult, Trained
from echoplane.stages.stage import DatasetManifest, Manifest, StageConfig, run_stage
from echoplane.stages.start import Start
from echoplane.tasks import Learning, Task
from echoplane.training.config import TrainConfig

RAY_FOLDER = "ray"
"""Folder of Ray's checkpoints; it exists only while the stage is unfinished."""


class Config(StageConfig):
    """Trains a task's network on a dataset."""

    excluded_from_cache_key: ClassVar[frozenset[str]] = frozenset({"root", "cluster", "start"})

    samples: DatasetManifest
    """Manifest of the `dataset` stage."""
    start: Start | None = None
    """Bundle whose weights training starts from, such as {"bundle": "models/NAME", "knows_no_patient":
    true}. The network is the bundle's, and `dataset` must have been given it too. If omitted, weights are random."""
    network: dict[str, Any] = {}
    """Settings of the task's network that differ from its defaults."""
    augmentation: dict[str, Any] = {}
    """Settings of the task's augmentation that differ from its defaults."""
    training: TrainConfig = TrainConfig()
    """Steps, batch, learning rate, seed, and the control experiment with shuffled labels."""
    workers: int = Field(default=2, ge=1)
    """Processes that train together; on a CPU, as many as cores."""
    gpu: bool = False
    """Training on one GPU per worker."""
    cluster: dict[str, Any] = {}
    """Kubernetes cluster to train on by a RayJob, such as {"volume": "echoplane-data"}. If omitted, training runs in
    local processes."""


def run(config: Config) -> Manifest:
    """Trains the weights of `config`, or finds them finished; an interrupted run continues from its last checkpoint.

    Raises ConfigError for settings that cannot work, and BundleError if the bundle to start from is damaged.
    """
    start = read(config.start.bundle) if config.start else None
    return run_stage(
        "train", config, lambda folder: _work(config, start, folder), extra_cache_key=start.id if start else ""
    )


def _work(config: Config, start: Bundle | None, folder: Path) -> StageResult:
    from safetensors.torch import save_file

    from echoplane.adapters.ray_training import Job
    from echoplane.tasks import by_name, learning

    samples = config.input("samples").path
    dataset = Description.read(samples)
    patients = _patients_seen(samples)
    _check(config, by_name(dataset.task))
    if start:
        _check_start(config, start, dataset)
    parts = _settings(config, start, learning(dataset.task))
    weights_folder = str(start.folder.resolve()) if start else ""
    job = Job(task=dataset.task, samples=str(samples), start_from=weights_folder, training=config.training, **parts)
    state = _fit(config, job, folder / RAY_FOLDER)
    weights = state.best if config.training.keep == "best" else state.weights
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "checkpoint.safetensors")
    described = dataset.model_dump(mode="json", include={"task", "preprocessing", "split_id", "data_digest"})
    settings = {"training": config.training.model_dump(mode="json"), "workers": config.workers}
    outcome = {
        "started_from": start.id if start else None,
        "steps": state.steps,
        "history": state.history,
        "patients_seen": patients,
    }
    (folder / "training.json").write_text(json.dumps({"schema": 1} | described | parts | settings | outcome, indent=1))
    shutil.rmtree(folder / RAY_FOLDER)
    output = Trained(steps=state.steps, epochs=state.epoch, last=state.history[-1])
    seen = {"patients": {split: len(names) for split, names in patients.items()}}
    identity = {"split_id": dataset.split_id, "data_digest": dataset.data_digest}
    return StageResult(counts=output.model_dump(exclude={"kind"}) | seen | identity, output=output)


def _fit(config: Config, job: Any, storage: Path) -> Any:
    """Returns the trained state: by a RayJob if `cluster` is set, otherwise by local processes."""
    from echoplane.adapters.ray_manifest import RayCluster
    from echoplane.adapters.ray_training import fit
    from echoplane.adapters.rayjob import fit_on_cluster

    progress = printed_with_loss("train")
    if not config.cluster:
        return fit(job, storage, workers=config.workers, gpu=config.gpu, on_progress=progress)
    try:
        cluster = RayCluster(**config.cluster)
    except ValidationError as error:
        raise ConfigError(f"`cluster` is not valid: {wrong_field(error)}") from None
    return fit_on_cluster(job, storage, cluster=cluster, workers=config.workers, gpu=config.gpu, on_progress=progress)


def _check(config: Config, task: Task) -> None:
    """Raises ConfigError for settings that would fail only on the workers, or have no effect."""
    if config.workers > config.training.batch:
        raise ConfigError(
            f"{config.workers} workers can't share a batch of {config.training.batch}; give fewer, or a larger `batch`."
        )
    if config.training.shuffle_labels_seed is not None and task.TRUTH == "masks":
        raise ConfigError("`shuffle_labels_seed` permutes labels; this task learns from masks, which it leaves.")


def _check_start(config: Config, start: Bundle, dataset: Description) -> None:
    """Raises ConfigError if training on the dataset cannot start from the bundle, or might leak test patients."""
    if start.spec.task != dataset.task:
        raise ConfigError(f"`start` is a bundle of {start.spec.task}; the dataset is of {dataset.task}.")
    if config.network:
        raise ConfigError("`network` is that of the bundle in `start`; leave it out.")
    if start.preprocessing.model_dump(mode="json") != dataset.preprocessing:
        raise ConfigError(
            "the dataset is not prepared as the bundle in `start` prepares its input; make it again with the same "
            "`start`."
        )
    knows_no_patient = config.start is not None and config.start.knows_no_patient
    if not knows_no_patient and start.spec.split_id != dataset.split_id:
        raise ConfigError(
            "the bundle in `start` was trained on another split, so it may have learnt from test patients of this "
            "one; if it has seen none of these patients, as is true of shipped bundles, add "
            '"knows_no_patient": true.'
        )


def _settings(config: Config, start: Bundle | None, learning: Learning) -> dict[str, dict[str, Any]]:
    """Returns the complete settings of network and augmentation. Raises ConfigError if one of them, or of the loss, is
    invalid."""
    try:
        inspect.signature(learning.loss).bind(None, None, **config.training.loss)
    except TypeError as error:
        raise ConfigError(f"`training`: the loss has no such setting ({error}).") from None
    try:
        return {
            "network": learning.Network(**(start.spec.network if start else config.network)).model_dump(mode="json"),
            "augmentation": learning.Augmentation(**config.augmentation).model_dump(mode="json"),
        }
    except ValidationError as error:
        raise ConfigError(f"`network` or `augmentation` is not valid: {wrong_field(error)}") from None


def _patients_seen(samples: Path) -> dict[str, list[str]]:
    """Returns the pseudonyms of the training and validation splits. Raises ConfigError if a patient is in two
    splits."""
    catalogue = read_catalogue(samples / "catalogue.parquet")
    index = read_shards(samples).index
    assert_disjoint(
        np.concatenate([catalogue["patient"].to_numpy(), index["patient"]]),
        np.concatenate([catalogue["split"].to_numpy(), index["split"]]),
    )
    return {split: sorted(set(index["patient"][index["split"] == split].tolist())) for split in SHARDED}


def printed_with_loss(stage: str, every_s: float = 1.0, waiting_s: float = 5.0) -> Callable[..., None]:
    """Returns a function that prints "stage done/total elapsed loss": at most once per `every_s`, or per `waiting_s`
    without progress."""
    start, last_s, last_done = time.monotonic(), -waiting_s, -1

    def show(done: int, total: int, loss: float | None) -> None:
        nonlocal last_s, last_done
        now_s = time.monotonic() - start
        ended = done == total
        if (ended and last_done == done) or (
            not ended and now_s - last_s < (waiting_s if done == last_done else every_s)
        ):
            return
        last_s, last_done = now_s, done
        shown = "" if loss is None else f"  loss {loss:.2f}"
        sys.stdout.write(f"{stage} {done}/{total} {now_s:.0f} s{shown}\n")
        sys.stdout.flush()

    return show
