"""Torch half of echo-view-video: SlowFast (Feichtenhofer et al. 2019, arXiv 1812.03982), loss, augmentation.

The input is one uint8 tensor; normalisation and the two pathways are part of the network, so that a bundle needs
neither. Axes: B batch, C channel, T frame, H row, W column, K label.
"""

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

from echoplane.tasks import view_learning
from echoplane.tasks.view_video import labels

UNLABELLED = view_learning.UNLABELLED
MEAN, DEVIATION = 40.0, 50.0
"""Mean and deviation of grey in a scan region, rounded over the vendors; the first batch norm corrects the rest."""


class Network(BaseModel):
    """Size of the SlowFast network. Width 64, depth 50, beta 8 is the paper's R50."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    depth: Literal[18, 50, 101] = 18
    """Number of layers of the residual network, with bottleneck blocks at every depth."""
    width: int = Field(default=16, ge=8)
    """Channels after the slow pathway's first convolution."""
    beta: int = Field(default=8, ge=1)
    """Number by which the slow pathway's channels are divided for the fast pathway; divides `width`."""
    alpha: int = Field(default=4, ge=1)
    """Step between the frames that the slow pathway sees; divides the number of frames."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of the embedding that is set to zero in training."""


class Augmentation(BaseModel):
    """Random changes of a training clip. It is never mirrored: some views differ by their side alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rotation_degrees: float = Field(default=10.0, ge=0)
    """Maximum rotation either way (Madani et al. 2018: 10)."""
    shift: float = Field(default=0.08, ge=0, lt=1)
    """Maximum shift in each direction, as a share of the side."""
    zoom: float = Field(default=0.12, ge=0, lt=1)
    """Maximum enlargement or reduction, as a difference of the factor from 1."""
    stretch: float = Field(default=0.0, ge=0, lt=1)
    """Maximum further scaling of the rows alone, as a difference of the factor from 1."""
    margin: float = Field(default=0.0, ge=0, lt=1)
    """Maximum further reduction, in one clip of seven: files without a scan region have wide margins."""
    gain: float = Field(default=0.25, ge=0, lt=1)
    """Maximum change of brightness, as a difference of the factor from 1."""
    gamma: float = Field(default=0.3, ge=0, lt=1)
    """Maximum difference of the grey curve's exponent from 1: the dynamic range that an operator sets."""
    noise: float = Field(default=12.0, ge=0)
    """Maximum deviation of multiplied noise, in grey levels at mid grey."""
    field: float = Field(default=0.0, ge=0)
    """Maximum deviation of the logarithm of a smooth field of gain: regions of a clip fade."""
    blur: float = Field(default=0.0, ge=0, le=1)
    """Share of clips that are blurred by 3 x 3 pixels."""
    speed: float = Field(default=0.25, ge=0, lt=1)
    """Maximum slowdown, as a share of 1, starting anywhere: heart and frame rates vary. Time is never reversed."""
    erase: float = Field(default=0.25, ge=0, lt=1)
    """Maximum side of a rectangle blanked in half of the clips (a shadow), as a share of the side."""


class SlowFast(nn.Module):
    """SlowFast network: uint8 (batch, frame, row, column) to (logits (batch, label), embedding (batch, feature))."""

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
        # TensorRT takes uint8 as the network's input only: cast before anything else
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
    """Returns 1 for each output whose most probable label is the right one, else 0."""
    return (output.argmax(dim=1) == target).float()


def loss(
    output: torch.Tensor, target: torch.Tensor, label_smoothing: float = 0.05, outlier_weight: float = 0.0
) -> torch.Tensor:
    """Returns the mean cross entropy, with outlier exposure for UNLABELLED clips; see `view_learning.loss`."""
    return view_learning.loss(output, target, label_smoothing, outlier_weight)


def augment(sample: np.ndarray, rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """Returns uint8 (frame, row, column) changed at random: one motion and one grey curve for the whole clip."""
    clip_THW = sample[_frames(len(sample), rng, config)]
    clip_THW = _moved(clip_THW, rng, config)
    if config.field:
        gain_HW = np.exp(view_learning.smooth_field(rng, clip_THW.shape[1:]) * rng.uniform(0, config.field))
        clip_THW = np.minimum(clip_THW * gain_HW, 255).astype(np.uint8)
    clip_THW = cv2.LUT(clip_THW, _grey_curve(rng, config))
    if config.noise:
        clip_THW = _speckled(clip_THW, rng.uniform(0, config.noise), rng)
    if config.blur and rng.random() < config.blur:
        clip_THW = np.stack([cv2.blur(frame_HW, (3, 3)) for frame_HW in clip_THW])
    if config.erase and rng.random() < 0.5:
        view_learning.erase(clip_THW, rng, config.erase)
    return clip_THW


def _frames(count: int, rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """Returns frame numbers of a slower clip: neighbours may repeat, the order is never reversed."""
    step = 1 - rng.uniform(0, config.speed)
    first = rng.uniform(0, 1 - step) * (count - 1)
    return np.minimum(first + step * np.arange(count) + 0.5, count - 1).astype(int)


def _moved(clip_THW: np.ndarray, rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """Returns the clip rotated, scaled and shifted by one matrix; the margin is black."""
    rows, columns = clip_THW.shape[1:]
    angle = rng.uniform(-config.rotation_degrees, config.rotation_degrees)
    size = 1 + rng.uniform(-config.zoom, config.zoom)
    if config.margin and rng.random() < view_learning.MARGIN_SHARE:
        size *= 1 - rng.uniform(0, config.margin)
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), angle, size)
    if config.stretch:
        stretch = 1 + rng.uniform(-config.stretch, config.stretch)
        matrix[1] *= stretch
        matrix[1, 2] += (1 - stretch) * rows / 2
    matrix[:, 2] = matrix[:, 2] + rng.uniform(-config.shift, config.shift, 2) * (columns, rows)
    # frames as channels: one call transforms them all (OpenCV takes up to 128)
    turned_HWT = cv2.warpAffine(np.ascontiguousarray(clip_THW.transpose(1, 2, 0)), matrix, (columns, rows))
    return np.ascontiguousarray(turned_HWT.transpose(2, 0, 1))


def _grey_curve(rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """Returns a lookup table of gain and gamma."""
    gain, gamma = 1 + rng.uniform(-config.gain, config.gain), 1 + rng.uniform(-config.gamma, config.gamma)
    return np.rint(np.clip(255 * gain * np.linspace(0, 1, 256) ** gamma, 0, 255)).astype(np.uint8)


def _speckled(clip_THW: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Returns the clip multiplied by noise, as speckle is: black stays black. Coarse bytes are cheaper than a normal
    deviate."""
    bytes_THW = np.frombuffer(rng.bytes(clip_THW.size), np.int8).reshape(clip_THW.shape)
    change_THW = clip_THW.astype(np.int32) * bytes_THW * int(deviation * 256 / 74) >> 15
    return np.clip(clip_THW + change_THW, 0, 255).astype(np.uint8)


@contextlib.contextmanager
def _without_torchvision() -> Iterator[None]:
    """Substitutes the one name of torchvision that pytorchvideo imports and SlowFast never calls.

    The real one imports torch._dynamo: 4 s on two cores against 0.1. It is restored before any other code imports it.
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
