"""The state from which a run resumes: one file of tensors and plain data; reading it executes nothing stored in it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from echoplane.errors import StageError
from echoplane.files import replacing

FILE = "state.pt"


@dataclass
class State:
    """State of a run after `epoch` whole epochs."""

    epoch: int = 0
    steps: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    """One row per epoch: epoch, steps, loss, validation_loss, validation_accuracy, seconds."""
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    """Weights at the lowest validation loss; empty unless the config keeps the best."""
    optimiser: dict[str, Any] = field(default_factory=dict)


def write_state(state: State, folder: Path) -> None:
    """Writes `state` completely or not at all, even if the process or its machine is lost meanwhile."""
    with replacing(folder / FILE) as file:
        torch.save(vars(state), file)


def read_state(folder: Path) -> State:
    """Reads a state. Raises StageError if the file is truncated or holds more than tensors and plain data."""
    try:
        return State(**torch.load(folder / FILE, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many types for a damaged file
        raise StageError(f"the training checkpoint can't be read ({type(error).__name__}); remove it.") from error
