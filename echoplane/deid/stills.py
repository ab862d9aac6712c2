"""Text in single pictures, in which nothing moves: stills of ultrasound, and the frames of MR.

A picture holds text if rows of bright strokes in it are read as a line by the network, at several sizes and directions
(vessels have strokes too, and the network alone takes vessels of the abdomen for a line); if it has the dense, parallel
or rectangular edges of a barcode; or if strokes of one exact value have hard edges, as drawn letters have: noise gives
anatomy many values. Axes: H row, W column; a block is 8 x 8 pixels.
"""

from collections.abc import Iterable

import cv2
import numpy as np

from echoplane.deid import letters, text
from echoplane.deid.regions import Box, Mask
from echoplane.deid.stored import Picture
from echoplane.study.sector import block_means, to_pixels

_SIZES = (0.5, 0.25)  # for letters higher than those that count as glyphs
_TURNS_DEG = (45, -45)  # the network reads lines that are turned by less
_FLAT_LEVELS, _LIT, _FLAT_PIXELS = 12, 48, 100  # within 3 x 3 pixels, after JPEG; grey levels; of one stroke
_FLAT_STEP, _EDGE_PIXELS, _FLAT_HARD_SHARE = 40, 3, 0.8  # grey levels within these pixels, along the outline
_CODE_WINDOW, _CODE_SLOPE, _CODE_ORDER = 24, 35.0, 0.7  # pixels; mean grey levels per pixel; anatomy has at most 26
_INK_PIXELS, _MIN_INK = 5, 10  # of one piece; of one value in a picture
_INK_LEVELS, _INK_STEP, _HARD_SHARE = 30, 30, 0.7  # above the surroundings; to the next pixel; of the outline
_SURROUNDINGS = 15  # pixels
_VALUES = 6  # the most frequent ones


def any_text(pictures: Iterable[Picture]) -> bool:
    """Returns True if there is text in any of the pictures, which have no scan region, such as MR."""
    return any(has_text(shown_HW, _whole(shown_HW)) or has_ink(values_HW, shown_HW) for values_HW, shown_HW in pictures)


def has_text(still_HW: np.ndarray, mask: Mask) -> bool:
    """Returns True if the pixels that the mask keeps hold lines of text of any size and direction, or a barcode."""
    if words(still_HW, mask).any():
        return True
    shown_HW = np.where(mask.keeps(*still_HW.shape), still_HW, 0).astype(np.uint8)
    flat_HW = _flat_strokes(shown_HW)
    # the spikes and lines of M-mode and spectral Doppler are as dense and parallel as the bars of a code
    sectors_HW = np.where(to_pixels(text.strips(mask, still_HW.shape), *still_HW.shape), 0, shown_HW).astype(np.uint8)
    return (
        has_code(sectors_HW)
        or (flat_HW.any() and any(_has_large_line(shown_HW, flat_HW, size) for size in _SIZES))
        or any(_has_drawn_line(_turned(shown_HW, degrees)) for degrees in _TURNS_DEG)
    )


def _whole(picture_HW: np.ndarray) -> Mask:
    return Mask((Box(0, 0, *picture_HW.shape),))


def words(still_HW: np.ndarray, mask: Mask) -> np.ndarray:
    """Returns the blocks of one picture that hold lines of text."""
    return read(text.words(still_HW[None], mask), still_HW, mask)


def read(words_HW: np.ndarray, still_HW: np.ndarray, mask: Mask) -> np.ndarray:
    """Returns the candidates in which the network detects a line, at normal or double size.

    Spikes of spectral Doppler stand in rows as letters do, so in a strip over time the edges must be those of drawn
    letters too."""
    once_HW = np.where(mask.keeps(*still_HW.shape), still_HW, 0).astype(np.uint8)
    twice_HW = cv2.resize(once_HW, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    kept_HW, strips_HW = words_HW.copy(), text.strips(mask, still_HW.shape)
    for group_HW in text.groups(words_HW):
        if (group_HW & strips_HW).any() and not text.is_drawn(group_HW, once_HW[None]):
            kept_HW &= ~group_HW
            continue
        group_twice_HW = group_HW.repeat(2, 0).repeat(2, 1)
        if not (letters.stands_in(group_HW, once_HW[None]) or letters.stands_in(group_twice_HW, twice_HW[None])):
            kept_HW &= ~group_HW
    return kept_HW


def _turned(shown_HW: np.ndarray, degrees: int) -> np.ndarray:
    rows, columns = shown_HW.shape
    side = int(np.ceil(np.hypot(rows, columns)))
    turn = cv2.getRotationMatrix2D((columns / 2, rows / 2), degrees, 1)
    turn[:, 2] += (side - columns) / 2, (side - rows) / 2
    return np.asarray(cv2.warpAffine(shown_HW, turn, (side, side)))


def _has_drawn_line(turned_HW: np.ndarray) -> bool:
    """Returns True if there is a line with the hard edges of drawn letters: coarse speckle can be taken for a line."""
    for group_HW in text.groups(text.words(turned_HW[None], _whole(turned_HW))):
        line_HW = group_HW & letters.near_lines(group_HW, turned_HW[None])
        if line_HW.any() and text.is_drawn(line_HW, turned_HW[None]):
            return True
    return False


def _has_large_line(shown_HW: np.ndarray, flat_HW: np.ndarray, size: float) -> bool:
    """Returns True if the picture at this size has a line with wide strokes. flat_HW: their pixels at full size."""
    small_HW = np.asarray(cv2.resize(shown_HW, None, fx=size, fy=size, interpolation=cv2.INTER_AREA))
    flat_blocks_HW = block_means(cv2.resize(flat_HW.astype(np.uint8) * 255, small_HW.shape[::-1])) > 0
    groups = text.groups(text.words(small_HW[None], _whole(small_HW)))
    return any((group & flat_blocks_HW & letters.near_lines(group, small_HW[None])).any() for group in groups)


def _flat_strokes(shown_HW: np.ndarray) -> np.ndarray:
    """Returns the pixels of wide strokes: lit areas without texture, most of whose outline is a hard edge."""
    near = np.ones((3, 3), np.uint8)
    range_HW = cv2.subtract(cv2.dilate(shown_HW, near), cv2.erode(shown_HW, near))
    calm_HW = ((range_HW <= _FLAT_LEVELS) & (shown_HW > _LIT)).astype(np.uint8)
    flat_HW = cv2.morphologyEx(calm_HW, cv2.MORPH_OPEN, near)
    _, labels_HW, stats, _ = cv2.connectedComponentsWithStats(flat_HW, connectivity=4)
    found_HW = np.zeros(shown_HW.shape, bool)
    for label in np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= _FLAT_PIXELS) + 1:
        place = _around(stats[label], _EDGE_PIXELS)
        area_HW = (labels_HW[place] == label).astype(np.uint8)
        inner_HW, outer_HW = (cv2.dilate(area_HW, near, iterations=_EDGE_PIXELS - back) for back in (1, 0))
        steps = np.median(shown_HW[place][area_HW > 0]) - shown_HW[place][outer_HW > inner_HW]
        if steps.size and (steps >= _FLAT_STEP).mean() >= _FLAT_HARD_SHARE:
            found_HW[place] |= area_HW > 0
    return found_HW


def _around(stat: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Returns the rows and columns of a connected component, with a margin."""
    left, top, width, height = stat[:4]
    return (
        slice(max(0, top - margin), top + height + margin),
        slice(max(0, left - margin), left + width + margin),
    )


def has_code(shown_HW: np.ndarray) -> bool:
    """Returns True if there is a barcode or a two-dimensional code: dense hard edges in one direction or across it.

    The direction of each slope is multiplied by four, so that opposite and perpendicular slopes agree."""
    across_HW, down_HW = (cv2.Sobel(shown_HW, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
    slope_HW = across_HW + 1j * down_HW
    steepness_HW = np.abs(slope_HW)
    turned_HW = slope_HW**4 / np.maximum(steepness_HW, 1e-3) ** 3
    window = (_CODE_WINDOW, _CODE_WINDOW)
    mean_HW = cv2.blur(steepness_HW, window)
    ordered_HW = np.hypot(cv2.blur(turned_HW.real, window), cv2.blur(turned_HW.imag, window))
    return bool(((mean_HW > _CODE_SLOPE) & (ordered_HW > _CODE_ORDER * mean_HW)).any())


def has_ink(values_HW: np.ndarray, shown_HW: np.ndarray) -> bool:
    """Returns True if there are strokes of one exact stored value with hard edges.

    shown_HW: the values as a viewer shows them, in which edges are measured; what it clips to white is not one value.
    """
    beside_HW = np.zeros(values_HW.shape, bool)
    for one, next_one in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        equal = values_HW[one] == values_HW[next_one]
        beside_HW[one] |= equal
        beside_HW[next_one] |= equal
    around_HW = cv2.boxFilter(shown_HW, cv2.CV_32F, (_SURROUNDINGS, _SURROUNDINGS))
    values, counts = np.unique(values_HW[beside_HW & (shown_HW - around_HW > _INK_LEVELS)], return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")][:_VALUES]
    return any(_ink_pixels(values_HW == value, shown_HW.astype(np.int16)) >= _MIN_INK for value in frequent)


def _ink_pixels(equal_HW: np.ndarray, shown_HW: np.ndarray) -> int:
    """Returns the number of pixels in connected pieces with hard edges."""
    count, labels_HW, stats, _ = cv2.connectedComponentsWithStats(equal_HW.astype(np.uint8))
    found = 0
    for label in range(1, count):
        area = stats[label, cv2.CC_STAT_AREA]
        if area < _INK_PIXELS:
            continue
        place = _around(stats[label], 1)
        piece_HW = (labels_HW[place] == label).astype(np.uint8)
        outline_HW = (cv2.dilate(piece_HW, np.ones((3, 3), np.uint8)) - piece_HW).astype(bool)
        level = int(shown_HW[place][piece_HW > 0][0])
        steps = level - shown_HW[place][outline_HW]
        found += int(area) if steps.size and (steps >= _INK_STEP).mean() >= _HARD_SHARE else 0
    return found
