"""What the networks of both echo view tasks learn by: their loss, and parts of their augmentation.

Axes: B batch, K label, H row, W column.
"""

import cv2
import numpy as np
import torch
from torch.nn import functional

UNLABELLED = -1
"""Target of a sample that shows no view."""
MARGIN_SHARE = 1 / 7
"""Share of the samples that augmentation gives a wide margin, if any."""


def loss(
    output_BK: torch.Tensor, target_B: torch.Tensor, label_smoothing: float, outlier_weight: float
) -> torch.Tensor:
    """Returns the mean cross entropy over labelled samples; UNLABELLED ones are pushed to even probabilities.

    Outlier exposure (Hendrycks et al. 2019, arXiv 1812.04606), so that a picture without a view gets no confident
    answer. With `outlier_weight` 0 such samples are ignored, and a batch without labels gives 0.
    """
    labelled_B = target_B != UNLABELLED
    total = functional.cross_entropy(
        output_BK, target_B, ignore_index=UNLABELLED, label_smoothing=label_smoothing, reduction="sum"
    ) / labelled_B.sum().clamp(min=1)
    if not outlier_weight:
        return total
    others = ~labelled_B
    uneven = -(functional.log_softmax(output_BK, dim=1).mean(dim=1) * others).sum() / others.sum().clamp(min=1)
    return total + outlier_weight * uneven


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a smooth field (row, column) of deviation 1."""
    coarse = rng.standard_normal((4, 5), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC))


def erase(picture: np.ndarray, rng: np.random.Generator, side: float) -> None:
    """Blanks one rectangle of the last two axes (..., H, W), in place; its sides are at most `side` of them."""
    rows, columns = picture.shape[-2:]
    height, width = (rng.uniform(0, side, 2) * (rows, columns)).astype(int)
    top, left = rng.integers(0, rows - height), rng.integers(0, columns - width)
    picture[..., top : top + height, left : left + width] = 0
