"""A run of the product's training loop that goes on where it was stopped."""

import time
from pathlib import Path

import torch
from pydantic import BaseModel

from echoplane.dataset.shards import Shards
from echoplane.stages.progress import printed
from echoplane.tasks import Learning
from echoplane.training.checkpoint import FILE, State, read_state, write_state
from echoplane.training.config import TrainConfig
from echoplane.training.loop import train


def fit(
    learning: Learning,
    folder: Path,
    shards: Shards,
    config: TrainConfig,
    network: BaseModel,
    augmentation: BaseModel,
    start: State | None = None,
) -> State:
    """Returns the state of the run in `folder`: finished, gone on with, or begun from the weights of `start`."""
    folder.mkdir(parents=True, exist_ok=True)
    resumed = read_state(folder) if (folder / FILE).exists() else None
    if resumed and resumed.steps >= config.steps:
        return resumed
    show, used = printed(f"train {folder.name}", every_s=20), _Used(folder / "cpu_s.txt")

    def keep(state: State) -> None:
        write_state(state, folder)
        used.write()

    return train(
        learning,
        shards,
        config,
        network=network,
        augmentation=augmentation,
        resume_from=resumed,
        start_from=start.weights if start else None,
        wrap=lambda module: module.to("cuda" if torch.cuda.is_available() else "cpu"),
        on_progress=lambda done, total, loss: show(done, total),
        on_epoch=keep,
    )


class _Used:
    """Seconds of processor time that a run has used, all its starts together, in a file beside its state."""

    def __init__(self, path: Path) -> None:
        self._path, self._before = path, float(path.read_text()) if path.exists() else 0.0
        self._start = time.process_time()

    def write(self) -> None:
        self._path.write_text(f"{self._before + time.process_time() - self._start:.1f}\n")
