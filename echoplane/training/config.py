"""Settings of training, as plain data that need no torch."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainConfig(BaseModel):
    """Length, learning rate and other settings of a training run. The defaults are those of the demonstration."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    steps: int = Field(default=180, ge=1)
    """Optimiser steps, over all workers together; a resumed run ends with exactly this number."""
    epoch_steps: int = Field(default=36, ge=1)
    """Steps between two validations and checkpoints: the maximum that an interruption can lose."""
    batch: int = Field(default=32, ge=2)
    """Samples per step, over all workers."""
    optimiser: Literal["adamw", "sgd"] = "adamw"
    """Optimiser; "sgd" uses Nesterov momentum 0.9."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak learning rate, reached after the warm-up."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay; not applied to biases and normalisation layers."""
    warmup: float = Field(default=0.2, ge=0, lt=1)
    """Fraction of the steps in which the learning rate rises; after that it falls to zero along a cosine."""
    balance: float = Field(default=1.0, ge=0, le=1)
    """Balance of the sampling: 0 keeps the frequencies of the data; 1 shows every label, and within it every patient,
    equally often."""
    loss: dict[str, Any] = {}
    """Settings of the task's loss that differ from its defaults."""
    precision: Literal["f32", "bf16"] = "f32"
    """Arithmetic of training; bf16 computes convolutions in 16 bits where that is faster, and weights stay in 32."""
    keep: Literal["last", "best"] = "last"
    """Weights to keep: those of the last epoch, or those with the lowest validation loss."""
    seed: int = Field(default=0, ge=0)
    """Seed of initial weights, sampling and augmentation."""
    shuffle_labels_seed: int | None = Field(default=None, ge=0)
    """Seed of a control experiment that permutes the labels within the training split. Such a model must perform at
    chance on unseen patients; if it does not, information leaks between splits."""

    @property
    def epochs(self) -> int:
        return -(-self.steps // self.epoch_steps)
