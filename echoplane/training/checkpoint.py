"""What a run needs to go on: one file of tensors and plain data, read without running anything that is in it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from echoplane.errors import StageError
from echoplane.files import replacing

FILE = "state.pt"


@dataclass
class State:
    """Where a run stands after `epoch` whole epochs."""

    epoch: int = 0
    steps: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    """One row an epoch: epoch, steps, loss, validation_loss, validation_accuracy, seconds."""
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    """Weights at the lowest validation loss; empty unless they are to be kept."""
    optimiser: dict[str, Any] = field(default_factory=dict)


def write_state(state: State, folder: Path) -> None:
    """Write `state`, whole or not at all, even if the process or its machine is lost on the way."""
    with replacing(folder / FILE) as file:
        torch.save(vars(state), file)


def read_state(folder: Path) -> State:
    """StageError where the file is cut off or holds more than tensors and plain data."""
    try:
        return State(**torch.load(folder / FILE, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many kinds on a damaged file
        raise StageError(f"the training checkpoint can't be read ({type(error).__name__}); remove it.") from error
