"""Train with Ray Train: several workers, a checkpoint each epoch, going on after a worker or everything was killed.

The loop is `echoplane.training`; what Ray adds is marked [1] to [4]. The driver learns how far the workers are from a
small file beside the checkpoints: the folder is one that all of them reach, whatever machine they are on."""

import contextlib
import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from pydantic import BaseModel, ConfigDict

from echoplane.dataset.shards import read_shards
from echoplane.errors import StageError
from echoplane.tasks import learning as learning_of
from echoplane.training.checkpoint import State, read_state, write_state
from echoplane.training.config import TrainConfig
from echoplane.training.loop import train

ENVIRONMENT = {
    # start-up: watchers and tables that a single training run has no use for
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_USAGE_STATS_ENABLED": "0",
    # a busy machine takes longer than Ray's 60 s to import torch in every worker
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    # workers run at nice 15 otherwise
    "RAY_worker_niceness": "0",
}
THREADS = "ECHOPLANE_TRAINING_THREADS"
"""Cores of one worker, where they are not an equal part of the machine's."""
OBJECT_STORE_BYTES = 100 << 20
"""Nothing but configs and small metrics passes through it; samples are mapped from files."""
SHORT_PATH = 16
"""Characters of a temporary folder under which Ray's sockets still fit the 107 of a Unix socket's path."""
TRIES = 3
POLL_S = 0.5

Progress = Callable[[int, int, float | None], None]
"""Called with the steps done, all of them, and the loss of the last (None before the first)."""


class Job(BaseModel):
    """What every worker is told; `network` and `augmentation` are complete settings of the task's own classes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    samples: str
    """Folder of the dataset stage, where every worker reaches it."""
    network: dict[str, Any]
    augmentation: dict[str, Any]
    training: TrainConfig


def fit(
    job: Job, storage: Path, *, workers: int, fewest: int | None = None, gpu: bool = False, on_progress: Progress
) -> State:
    """The final state of `job`, trained by `workers` processes that keep their checkpoints under `storage`.

    With `fewest` it makes do with that many while there are no more.

    A `storage` that an interrupted call left behind is gone on from, with the same number of steps at the end.
    Raises StageError where training fails more often than TRIES.
    """
    storage.mkdir(parents=True, exist_ok=True)
    with told(storage, job.training.steps, on_progress):
        os.environ |= {name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()}
        import ray  # here: it reads the environment above, and takes seconds

        with _cluster(ray, workers):
            return _fit(job, storage, (fewest, workers) if fewest else workers, gpu)


def _fit(job: Job, storage: Path, workers: int | tuple[int, int], gpu: bool) -> State:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    # [4] start the workers; the same name at the same storage goes on from the last checkpoint
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job.model_dump(mode="json"), "storage": str(storage)},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),  # type: ignore[arg-type]  # typed as Train v1
        run_config=RunConfig(
            name="run",
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=TRIES),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        raise StageError(f"training failed {TRIES + 1} times and was given up: {error}") from error
    state = _last_state(result.checkpoint)
    if state is None:
        raise StageError("training ended without a checkpoint; the training split may be empty.")
    return state


def _worker(settings: dict[str, Any]) -> None:
    """One worker's whole life: the library's loop, told its rank and where to report."""
    import cv2
    import ray.train
    import ray.train.torch

    job, storage = Job(**settings["job"]), Path(settings["storage"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    # a pod sees all cores of its node, and has a few of them
    cores = int(os.environ.get(THREADS) or (os.cpu_count() or 1) // context.get_local_world_size())
    torch.set_num_threads(max(1, cores))
    cv2.setNumThreads(1)
    learning = learning_of(job.task)
    state = _last_state(ray.train.get_checkpoint())
    tell = _telling(storage) if rank == 0 else lambda done, total, loss: None
    tell(state.steps if state else 0, job.training.steps, None)
    train(
        learning,
        read_shards(Path(job.samples)),
        job.training,
        network=learning.Network(**job.network),
        augmentation=learning.Augmentation(**job.augmentation),
        resume_from=state,
        on_progress=tell,
        on_epoch=lambda state: _report(state, rank),
        wrap=ray.train.torch.prepare_model,  # [2] join the gradients
        rank=rank,  # [1] each worker its part of every batch
        world=world,
    )


def _report(state: State, rank: int) -> None:
    """[3] a checkpoint after each epoch, by the first worker; the others wait for it."""
    import ray.train

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = None
        if rank == 0:
            write_state(state, Path(folder))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report(dict(state.history[-1]), checkpoint=checkpoint)


def _last_state(checkpoint: Any) -> State | None:
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return read_state(Path(folder))


@contextlib.contextmanager
def _cluster(ray: Any, workers: int) -> Iterator[None]:
    """The Ray cluster that RAY_ADDRESS names, or one of our own on this machine, gone afterwards."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    logging.getLogger("ray").setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS")
    scratch = None if address else _scratch()
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            # "local": a head that was killed leaves a note behind, and the default would try to join it
            ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=f"{scratch}/r",
                **quiet,
            )
        yield
    finally:
        ray.shutdown()
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


def _scratch() -> Path:
    """A private folder for Ray (which opens its own, inside, to everybody); those of killed runs go."""
    folder = Path(tempfile.gettempdir())
    if len(str(folder)) > SHORT_PATH:
        folder = Path("/tmp")  # noqa: S108 (mkdtemp makes a private folder in it)
    for old in folder.glob("ray-*-*"):
        pid = old.name.split("-")[1]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"ray-{os.getpid()}-", dir=folder))


def _telling(storage: Path) -> Callable[[int, int, float | None], None]:
    """For the first worker: writes how far it is, seldom enough that the driver misses nothing."""
    last = [0.0]

    def tell(done: int, total: int, loss: float | None) -> None:
        if done == total or time.monotonic() - last[0] > 2 * POLL_S:
            last[0] = time.monotonic()
            partial = storage / ".progress.json"
            partial.write_text(json.dumps([done, total, loss]))
            partial.replace(storage / "progress.json")

    return tell


@contextlib.contextmanager
def told(storage: Path, total: int, on_progress: Progress) -> Iterator[None]:
    """For the driver: passes on what the first worker writes, and that time goes by before it does."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_S):
            on_progress(*_progress(storage, total))

    on_progress(*_progress(storage, total))
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    on_progress(*_progress(storage, total))


def _progress(storage: Path, total: int) -> tuple[int, int, float | None]:
    try:
        done, total, loss = json.loads((storage / "progress.json").read_bytes())
    except OSError:
        return 0, total, None
    return done, total, loss
