"""Trains with Ray Train: several workers, one checkpoint per epoch, resumed if a worker or everything was killed.

The loop is `echoplane.training`; what Ray adds is marked [1] to [4]. The first worker renames each checkpoint into
place on the shared storage, and it counts from that moment. A checkpoint reported to Ray Train would count only after
the controller, on the head, has polled every worker; losing the head before that would cost a second interval. The
driver reads the workers' progress from a small file beside the checkpoints.
"""

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file

from echoplane.adapters.local_ray import ray_cluster
from echoplane.bundle.spec import WEIGHTS
from echoplane.dataset.shards import read_shards
from echoplane.errors import StageError
from echoplane.tasks import learning as learning_of
from echoplane.training.checkpoint import FILE as STATE_FILE
from echoplane.training.checkpoint import State, read_state, write_state
from echoplane.training.config import TrainConfig
from echoplane.training.loop import Wrap, train

ENVIRONMENT = {
    # skipped at start-up: watchers and tables that a single training run does not use
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
"""Variable with the cores of one worker; unset, each worker gets an equal part of the machine's."""
TRIES = 3
POLL_S = 0.5
CHECKPOINTS, CHECKPOINTS_KEPT = "checkpoints", 2
FAILURE = "failure.txt"
"""Name of the file with the reason why no retry can succeed; a worker writes it, the driver reads it."""

Progress = Callable[[int, int, float | None], None]
"""Called with the steps done, the total, and the loss of the last step (None before the first)."""


class Job(BaseModel):
    """Settings shared by all workers; `network` and `augmentation` are complete settings of the task's own classes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    samples: str
    """Folder of the dataset stage, accessible to every worker."""
    start_from: str = ""
    """Folder of the bundle with the weights to start from, accessible to every worker; empty for random ones."""
    network: dict[str, Any]
    augmentation: dict[str, Any]
    training: TrainConfig


def fit(
    job: Job, storage: Path, *, workers: int, fewest: int | None = None, gpu: bool = False, on_progress: Progress
) -> State:
    """Returns the final state of `job`, trained by `workers` processes that keep their checkpoints under `storage`.

    With `fewest`, training starts and continues with as few workers as that. If an interrupted call left checkpoints in
    `storage`, training resumes from them and ends after the same number of steps. Raises StageError if training fails
    more often than TRIES, or for a reason that a retry cannot change.
    """
    storage.mkdir(parents=True, exist_ok=True)
    (storage / FAILURE).unlink(missing_ok=True)
    with told(storage, job.training.steps, on_progress):
        os.environ |= {name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()}
        import ray  # imported here: it reads the environment above, and takes seconds

        with ray_cluster(ray, workers):
            _fit(job, storage, (fewest, workers) if fewest else workers, gpu)
    if (storage / FAILURE).exists():
        raise StageError((storage / FAILURE).read_text())
    steps = latest_checkpoint(storage)
    if steps < job.training.steps:
        raise StageError(
            f"training ended after {steps} of {job.training.steps} steps; the training split may be empty."
        )
    return read_state(_folder(storage, steps))


def _fit(job: Job, storage: Path, workers: int | tuple[int, int], gpu: bool) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    # [4] start the workers, and start them again after one was lost
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job.model_dump(mode="json"), "storage": str(storage)},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),  # type: ignore[arg-type]  # typed as Train v1
        run_config=RunConfig(name="run", storage_path=str(storage), failure_config=FailureConfig(max_failures=TRIES)),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise StageError(f"training failed {TRIES + 1} times and was given up: {error}") from error


def save_checkpoint(state: State, storage: Path) -> None:
    """Writes `state` so that it counts at once, and removes all but the newest checkpoints."""
    folder = _folder(storage, state.steps)
    folder.mkdir(parents=True, exist_ok=True)
    write_state(state, folder)
    for steps in _checkpoints(storage)[:-CHECKPOINTS_KEPT]:
        shutil.rmtree(_folder(storage, steps), ignore_errors=True)


def latest_checkpoint(storage: Path) -> int:
    """Returns the steps of the newest complete checkpoint; 0 if there is none."""
    return max(_checkpoints(storage), default=0)


def _checkpoints(storage: Path) -> list[int]:
    return sorted(int(path.parent.name) for path in (storage / CHECKPOINTS).glob(f"*/{STATE_FILE}"))


def _folder(storage: Path, steps: int) -> Path:
    return storage / CHECKPOINTS / f"{steps:09d}"


def _resumed(storage: Path, world: int) -> State | None:
    """Returns the state to resume from. The first worker looks for it; the others use the same, whatever they see."""
    steps = torch.tensor([latest_checkpoint(storage)])
    if world > 1:
        torch.distributed.broadcast(steps, src=0)
    return read_state(_folder(storage, int(steps))) if steps else None


def _worker(settings: dict[str, Any]) -> None:
    """Runs in one Ray worker and gives the loop its rank and its share of the cores."""
    import cv2
    import ray.train
    import ray.train.torch

    job, storage = Job(**settings["job"]), Path(settings["storage"])
    if (storage / FAILURE).exists():
        return  # another worker has found that no retry can succeed
    context = ray.train.get_context()
    # a pod sees all cores of its node, but may use only some
    cores = int(os.environ.get(THREADS) or (os.cpu_count() or 1) // context.get_local_world_size())
    torch.set_num_threads(max(1, cores))
    cv2.setNumThreads(1)
    try:
        train_resumably(
            job,
            storage,
            wrap=ray.train.torch.prepare_model,  # [2] average the gradients
            rank=context.get_world_rank(),  # [1] each worker its part of every batch
            world=context.get_world_size(),
        )
    except StageError as error:
        (storage / FAILURE).write_text(str(error))
        raise


def train_resumably(
    job: Job, storage: Path, *, wrap: Wrap = lambda module: module, rank: int = 0, world: int = 1
) -> None:
    """Trains from the newest checkpoint of `storage`, and writes one there after each epoch."""
    learning = learning_of(job.task)
    state = _resumed(storage, world)
    tell = _telling(storage) if rank == 0 else lambda done, total, loss: None
    tell(state.steps if state else 0, job.training.steps, None)
    train(
        learning,
        read_shards(Path(job.samples)),
        job.training,
        network=learning.Network(**job.network),
        augmentation=learning.Augmentation(**job.augmentation),
        resume_from=state,
        start_from=load_file(Path(job.start_from) / WEIGHTS) if job.start_from and not state else None,
        on_progress=tell,
        # [3] a checkpoint after each epoch, by the first worker; the others wait for it at the next gradient
        on_epoch=lambda state: save_checkpoint(state, storage) if rank == 0 else None,
        wrap=wrap,
        rank=rank,
        world=world,
    )


def _telling(storage: Path) -> Callable[[int, int, float | None], None]:
    """Returns the first worker's progress function, which writes to a file at most once per two polls of the driver."""
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
    """Reports to `on_progress`, in the driver, what the first worker writes; it reports at every poll, even before
    that."""
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
