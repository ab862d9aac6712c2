"""Text candidates from the edge density of 8 x 8 blocks, in every frame and without decoding one.

Edge density ("detail") is the mean absolute Laplacian of a block. Letters have sharp edges and speckle is smooth, so a
block of text has far more detail than the blocks around it, in the frames that show it. Three maps over time find
text: the maximum over frames (moving or rotated text), the minimum (static text, also of low contrast), and the
difference of the maximum to the second highest (text in a single frame).
Axes: T frame, H row of blocks, W column of blocks.
"""

from dataclasses import dataclass

import cv2
import numpy as np

BLOCK = 8
_NEIGHBOURHOOD = 15  # blocks
_FLOOR = 3.0  # grey levels; blocks with less detail are flat


@dataclass(frozen=True)
class Group:
    """Connected blocks that form a text candidate, and the frames to inspect; no frames if the candidate is static."""

    blocks_HW: np.ndarray
    frames: tuple[int, ...]


@dataclass(frozen=True)
class _Rule:
    """Rule for a group: connected blocks above `low`, at least `least` of them above `high`, as ratios to the
    neighbourhood."""

    high: float
    low: float
    least: int


_MOST, _LEAST, _JUMP = _Rule(2.0, 1.5, 4), _Rule(1.8, 1.4, 4), _Rule(0.4, 0.2, 5)
_WEIGHTS = np.minimum(np.add.outer(np.arange(8) ** 2, np.arange(8) ** 2), 8).astype(np.float32)
# factor from weighted DCT coefficients to the mean of |Laplacian| over the block, fitted on speckle and letters
_LAPLACIAN_SHARE = 1 / 190


def of_coefficients(blocks: np.ndarray, quantisers: np.ndarray) -> np.ndarray:
    """Returns the detail of each block from its quantised DCT coefficients (row, column, 64).

    `quantisers` are in natural order.
    """
    weights = (quantisers * _WEIGHTS.ravel() * _LAPLACIAN_SHARE).astype(np.float32)
    return np.asarray(np.abs(blocks).astype(np.float32) @ weights)


def of_pixels(grey_HW: np.ndarray) -> np.ndarray:
    """Returns the detail of each block from pixels: the mean of |Laplacian|."""
    rows, columns = grey_HW.shape
    padded = np.pad(grey_HW, ((0, -rows % BLOCK), (0, -columns % BLOCK)), mode="edge")
    edges = cv2.convertScaleAbs(cv2.Laplacian(padded, cv2.CV_16S))
    size = padded.shape[1] // BLOCK, padded.shape[0] // BLOCK
    return np.asarray(cv2.resize(edges, size, interpolation=cv2.INTER_AREA), np.float32)


def groups(energy_THW: np.ndarray, where_HW: np.ndarray) -> list[Group]:
    """Returns all groups of blocks that may hold text. `where_HW`: blocks to search."""
    if not where_HW.any():
        return []
    ordered = np.partition(energy_THW, (0, len(energy_THW) - 2), axis=0) if len(energy_THW) > 2 else energy_THW
    min_HW, second_HW, max_HW = ordered[0], ordered[-2:][0], energy_THW.max(axis=0)
    around_HW = _around(max_HW, where_HW)
    found = [Group(blocks, ()) for blocks in _grouped(min_HW / _around(min_HW, where_HW), where_HW, _LEAST)]
    for blocks in _grouped(max_HW / around_HW, where_HW, _MOST):
        found.append(Group(blocks, best_frames(energy_THW, blocks, 3)))
    if len(energy_THW) > 2:
        for blocks in _grouped((max_HW - second_HW) / around_HW, where_HW, _JUMP):
            found.append(Group(blocks, best_frames(energy_THW - second_HW, blocks, 1)))
    return found


def _around(map_HW: np.ndarray, where_HW: np.ndarray) -> np.ndarray:
    """Returns the mean over the part of the neighbourhood that lies in `where_HW`."""
    size = (_NEIGHBOURHOOD, _NEIGHBOURHOOD)
    total = cv2.blur(np.where(where_HW, map_HW, 0).astype(np.float32), size)
    share = cv2.blur(where_HW.astype(np.float32), size)
    return np.maximum(total / np.maximum(share, 0.05), _FLOOR)


def _grouped(ratio_HW: np.ndarray, where_HW: np.ndarray, rule: _Rule) -> list[np.ndarray]:
    low = (np.where(where_HW, ratio_HW, 0) > rule.low).astype(np.uint8)
    count, labels = cv2.connectedComponents(low, connectivity=8)
    seeds = np.bincount(labels[(ratio_HW > rule.high) & (low > 0)], minlength=count)
    return [labels == label for label in np.flatnonzero(seeds >= rule.least) if label]


def best_frames(energy_THW: np.ndarray, blocks_HW: np.ndarray, count: int) -> tuple[int, ...]:
    """Returns the frames with the most detail in these blocks, one for each part of the clip."""
    detail_T = energy_THW[:, blocks_HW].mean(axis=1)
    third = -(-len(detail_T) // count)
    return tuple(start + int(np.argmax(detail_T[start : start + third])) for start in range(0, len(detail_T), third))
