"""The torch half of echo-view-video: SlowFast (Feichtenhofer et al. 2019, arXiv 1812.03982), loss, augmentation.

One uint8 tensor goes in; normalisation and the two pathways are inside, so that a bundle needs neither. Axes: B batch,
C channel, T frame, H row, W column, K label."""

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Literal

import cv2
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from echoplane.tasks.view_video import labels

UNLABELLED = -1
MEAN, DEVIATION = 40.0, 50.0
"""Grey level of a scan region, in round figures over the vendors; the first batch norm takes up the rest."""


class Network(BaseModel):
    """Size of the SlowFast network. Width 64, depth 50, beta 8 is the paper's R50."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    depth: Literal[18, 50, 101] = 18
    """Layers of the residual network, bottleneck blocks at every depth."""
    width: int = Field(default=16, ge=8)
    """Channels after the slow pathway's first convolution."""
    beta: int = Field(default=8, ge=1)
    """The fast pathway has this many times fewer channels than the slow one; divides `width`."""
    alpha: int = Field(default=4, ge=1)
    """The slow pathway sees every alpha-th frame; divides the number of frames."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Part of the embedding that is blanked in training."""


class Augmentation(BaseModel):
    """How a training clip is changed. Never mirrored: some views differ by their side alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rotation_degrees: float = Field(default=10.0, ge=0)
    """Largest turn either way (Madani et al. 2018: 10)."""
    shift: float = Field(default=0.08, ge=0, lt=1)
    """Largest shift in each direction, in parts of the side."""
    zoom: float = Field(default=0.12, ge=0, lt=1)
    """Largest enlargement or reduction, as a factor beside 1."""
    gain: float = Field(default=0.25, ge=0, lt=1)
    """Largest change of brightness, as a factor beside 1."""
    gamma: float = Field(default=0.3, ge=0, lt=1)
    """Largest change of the exponent beside 1: the dynamic range that an operator turns."""
    noise: float = Field(default=12.0, ge=0)
    """Largest deviation of multiplied noise, in grey levels at mid grey."""
    speed: float = Field(default=0.25, ge=0, lt=1)
    """Largest slowing down, as a part of 1, starting anywhere: heart and frame rates vary. Time is never reversed."""
    erase: float = Field(default=0.25, ge=0, lt=1)
    """Largest side of a rectangle blanked in half of the clips (a shadow), in parts of the side."""


class SlowFast(nn.Module):
    """uint8 (batch, frame, row, column) to (logits (batch, label), embedding (batch, feature))."""

    def __init__(self, config: Network) -> None:
        super().__init__()
        with _without_torchvision():
            from pytorchvideo.models.slowfast import create_slowfast
        self.alpha = config.alpha
        self.trunk = create_slowfast(
            model_depth=config.depth,
            input_channels=(1, 1),
            slowfast_channel_reduction_ratio=config.beta,
            slowfast_fusion_conv_stride=(config.alpha, 1, 1),
            stem_dim_outs=(config.width, config.width // config.beta),
            head_pool=nn.AdaptiveAvgPool3d,
            head=None,
        )
        features = 32 * (config.width + config.width // config.beta)
        self.dropout = nn.Dropout(config.dropout)
        self.classify = nn.Linear(features, len(labels()))

    def forward(self, clip_BTHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # TensorRT takes uint8 at the input alone: cast before anything else
        fast_BCTHW = (clip_BTHW.float()[:, None] - MEAN) / DEVIATION
        # a list of its own: the trunk overwrites its items
        embedding = self.trunk([fast_BCTHW[:, :, :: self.alpha], fast_BCTHW]).flatten(1)
        return self.classify(self.dropout(embedding)), embedding


def network(config: Network) -> nn.Module:
    if config.width % config.beta:
        raise ValueError(f"width {config.width} is not a multiple of beta {config.beta}.")
    return SlowFast(config).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def parts(samples: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return samples, labels


def score(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 where the most probable label is the right one."""
    return (output.argmax(dim=1) == target).float()


def loss(output: torch.Tensor, target: torch.Tensor, label_smoothing: float = 0.05) -> torch.Tensor:
    """Mean cross entropy over labelled clips; target UNLABELLED counts for nothing, and none labelled gives 0."""
    total = nn.functional.cross_entropy(
        output, target, ignore_index=UNLABELLED, label_smoothing=label_smoothing, reduction="sum"
    )
    return total / (target != UNLABELLED).sum().clamp(min=1)


def augment(sample: np.ndarray, rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """uint8 (frame, row, column) changed at random: one motion and one grey curve for the whole clip."""
    clip_THW = sample[_frames(len(sample), rng, config)]
    clip_THW = _moved(clip_THW, rng, config)
    clip_THW = cv2.LUT(clip_THW, _grey_curve(rng, config))
    if config.noise:
        clip_THW = _speckled(clip_THW, rng.uniform(0, config.noise), rng)
    if config.erase and rng.random() < 0.5:
        _erase(clip_THW, rng, config)
    return clip_THW


def _frames(count: int, rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """Frame numbers of a slower clip: neighbours may repeat, the order never turns."""
    step = 1 - rng.uniform(0, config.speed)
    first = rng.uniform(0, 1 - step) * (count - 1)
    return np.minimum(first + step * np.arange(count) + 0.5, count - 1).astype(int)


def _moved(clip_THW: np.ndarray, rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """Turned, zoomed and shifted by one matrix; black comes in from outside."""
    rows, columns = clip_THW.shape[1:]
    angle = rng.uniform(-config.rotation_degrees, config.rotation_degrees)
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), angle, 1 + rng.uniform(-config.zoom, config.zoom))
    matrix[:, 2] = matrix[:, 2] + rng.uniform(-config.shift, config.shift, 2) * (columns, rows)
    # frames as channels: one call turns them all (OpenCV takes up to 128)
    turned_HWT = cv2.warpAffine(np.ascontiguousarray(clip_THW.transpose(1, 2, 0)), matrix, (columns, rows))
    return np.ascontiguousarray(turned_HWT.transpose(2, 0, 1))


def _grey_curve(rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """A lookup table of gain and gamma."""
    gain, gamma = 1 + rng.uniform(-config.gain, config.gain), 1 + rng.uniform(-config.gamma, config.gamma)
    return np.rint(np.clip(255 * gain * np.linspace(0, 1, 256) ** gamma, 0, 255)).astype(np.uint8)


def _speckled(clip_THW: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Multiplied by noise, as speckle is: black stays black. Coarse bytes are cheaper than a normal deviate."""
    bytes_THW = np.frombuffer(rng.bytes(clip_THW.size), np.int8).reshape(clip_THW.shape)
    change_THW = clip_THW.astype(np.int32) * bytes_THW * int(deviation * 256 / 74) >> 15
    return np.clip(clip_THW + change_THW, 0, 255).astype(np.uint8)


def _erase(clip_THW: np.ndarray, rng: np.random.Generator, config: Augmentation) -> None:
    """Blank one rectangle in every frame, in place."""
    rows, columns = clip_THW.shape[1:]
    height, width = (rng.uniform(0, config.erase, 2) * (rows, columns)).astype(int)
    top, left = rng.integers(0, rows - height), rng.integers(0, columns - width)
    clip_THW[:, top : top + height, left : left + width] = 0


@contextlib.contextmanager
def _without_torchvision() -> Iterator[None]:
    """A stand-in for the one name of torchvision that pytorchvideo imports and SlowFast never calls.

    The real one imports torch._dynamo: 4 s on two cores against 0.1. It is put back before anybody else looks.
    """
    names = ("torchvision", "torchvision.ops")
    if "torchvision" in sys.modules or "pytorchvideo.models.head" in sys.modules:
        yield
        return
    package, ops = (ModuleType(name) for name in names)
    package.ops, ops.RoIAlign = ops, nn.Module  # type: ignore[attr-defined]
    sys.modules.update(zip(names, (package, ops), strict=True))
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
