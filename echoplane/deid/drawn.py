"""Drawn letters over a moving sector, of any size, spacing, direction and font, by their edges over time.

What a machine draws has hard edges that stand still: in every frame the slope is the same, in the same direction. The
edges of speckle change, and those of a static wall are blurred by the width of the beam. Lines such as the outline of
a colour box are drawn too, but are no letters. Neither lines of letters nor a network are needed, so letters far
apart, single ones, dot matrix and letters as high as the heart are found.
Axes: T frame, H row, W column; a block is 8 x 8 pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from echoplane.deid import still_strokes
from echoplane.deid.regions import Mask
from echoplane.study.sector import block_means, shrink, to_pixels

_CERTAIN, _FAINT, _POSSIBLE = 40.0, 16.0, 28.0  # grey levels per pixel, in the frame with the lowest
_MIN_CERTAIN, _MIN_POSSIBLE = 40, 60  # pixels of edges in one group; a static aorta of the phantom has at most 26, 56
_APART = 9  # pixels between the edges of one group
_SMALL, _MIN_SMALL = 22.0, 12  # grey levels per pixel, pixels: of one letter that may be small, grey or turned
_ONE_DIRECTION, _ONE_SIDE = 0.6, 0.4  # of the slopes of a wall; a letter has strokes in many directions, and both sides
_ONLY_ONE_SIDE = 0.9  # of the slopes of a still wall of the phantom 0.99
_NEAR = 17  # pixels around certain edges in which fainter ones belong to them
_BLACK = 16  # grey levels of the brightest frame outside the sector
_BORDER, _SHARP_BORDER = 21, 9  # pixels around that, in which the border of the sector may be, or is, sharp
_RIM = 5  # pixels around that, in which the border of the sector flickers
_JOINED, _LINE_PIXELS, _LINE_THICKNESS = 5, 16, 6.0
_FLAT, _LIT, _STROKE = 24, 48, 33  # grey levels over time; lowest grey level; pixels around edges inside a stroke
_CANCELLED = 0.5  # slopes on both sides of a thin line cancel; along the outline of a wide stroke they do not


@dataclass(frozen=True)
class Edges:
    """Edges inside the sector of a moving clip: minimum slope over time per pixel, mean slope as (row, column, 2)."""

    min_HW: np.ndarray
    mean_HWC: np.ndarray
    flat_HW: np.ndarray
    """Lit pixels that do not change, such as the inside of wide strokes."""
    inner_HW: np.ndarray
    """Pixels away from the border of the sector, in which certain edges are letters."""
    strips_HW: np.ndarray
    """Pixels of M-mode and spectral Doppler, which stand still themselves: edges there are only a reason for doubt."""
    still_HW: np.ndarray
    """Pixels of strokes that do not change, up to the border of the sector: only a reason for doubt."""


def edges(sample_THW: np.ndarray, fan_HW: np.ndarray, strips_HW: np.ndarray, mask: Mask) -> Edges:
    """Returns the edges of frames before text is masked. fan_HW, strips_HW: blocks of the sector, and of strips."""
    mean_HW = sample_THW.mean(axis=0, dtype=np.float32)
    mean_HWC = np.stack(_slopes(mean_HW), axis=-1)
    length_HW = np.linalg.norm(mean_HWC, axis=-1)
    places = np.nonzero((length_HW > _FAINT) & _inner(sample_THW, fan_HW, mask, _SHARP_BORDER))
    along_NC = mean_HWC[places] / length_HW[places][:, None]
    min_N = np.full(len(along_NC), np.inf, np.float32)
    for frame_HW in sample_THW:
        slope_NC = np.stack([slope[places] for slope in _slopes(frame_HW)], axis=-1)
        min_N = np.minimum(min_N, (slope_NC * along_NC).sum(axis=-1))
    min_HW = np.zeros(mean_HW.shape, np.float32)
    min_HW[places] = min_N
    flat_HW = (np.ptp(sample_THW, axis=0) <= _FLAT) & (sample_THW.min(axis=0) > _LIT)
    inner_HW = _inner(sample_THW, fan_HW, mask, _BORDER)
    in_strips_HW = to_pixels(strips_HW, *mean_HW.shape)
    still_HW = still_strokes.find(sample_THW, _inner(sample_THW, fan_HW, mask, _RIM) & ~in_strips_HW)
    return Edges(min_HW, mean_HWC, flat_HW, inner_HW, in_strips_HW, still_HW)


def _slopes(frame_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns grey levels per pixel along columns and rows."""
    depth = cv2.CV_32F
    return cv2.Sobel(frame_HW, depth, 1, 0, scale=1 / 8), cv2.Sobel(frame_HW, depth, 0, 1, scale=1 / 8)


def letters(found: Edges) -> np.ndarray:
    """Returns the blocks of drawn letters."""
    certain_HW = _groups(found, _CERTAIN, _MIN_CERTAIN, found.inner_HW & ~found.strips_HW)
    ink_HW = _filled(found, _with_both_sides(found, certain_HW))
    return block_means(ink_HW.astype(np.uint8) * 255) > 0


def remain(found: Edges, mask: Mask) -> bool:
    """Returns True if there may be letters in the pixels that the mask keeps: fainter edges, or edges in a strip."""
    keep_HW = mask.keeps(*found.min_HW.shape) & ~found.strips_HW
    faint_HW = _groups(found, _POSSIBLE, _MIN_POSSIBLE, keep_HW & found.inner_HW)
    in_strip_HW = mask.keeps(*found.min_HW.shape) & found.inner_HW & found.strips_HW
    return bool(
        faint_HW.any()
        or _groups(found, _CERTAIN, _MIN_CERTAIN, in_strip_HW).any()
        or _has_small_letter(found, _groups(found, _SMALL, _MIN_SMALL, keep_HW))
        or still_strokes.remain(found.still_HW, keep_HW)
    )


def _has_small_letter(found: Edges, groups_HW: np.ndarray) -> bool:
    """Returns True if a group of edges has many directions and both sides of its strokes, as letters have."""
    _, one_side, one_direction = _agreement(found, groups_HW)
    return bool(((one_direction <= _ONE_DIRECTION) & (one_side <= _ONE_SIDE)).any())


def _with_both_sides(found: Edges, groups_HW: np.ndarray) -> np.ndarray:
    """Returns the groups of edges without those of one side alone: a stroke has two, the wall of a vessel has one."""
    label_N, one_side, _ = _agreement(found, groups_HW)
    kept_HW = groups_HW.copy()
    kept_HW[groups_HW] = one_side[label_N] <= _ONLY_ONE_SIDE
    return kept_HW


def _agreement(found: Edges, groups_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the group of each edge, and per group how far its slopes agree in side and in direction, 0 to 1.

    A group without edges has 1."""
    near_HW = cv2.dilate(groups_HW.astype(np.uint8), np.ones((_APART, _APART), np.uint8))
    label_N = cv2.connectedComponents(near_HW)[1][groups_HW]
    slope_N = found.mean_HWC[groups_HW] @ np.array([1, 1j])
    length_N = np.abs(slope_N)
    total = np.bincount(label_N, length_N)
    # squared, opposite slopes agree
    side, direction = (
        np.hypot(np.bincount(label_N, each_N.real), np.bincount(label_N, each_N.imag))
        for each_N in (slope_N, slope_N**2 / np.maximum(length_N, 1e-6))
    )
    empty, whole = total <= 1, np.maximum(total, 1e-6)
    return label_N, np.where(empty, 1.0, side / whole), np.where(empty, 1.0, direction / whole)


def _inner(sample_THW: np.ndarray, fan_HW: np.ndarray, mask: Mask, border: int) -> np.ndarray:
    """Returns the pixels of the sector that are not within `border` / 2 of its border, which is as sharp as letters."""
    shape = sample_THW.shape[1:]
    keep_HW, sector_HW = mask.keeps(*shape), to_pixels(fan_HW, *shape)
    black_HW = (np.where(keep_HW, sample_THW.max(axis=0), 0) <= _BLACK).astype(np.uint8)
    black_HW = cv2.morphologyEx(black_HW, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) | ~sector_HW
    count, labels_HW = cv2.connectedComponents(black_HW)
    reaches_out = np.bincount(labels_HW[~sector_HW], minlength=count) > 0
    reaches_out[0] = False
    outside_HW = reaches_out[labels_HW]
    near_HW = cv2.dilate(outside_HW.astype(np.uint8), np.ones((border, border), np.uint8)) > 0
    return np.asarray(to_pixels(shrink(fan_HW), *shape) & keep_HW & ~near_HW)


def _groups(found: Edges, slope: float, min_pixels: int, where_HW: np.ndarray) -> np.ndarray:
    """Returns the edges of at least this slope in groups of at least `min_pixels`, without drawn lines."""
    hit_HW = (found.min_HW > slope) & where_HW
    if np.count_nonzero(hit_HW) < min_pixels:
        return hit_HW & False
    hit_HW = _without_lines(hit_HW, found)
    near_HW = cv2.dilate(hit_HW.astype(np.uint8), np.ones((_APART, _APART), np.uint8))
    count, labels_HW = cv2.connectedComponents(near_HW)
    large = np.bincount(labels_HW[hit_HW], minlength=count) >= min_pixels
    return np.asarray(hit_HW & large[labels_HW])


def _without_lines(hit_HW: np.ndarray, found: Edges) -> np.ndarray:
    """Returns the edges without those of thin lines; the bars of a barcode, side by side, are not thin."""
    joined_HW = cv2.morphologyEx(hit_HW.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((_JOINED, _JOINED), np.uint8))
    kept_HW, one_sided_HW = hit_HW.copy(), None
    _, labels_HW, stats, _ = cv2.connectedComponentsWithStats(joined_HW)
    for label in np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= _LINE_PIXELS) + 1:
        left, top, width, height, area = stats[label]
        box = np.s_[top : top + height, left : left + width]
        part_HW = labels_HW[box] == label
        length = max(cv2.minAreaRect(np.argwhere(part_HW).astype(np.int32))[1]) + 1
        if length < _LINE_PIXELS or area > _LINE_THICKNESS * length:
            continue
        one_sided_HW = _one_sided(hit_HW, found) if one_sided_HW is None else one_sided_HW
        if one_sided_HW[box][part_HW & hit_HW[box]].mean() <= _CANCELLED:
            kept_HW[box] &= ~part_HW
    return kept_HW


def _one_sided(hit_HW: np.ndarray, found: Edges) -> np.ndarray:
    """Returns the edges without an opposite one within a few pixels: outlines of wide strokes."""
    mean_HWC = np.where(hit_HW[..., None], found.mean_HWC, 0).astype(np.float32)
    around = np.linalg.norm(cv2.blur(mean_HWC, (_JOINED, _JOINED)), axis=-1)
    alone = cv2.blur(np.linalg.norm(mean_HWC, axis=-1), (_JOINED, _JOINED))
    return np.asarray(around > _CANCELLED * np.maximum(alone, 1e-6)) & hit_HW


def _filled(found: Edges, certain_HW: np.ndarray) -> np.ndarray:
    """Returns the letters at certain edges, with their fainter edges and the inside of wide strokes."""
    if not certain_HW.any():
        return certain_HW
    near_HW = cv2.dilate(certain_HW.astype(np.uint8), np.ones((_NEAR, _NEAR), np.uint8)) > 0
    ink_HW = _without_lines((found.min_HW > _FAINT) & near_HW, found) | certain_HW
    inside_HW = found.flat_HW & (cv2.dilate(ink_HW.astype(np.uint8), np.ones((_STROKE, _STROKE), np.uint8)) > 0)
    ink_HW |= inside_HW & ~found.strips_HW
    closed = cv2.morphologyEx(ink_HW.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((_JOINED, _JOINED), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(closed)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    return cv2.dilate(filled, np.ones((3, 3), np.uint8)) > 0
