"""What the networks of both echo view tasks learn by: their loss, and a field of gain for augmentation.

Axes: B batch, K label.
"""

import cv2
import numpy as np
import torch
from torch.nn import functional

UNLABELLED = -1
"""Target of a sample that shows no view."""


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
