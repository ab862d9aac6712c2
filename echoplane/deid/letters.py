"""Letters over the fan: groups of blocks with too much detail, each looked at by the network in a view that shows it.

What stands still is looked at in projections over time, where speckle fades: the minimum, the median and the range
are the three channels of one picture. What moves, or is in one frame only, is looked at in the frames with the most
of its detail. A group in which the network sees a line of text goes black in every frame, with the line.
Axes: T frame, H row, W column; a block is 8 x 8 pixels.
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from echoplane.deid import detector, energy

_MARGIN = 4  # blocks around a group that its view shows
_MIN_SHARE = 0.2  # of a group's blocks that lie in lines, or of a line's blocks that lie in the group
Frame = Callable[[int], np.ndarray]


def search(energy_THW: np.ndarray, where_HW: np.ndarray, sample_THW: np.ndarray, frame: Frame) -> np.ndarray:
    """Blocks that hold letters. frame: one frame in grey at full size, by number; where_HW: blocks of the fan.

    sample_THW: frames for the projections, with black where the mask is; one where nothing moves."""
    found = np.zeros(where_HW.shape, bool)
    for group in energy.groups(energy_THW, where_HW):
        for view, place in _views(group, sample_THW, frame):
            lines_HW = detector.lines(view)
            lines = np.zeros_like(found)
            lines[place] = _touched(lines_HW)
            if _agree(group.blocks_HW, lines):
                found |= _grown(lines | group.blocks_HW)
                break
    return found


def stands_in(group_HW: np.ndarray, sample_THW: np.ndarray) -> bool:
    """Whether the network sees a line in what stands still at a group of blocks and around it."""
    view, _ = next(_views(energy.Group(group_HW, ()), sample_THW, lambda number: sample_THW[number]))
    return bool(detector.lines(view).any())


def _views(
    group: energy.Group, sample_THW: np.ndarray, frame: Frame
) -> Iterator[tuple[np.ndarray, tuple[slice, slice]]]:
    """Pictures around the group, and where they lie among the blocks."""
    rows, columns = (np.flatnonzero(group.blocks_HW.any(axis=axis)) for axis in (1, 0))
    place = tuple(
        slice(max(0, int(side[0]) - _MARGIN), min(length, int(side[-1]) + 1 + _MARGIN))
        for side, length in zip((rows, columns), group.blocks_HW.shape, strict=True)
    )
    pixels = tuple(slice(side.start * energy.BLOCK, side.stop * energy.BLOCK) for side in place)
    if group.frames:
        yield from ((frame(number)[pixels], place) for number in group.frames)  # type: ignore[misc]
    else:
        yield _projections(sample_THW[:, *pixels]), place  # type: ignore[misc]


def _projections(view_THW: np.ndarray) -> np.ndarray:
    if len(view_THW) == 1:
        return np.asarray(view_THW[0])
    low_HW, high_HW = view_THW.min(axis=0), view_THW.max(axis=0)
    middle_HW = np.partition(view_THW, len(view_THW) // 2, axis=0)[len(view_THW) // 2]
    return np.stack([low_HW, middle_HW, 255 - (high_HW - low_HW)], axis=-1)


def _touched(lines_HW: np.ndarray) -> np.ndarray:
    rows, columns = lines_HW.shape
    padded = np.pad(lines_HW, ((0, -rows % energy.BLOCK), (0, -columns % energy.BLOCK)))
    return np.asarray(padded.reshape(padded.shape[0] // energy.BLOCK, energy.BLOCK, -1, energy.BLOCK).any(axis=(1, 3)))


def _agree(group: np.ndarray, lines: np.ndarray) -> bool:
    both = np.count_nonzero(group & lines)
    return bool(both > 0 and both >= _MIN_SHARE * min(np.count_nonzero(group), np.count_nonzero(lines)))


def _grown(blocks_HW: np.ndarray) -> np.ndarray:
    """The group with its gaps closed and two blocks more: a letter at its end may lie in flat surroundings."""
    closed = cv2.morphologyEx(blocks_HW.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 5), np.uint8))
    return cv2.dilate(closed, np.ones((3, 5), np.uint8)).astype(bool)
