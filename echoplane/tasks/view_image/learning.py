"""Torch half of echo-view-image: two networks, loss and augmentation.

The input is one uint8 tensor; normalisation is part of the network, so that a bundle needs none. An ensemble is one
network with its members in parallel. Axes: B batch, C channel, H row, W column, K label.
"""

from typing import Literal

import cv2
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn import functional

from echoplane.tasks import view_learning
from echoplane.tasks.view_image import labels

UNLABELLED = view_learning.UNLABELLED
MEAN, DEVIATION = 51.0, 51.0
"""Mean and deviation of grey in a scan region, rounded; the first batch norm corrects the rest."""


class Network(BaseModel):
    """Kind and size of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["residual", "vgg"] = "residual"
    """Kind of network. vgg is the paper's: six convolutions, batch norm before activation, max pooling, dense layers of
    1028 and 512. Its filter counts and dropout rates are published in a figure only; ours are our own choice."""
    width: int = Field(default=16, ge=4)
    """Channels of the first convolution."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of the features that is set to zero in training."""
    members: int = Field(default=1, ge=1)
    """Number of networks whose logits are averaged."""
    exponent: float = Field(default=1.0, gt=0)
    """Exponent of the grey curve before the network; under 1 dark pictures become brighter."""


class Augmentation(BaseModel):
    """Random changes of a training picture. It is never mirrored: on real screens RV and LV have fixed sides."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rotation_degrees: float = Field(default=8.0, ge=0)
    """Maximum rotation either way (Madani et al. 2018: 10)."""
    shift: float = Field(default=0.07, ge=0, lt=1)
    """Maximum shift in each direction, as a share of the side."""
    zoom: float = Field(default=0.16, ge=0, lt=1)
    """Maximum enlargement or reduction, as a difference of the factor from 1."""
    stretch: float = Field(default=0.12, ge=0, lt=1)
    """Maximum further scaling of the rows alone, as a difference of the factor from 1."""
    margin: float = Field(default=0.0, ge=0, lt=1)
    """Maximum further reduction, in one picture of seven: files without a scan region have wide margins."""
    background: float = Field(default=0.0, ge=0, le=1)
    """Share of pictures with grey, or their own mirror image, outside the sector (after BackMix, arXiv 2406.19148)."""
    erase: float = Field(default=0.0, ge=0, lt=1)
    """Maximum side of a rectangle blanked in half of the pictures (a shadow), as a share of the side."""
    gamma: float = Field(default=0.6, ge=0)
    """Maximum logarithm of the exponent of the grey curve: the dynamic range that an operator sets."""
    gain: float = Field(default=0.45, ge=0)
    """Maximum logarithm of the brightness factor."""
    field: float = Field(default=0.35, ge=0)
    """Maximum deviation of the logarithm of a smooth field of gain: regions of a picture fade."""
    speckle: float = Field(default=0.35, ge=0)
    """Maximum deviation of multiplied noise."""
    blur: float = Field(default=0.3, ge=0, le=1)
    """Share of pictures that are blurred by 3 x 3 pixels."""


class Residual(nn.Module):
    """Residual block: two convolutions with a shortcut (He et al. 2016)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            *_convolution(channels_in, channels_out, stride),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        same = stride == 1 and channels_in == channels_out
        shortcut = [nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)]
        self.shortcut = nn.Sequential(*([] if same else shortcut))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.shortcut(x_BCHW) + self.inner(x_BCHW))


class Places(nn.Module):
    """Adds two channels, the row and the column of each pixel from -1 to 1: what lies where tells the view (Liu et al.
    2018, arXiv 1807.03247)."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        rows, columns = x_BCHW.shape[2], x_BCHW.shape[3]
        row_HW = torch.linspace(-1, 1, rows)[:, None].expand(rows, columns)
        column_HW = torch.linspace(-1, 1, columns)[None].expand(rows, columns)
        places_CHW = torch.stack([row_HW, column_HW]).to(x_BCHW)
        return torch.cat([x_BCHW, places_CHW.expand(x_BCHW.shape[0], 2, rows, columns)], dim=1)


def _convolution(channels_in: int, channels_out: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]


def _residual_trunk(width: int) -> tuple[nn.Module, int]:
    """Returns the layers to the features (batch, feature) of a small residual network, and the number of features."""
    trunk = nn.Sequential(
        Places(),
        *_convolution(3, width, 2),
        *_convolution(width, 2 * width, 2),
        Residual(2 * width, 2 * width, 1),
        Residual(2 * width, 4 * width, 2),
        Residual(4 * width, 4 * width, 1),
        Residual(4 * width, 8 * width, 2),
        Residual(8 * width, 8 * width, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return trunk, 8 * width


def _vgg_trunk(width: int, dropout: float) -> tuple[nn.Module, int]:
    """Returns the same for the paper's network. Each convolution but the last is followed by 2 x 2 max pooling."""
    channels = [1, width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width]
    layers: list[nn.Module] = []
    for k in range(6):
        layers += _convolution(channels[k], channels[k + 1])
        layers += [nn.MaxPool2d(2, ceil_mode=True), nn.Dropout2d(dropout / 3)] if k < 5 else []
    dense = [nn.LazyLinear(1028), nn.BatchNorm1d(1028), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Linear(1028, 512), nn.BatchNorm1d(512), nn.ReLU()), 512


class Member(nn.Module):
    """One network: uint8 (batch, row, column) to (logits (batch, label), embedding (batch, feature))."""

    def __init__(self, config: Network) -> None:
        super().__init__()
        vgg = config.kind == "vgg"
        self.trunk, features = _vgg_trunk(config.width, config.dropout) if vgg else _residual_trunk(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.classify = nn.Linear(features, len(labels()))
        self.exponent = config.exponent

    def forward(self, picture_BHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # TensorRT takes uint8 as the network's input only: cast before anything else
        grey_BCHW = picture_BHW.float()[:, None]
        if self.exponent != 1:
            grey_BCHW = 255 * (grey_BCHW / 255).clamp(min=1e-4) ** self.exponent
        embedding = self.trunk((grey_BCHW - MEAN) / DEVIATION)
        return self.classify(self.dropout(embedding)), embedding


class Ensemble(nn.Module):
    """Members in parallel: their mean logits, and their embeddings concatenated."""

    def __init__(self, config: Network) -> None:
        super().__init__()
        self.members = nn.ModuleList([Member(config) for _ in range(config.members)])

    def forward(self, picture_BHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        answers = [member(picture_BHW) for member in self.members]
        mean_BK = torch.stack([logits for logits, _ in answers]).mean(dim=0)
        return mean_BK, torch.cat([embedding for _, embedding in answers], dim=1)


def network(config: Network) -> nn.Module:
    if config.kind == "vgg":
        module = Ensemble(config) if config.members > 1 else Member(config)
        module.eval()
        with torch.no_grad():  # gives the first dense layer its size
            module(torch.zeros(1, 60, 80, dtype=torch.uint8))
        return module.train()
    return Ensemble(config) if config.members > 1 else Member(config)


def parts(samples: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return samples, labels


def score(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns 1 for each output whose most probable label is the right one, else 0."""
    return (output.argmax(dim=1) == target).float()


def loss(
    output: torch.Tensor, target: torch.Tensor, label_smoothing: float = 0.1, outlier_weight: float = 0.5
) -> torch.Tensor:
    """Returns the mean cross entropy, with outlier exposure for UNLABELLED pictures; see `view_learning.loss`."""
    return view_learning.loss(output, target, label_smoothing, outlier_weight)


def augment(sample: np.ndarray, rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """Returns uint8 (row, column) changed at random: what lies outside, framing, grey curve, regional gain, speckle,
    blur, a blank rectangle."""
    inside_HW = _backed(sample, rng) if config.background and rng.random() < config.background else sample
    picture_HW = _moved(inside_HW, rng, config).astype(np.float32)
    picture_HW *= np.exp(view_learning.smooth_field(rng, sample.shape) * rng.uniform(0, config.field))
    exponent, gain = np.exp(rng.uniform(-config.gamma, config.gamma)), np.exp(rng.uniform(-config.gain, config.gain))
    picture_HW = 255 * gain * (np.clip(picture_HW, 0, 255) / 255) ** exponent
    noise_HW = rng.standard_normal(sample.shape, dtype=np.float32)
    if rng.random() < 0.5:
        noise_HW = 2.4 * cv2.blur(noise_HW, (3, 3))
    picture_HW *= 1 + rng.uniform(0, config.speckle) * noise_HW
    if rng.random() < config.blur:
        picture_HW = cv2.blur(picture_HW, (3, 3))
    if config.erase and rng.random() < 0.5:
        view_learning.erase(picture_HW, rng, config.erase)
    return np.asarray(np.clip(picture_HW, 0, 255), np.uint8)


def _backed(picture_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the picture with something outside its sector: the mirror image, darker, or one grey."""
    outside_HW = picture_HW[:, ::-1] * rng.uniform(0, 1) if rng.random() < 0.5 else rng.uniform(0, 40)
    lit_HW = cv2.dilate(picture_HW, np.ones((5, 5), np.uint8)) > 2
    return np.where(lit_HW, picture_HW, outside_HW).astype(np.uint8)


def _moved(picture_HW: np.ndarray, rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """Returns the picture rotated, scaled, stretched and shifted by one matrix; the margin is black."""
    rows, columns = picture_HW.shape
    angle = rng.uniform(-config.rotation_degrees, config.rotation_degrees)
    size = 1 + rng.uniform(-config.zoom, config.zoom)
    if config.margin and rng.random() < view_learning.MARGIN_SHARE:
        size *= 1 - rng.uniform(0, config.margin)
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), angle, size)
    stretch = 1 + rng.uniform(-config.stretch, config.stretch)
    matrix[1] *= stretch
    matrix[1, 2] += (1 - stretch) * rows / 2
    matrix[:, 2] = matrix[:, 2] + rng.uniform(-config.shift, config.shift, 2) * (columns, rows)
    return np.asarray(cv2.warpAffine(picture_HW, matrix, (columns, rows)))
