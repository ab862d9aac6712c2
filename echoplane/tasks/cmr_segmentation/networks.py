"""The two networks: the fully convolutional one of Bai et al. (arXiv 1710.09289) and a U-Net with the same input.

Inputs are uint8 images; the networks scale them to [0, 1], so that a bundle needs no scaling. The U-Net can take the
square root first: next to bright fat, blood and myocardium are both dark and hard to separate. Sides are multiples of
16.
Axes: B batch, C channel, H row, W column, K class, F feature."""

import torch
from torch import nn
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Number of convolutions per level of the paper's network; the first one of levels 1 to 4 has stride 2."""
HEAD = (32, 64)
"""Number of channels of each level before upsampling, and of the two 1x1 convolutions after it."""
GROWTH = (1, 2.5, 4, 6)
"""Channels of the U-Net's levels relative to the first: deep levels have few pixels, so width costs little there."""


def _block(inputs: int, outputs: int, count: int, stride: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(count):
        first = number == 0
        layers += [
            nn.Conv2d(inputs if first else outputs, outputs, 3, stride if first else 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _pointwise(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Fcn(nn.Module):
    """The paper's network: five levels, each upsampled to full size by fixed bilinear interpolation, and concatenated.

    A 1x1 convolution commutes with bilinear upsampling, whose weights sum to 1: the first convolution over the 160
    concatenated channels is done level by level before upsampling, and the results are added. The result is that of
    the paper; at levels 1 to 4 it costs 4 to 256 times less. `as_published` computes it in the paper's order.
    """

    def __init__(self, width: int, classes: int, as_published: bool = False) -> None:
        super().__init__()
        widths = [width << level for level in range(5)]
        self.as_published = as_published
        self.levels = nn.ModuleList(
            _block(widths[max(level - 1, 0)] if level else 1, widths[level], CONVOLUTIONS[level], 2 if level else 1)
            for level in range(5)
        )
        self.squeeze = nn.ModuleList(_pointwise(w, HEAD[0]) for w in widths)
        self.join = nn.Conv2d(5 * HEAD[0], HEAD[1], 1, bias=False)
        self.joined = nn.Sequential(nn.BatchNorm2d(HEAD[1]), nn.ReLU(inplace=True), _pointwise(HEAD[1], HEAD[1]))
        self.classify = nn.Conv2d(HEAD[1], classes, 1)

    def forward(self, image_BHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = image_BHW.float()[:, None] / 255  # cast first: TensorRT takes uint8 at the input alone
        size = x.shape[2:]
        squeezed = []
        for level, squeeze in zip(self.levels, self.squeeze, strict=True):
            x = level(x)
            squeezed.append(squeeze(x))
        joined = self._as_published(squeezed, size) if self.as_published else self._commuted(squeezed, size)
        return self.classify(self.joined(joined)), x.mean(dim=(2, 3))

    def _as_published(self, squeezed: list[torch.Tensor], size: torch.Size) -> torch.Tensor:
        return self.join(torch.cat([_enlarged(y, size) for y in squeezed], dim=1))

    def _commuted(self, squeezed: list[torch.Tensor], size: torch.Size) -> torch.Tensor:
        """Convolves each level, then upsamples it once to full size; upsampling in steps would give other values."""
        parts = self.join.weight.split(HEAD[0], dim=1)
        return sum(
            (_enlarged(nn.functional.conv2d(y, part), size) for y, part in zip(squeezed, parts, strict=True)),
            start=torch.zeros((), device=squeezed[0].device),
        )


class UNet(nn.Module):
    """Encoder and decoder with skips (Ronneberger et al. 2015) over half the resolution.

    At the input, four neighbouring pixels become four channels; at the output, four channels per class become four
    pixels (Shi et al. 2016). No information is lost, and the most expensive layers run on a quarter of the pixels.
    """

    def __init__(self, width: int, classes: int, root: bool = True) -> None:
        super().__init__()
        self.root = root
        widths = [int(growth * width) for growth in GROWTH]
        self.levels = nn.ModuleList(
            _block(widths[level - 1] if level else 4, widths[level], 2, 2 if level else 1) for level in range(4)
        )
        self.up = nn.ModuleList(_block(widths[level + 1] + widths[level], widths[level], 2, 1) for level in range(3))
        self.classify = nn.Conv2d(width, 4 * classes, 1)

    def forward(self, image_BHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        grey = image_BHW.float()[:, None] / 255  # cast first: TensorRT takes uint8 at the input alone
        x = pixel_unshuffle(grey.sqrt() if self.root else grey, 2)
        skips = []
        for level in self.levels:
            x = level(x)
            skips.append(x)
        embedding = x.mean(dim=(2, 3))
        for skip, up in zip(skips[-2::-1], list(self.up)[::-1], strict=True):
            x = up(torch.cat([_enlarged(x, skip.shape[2:]), skip], dim=1))
        return pixel_shuffle(self.classify(x), 2), embedding


def _enlarged(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return x if x.shape[2:] == size else interpolate(x, size=size, mode="bilinear", align_corners=False)
