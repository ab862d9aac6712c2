"""Settings of training; plain data that needs no torch."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainConfig(BaseModel):
    """How long and how fast a network learns. The defaults are the demonstration's."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    steps: int = Field(default=180, ge=1)
    """Updates of the weights, all workers together: a resumed run ends with exactly as many."""
    epoch_steps: int = Field(default=36, ge=1)
    """Updates between two validations and checkpoints: what an interruption can lose."""
    batch: int = Field(default=32, ge=2)
    """Clips an update, over all workers."""
    optimiser: Literal["adamw", "sgd"] = "adamw"
    """SGD is with Nesterov momentum 0.9."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """At its highest, after the warm-up."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Not on biases and norms."""
    warmup: float = Field(default=0.2, ge=0, lt=1)
    """Part of the steps in which the learning rate rises; it then falls to nothing along a cosine."""
    balance: float = Field(default=1.0, ge=0, le=1)
    """0 shows clips as often as they are; 1 shows every label, and within it every patient, equally often."""
    loss: dict[str, Any] = {}
    """Settings of the task's loss that differ from its defaults."""
    precision: Literal["f32", "bf16"] = "f32"
    """bf16 computes convolutions in 16 bits where that is faster; weights stay in 32."""
    keep: Literal["last", "best"] = "last"
    """Weights of the last epoch, or of the one with the lowest validation loss."""
    seed: int = Field(default=0, ge=0)
    """Of weights, sampling and augmentation."""
    shuffle_labels_seed: int | None = Field(default=None, ge=0)
    """The control experiment: labels permuted within the training split, by this seed. Such a model must be at
    chance on patients it has not seen; if it is not, something leaks."""

    @property
    def epochs(self) -> int:
        return -(-self.steps // self.epoch_steps)
