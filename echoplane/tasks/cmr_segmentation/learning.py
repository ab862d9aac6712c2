"""Training of cmr-segmentation in torch: configuration, loss and augmentation.

A training sample is uint8 (2, row, column): the image and its target (see `structures`). Axes: B batch, K class,
H row, W column."""

from typing import Literal

import cv2
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from echoplane.tasks.cmr_segmentation import greys
from echoplane.tasks.cmr_segmentation.networks import Fcn, UNet
from echoplane.tasks.cmr_segmentation.structures import (
    CLASSES,
    LV_CAVITY,
    PLANE_SHIFT,
    PLANES,
    SHOWN,
    bits,
    plane_of,
    unknown_of,
)

FAR_BELOW = -60.0
"""Logit whose probability is negligible. A much lower one underflows in the exponential, which is ten times slower."""
SMOOTH_PIXELS = 50
"""Smoothing constant added to numerator and denominator of the soft Dice, for slices without the structure."""
KNOT_PIXELS = 24
"""Spacing of the control points of the elastic deformation: about half a ventricle."""
DRAWN = np.array(
    [may_be & 1 == 0 and may_be & bits(tuple(range(LV_CAVITY, CLASSES))) > 0 for may_be in range(256)], np.uint8
)
"""1 for each byte of a target that says of its pixel that it is an annotated structure."""


class Network(BaseModel):
    """Architecture and size of the network. The paper's network is kind fcn with width 16."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["fcn", "unet"] = "unet"
    """Architecture: fcn (the paper's network) or unet."""
    width: int = Field(default=32, ge=4)
    """Channels of the first level; each level of fcn doubles them, those of unet have 1, 2.5, 4 and 6 times as many."""
    root: bool = True
    """True to give the U-Net the square root of the grey values."""


class Augmentation(BaseModel):
    """Augmentation of training slices. The paper: rotation sigma 10 degrees, scale sigma 0.2, clipped at 3 sigma."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    crop: int = Field(default=112, multiple_of=16)
    """Side of the square crop, in pixels of the network's input."""
    elsewhere: float = Field(default=0.2, ge=0, le=1)
    """Share of crops at a random position; the others are centred near the heart."""
    shift: float = Field(default=16.0, ge=0)
    """Standard deviation of a crop's centre from the heart's, in pixels."""
    rotation_degrees: float = Field(default=25.0, ge=0)
    """Standard deviation of the rotation. It is larger than the paper's: scanners turn the field of view with the
    patient."""
    quarter_turns: float = Field(default=0.15, ge=0, le=1)
    """Share of short axis slices first turned by a random multiple of 90 degrees: pictures without an affine can have
    any orientation. Long axis planes come from files that state their orientation, and are turned to a standard one
    (`display_turn`)."""
    mirrored: float = Field(default=0.5, ge=0, le=1)
    """Share of short axis slices flipped horizontally; inference also compares its results with flipped slices. Long
    axis planes are never flipped: left and right atrium look alike and are distinguished by their side."""
    scale: float = Field(default=0.15, ge=0, lt=0.33)
    """Standard deviation of the scale factor."""
    stretch: float = Field(default=0.1, ge=0, lt=0.33)
    """Standard deviation of the stretch of columns relative to rows."""
    bend: float = Field(default=3.0, ge=0)
    """Maximum standard deviation of the elastic deformation, in pixels: it gives hearts of shapes that are not in the
    training data."""
    regreyed: float = Field(default=1.0, ge=0, le=1)
    """Share of crops whose grey values are changed by the settings below. The position of an edge in a blurred picture
    depends on the brightness of both sides; only crops with their original grey values can teach that."""
    gamma: float = Field(default=0.35, ge=0)
    """Standard deviation of the logarithm of gamma: in some fields of view fat is brighter than blood."""
    gain: float = Field(default=0.4, ge=0)
    """Standard deviation of the logarithm of the brightness: near the coil, one end of a stack can be three times as
    bright."""
    bias: float = Field(default=0.3, ge=0)
    """Standard deviation of the logarithm of a brightness gradient across the picture."""
    noise: float = Field(default=6.0, ge=0)
    """Maximum standard deviation of the added noise, in grey levels."""
    blur: float = Field(default=1.0, ge=0)
    """Maximum standard deviation of the Gaussian blur, in pixels; a quarter of the changed slices is blurred."""
    curved: float = Field(default=0.0, ge=0, le=1)
    """Share of the changed crops whose grey values go through a random rising curve of several knots."""
    recontrasted: float = Field(default=0.0, ge=0, le=1)
    """Share of the changed crops with a random contrast of tissues, by a small random filter or a curve that may
    fall."""
    shading: float = Field(default=0.0, ge=0)
    """Maximum standard deviation of the logarithm of a smooth random field of brightness, beside the gradient."""
    coarse: float = Field(default=0.0, ge=0, le=1)
    """Share of the changed crops at a lower resolution; half of these ring at edges, as zero-filled scans do."""
    sharp: float = Field(default=0.0, ge=0, le=1)
    """Share of the changed crops with edges that are sharpened and overshoot."""
    ghost: float = Field(default=0.0, ge=0, le=1)
    """Share of the changed crops with a faint copy of the picture, shifted along one axis."""
    rician: float = Field(default=0.0, ge=0, le=1)
    """Share of the changed crops whose noise is Rician, as in magnitude pictures; in the others it is Gaussian."""
    cut: float = Field(default=0.0, ge=0, le=1)
    """Share of all crops whose field of view ends at a black border. Annotated structures are unknown there."""


def network(config: Network) -> nn.Module:
    module = Fcn(config.width, CLASSES) if config.kind == "fcn" else UNet(config.width, CLASSES, config.root)
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def parts(samples: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns images and targets; the labels are the samples' strata, which only sampling uses."""
    return np.ascontiguousarray(samples[:, 0]), np.ascontiguousarray(samples[:, 1])


def score(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns the Dice of the LV cavity per slice; 1 if neither the prediction nor the target has one."""
    shown_BK = _table("shown", output)[(target[:, 0, 0] >> PLANE_SHIFT).long()]
    guess = output.masked_fill(~shown_BK[:, :, None, None], FAR_BELOW).argmax(dim=1) == LV_CAVITY
    truth = (target & (bits(tuple(range(CLASSES))))) == 1 << LV_CAVITY
    overlap, size = (guess & truth).sum(dim=(1, 2)), guess.sum(dim=(1, 2)) + truth.sum(dim=(1, 2))
    return torch.where(size > 0, 2 * overlap / size.clamp(min=1), torch.ones_like(size, dtype=torch.float32))


def loss(output: torch.Tensor, target: torch.Tensor, dice: float = 1.0) -> torch.Tensor:
    """Returns the cross entropy over the classes that each pixel may be, plus `dice` times one minus the soft Dice.

    `output` is (B, K, H, W) logits, `target` (B, H, W) uint8 (see `structures`). Classes of other planes are masked;
    the Dice of a class counts only slices in which it is annotated.
    """
    shown_BK = _table("shown", output)[(target[:, 0, 0] >> PLANE_SHIFT).long()]
    logits = output.float().masked_fill(~shown_BK[:, :, None, None], FAR_BELOW)
    log_p = logits.log_softmax(dim=1)
    may_be = (target[:, None] & _table("bit", output)[None, :, None, None]) > 0
    entropy = -log_p.masked_fill(~may_be, FAR_BELOW).logsumexp(dim=1).mean()
    return entropy + dice * (1 - _soft_dice(log_p.exp(), may_be, shown_BK))


def _soft_dice(p: torch.Tensor, may_be: torch.Tensor, shown_BK: torch.Tensor) -> torch.Tensor:
    """Returns the soft Dice of the annotated classes other than background, as the mean of two means.

    One mean is over slices, in which a small cavity counts as much as a large one; the other is over classes, with the
    batch as one volume. A class counts as annotated in a slice if the target says of some pixel outside the annotated
    structures that it is not of the class. Pixels of which this is unknown (beyond the picture's edge) are ignored.
    """
    sure = may_be & (may_be.sum(dim=1, keepdim=True) == 1)
    structure = sure[:, 1:].any(dim=1, keepdim=True)
    drawn_BK = shown_BK[:, 1:] & ~(may_be[:, 1:] | structure).all(dim=3).all(dim=2)
    if not drawn_BK.any():
        return p.new_ones(())
    truth, guess = sure[:, 1:].float(), p[:, 1:] * (sure | ~may_be)[:, 1:]
    overlap_BK, size_BK = (truth * guess).sum(dim=(2, 3)), (truth + guess).sum(dim=(2, 3))
    by_slice = (2 * overlap_BK + SMOOTH_PIXELS) / (size_BK + SMOOTH_PIXELS)
    overlap_K, size_K = (overlap_BK * drawn_BK).sum(dim=0), (size_BK * drawn_BK).sum(dim=0)
    by_class = (2 * overlap_K + SMOOTH_PIXELS) / (size_K + SMOOTH_PIXELS)
    return (by_slice[drawn_BK].mean() + by_class[drawn_BK.any(dim=0)].mean()) / 2


def _table(name: str, like: torch.Tensor) -> torch.Tensor:
    """Returns a lookup table: `shown` (plane, class) is True if the plane shows the class; `bit` (class) is its bit."""
    if name == "bit":
        return torch.tensor([1 << k for k in range(CLASSES)], dtype=torch.uint8, device=like.device)
    return torch.tensor([[k in SHOWN[plane] for k in range(CLASSES)] for plane in PLANES], device=like.device)


def augment(sample: np.ndarray, rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """Augments a sample, uint8 (2, row, column) to (2, crop, crop), in geometry and in grey values."""
    image_HW, target_HW = sample
    x, y = _sources(cv2.invertAffineTransform(_matrix(target_HW, rng, config)), rng, config)
    image = cv2.remap(image_HW, x, y, cv2.INTER_LINEAR)
    target = cv2.remap(target_HW, x, y, cv2.INTER_NEAREST, borderValue=unknown_of(target_HW))
    # if every crop is changed, no random number is drawn, so runs from before this setting existed stay reproducible
    if config.regreyed == 1 or rng.random() < config.regreyed:
        image = _regreyed(image, rng, config)
    if _happens(config.cut, rng):
        outside = greys.border(image.shape, rng)
        image[outside] = 0
        target[outside & (DRAWN[target] > 0)] = unknown_of(target_HW)
    return np.stack([image, target])


def _happens(share: float, rng: np.random.Generator) -> bool:
    """Returns True for this share of calls. A share of 0 draws no random number, which keeps earlier runs
    reproducible."""
    return share > 0 and rng.random() < share


def _sources(inverse: np.ndarray, rng: np.random.Generator, config: Augmentation) -> tuple[np.ndarray, np.ndarray]:
    """Returns the source position x and y (crop, crop) of each pixel of the crop: affine plus elastic deformation."""
    along = np.arange(config.crop, dtype=np.float32)
    x, y = (
        np.float32(row[0]) * along[None] + np.float32(row[1]) * along[:, None] + np.float32(row[2]) for row in inverse
    )
    if config.bend:
        knots = max(3, config.crop // KNOT_PIXELS)
        bend = rng.normal(0, rng.uniform(0, config.bend), (2, knots, knots)).astype(np.float32)
        shift_x, shift_y = (cv2.resize(each, x.shape, interpolation=cv2.INTER_CUBIC) for each in bend)
        x, y = x + shift_x, y + shift_y
    return x, y


def _matrix(target_HW: np.ndarray, rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """Returns the random affine map from the slice to the crop (2, 3), in OpenCV's order (x, y)."""
    angle, scale, stretch = np.clip(rng.normal(0, 1, 3), -3, 3) * (
        np.radians(config.rotation_degrees),
        config.scale,
        config.stretch,
    )
    quarters, mirrored = rng.random(2) < (config.quarter_turns, config.mirrored)
    any_way_up = plane_of(target_HW) == PLANES[0]
    if any_way_up and quarters:
        angle += np.pi / 2 * rng.integers(4)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if any_way_up and mirrored:
        turn = turn @ np.diag([-1, 1])
    linear = turn @ np.diag([1 + scale + stretch, 1 + scale - stretch])
    middle = np.full(2, config.crop / 2) - linear @ _centre(target_HW, rng, config)
    return np.column_stack([linear, middle])


def _centre(target_HW: np.ndarray, rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """Returns the centre of a crop (x, y): near the annotated structures, else near the middle, or at random."""
    rows, columns = target_HW.shape
    if rng.random() < config.elsewhere:
        return rng.uniform(0, 1, 2) * (columns, rows)
    drawn_HW = cv2.LUT(target_HW, DRAWN)
    by_column, by_row = (cv2.reduce(drawn_HW, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (0, 1))
    count = max(int(by_row.sum()), 1)
    middle = (by_column @ np.arange(columns) / count, by_row @ np.arange(rows) / count)
    return np.array(middle if by_row.any() else (columns / 2, rows / 2)) + rng.normal(0, config.shift, 2)


def _regreyed(image_HW: np.ndarray, rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """Changes the grey values: contrast, gamma, brightness and its variation, resolution, ghosts, noise."""
    grey: np.ndarray = image_HW.astype(np.float32) / 255
    if _happens(config.curved, rng):
        grey = greys.curved(grey, rng)
    if _happens(config.recontrasted, rng):
        grey = greys.recontrasted(grey, rng)
    grey = grey ** np.float32(np.exp(np.clip(rng.normal(0, config.gamma), -0.9, 0.9)))
    slope = np.linspace(-1, 1, len(grey), dtype=np.float32)
    across, down = rng.normal(0, config.bias, 2).astype(np.float32)
    grey = grey * np.exp(across * slope[None] + down * slope[:, None] + np.float32(rng.normal(0, config.gain)))
    if config.shading:
        grey = greys.shaded(grey, rng, config.shading)
    if config.blur and rng.random() < 0.25:
        grey = cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.2, max(config.blur, 0.21)))
    for share, change in ((config.coarse, greys.coarsened), (config.sharp, greys.sharpened),
                          (config.ghost, greys.ghosted)):  # fmt: skip
        if _happens(share, rng):
            grey = change(grey, rng)
    deviation = rng.uniform(0, config.noise)
    if _happens(config.rician, rng):
        grey = greys.noisy(grey * 255, rng, deviation)
    else:
        grey = grey * 255 + deviation * rng.standard_normal(grey.shape, np.float32)
    return np.clip(grey + 0.5, 0, 255).astype(np.uint8)
