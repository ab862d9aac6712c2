"""Text over the sector: the network inspects each text candidate (group of blocks with high detail) in a suitable view.

Static candidates are inspected in projections over time, in which speckle fades: the minimum, the median and the
inverted range are the three channels of one picture. Moving candidates, and those in a single frame, are inspected in
the frames with the most detail. A candidate in which the network detects a text line is blackened in every frame, with
the line. Axes: T frame, H row, W column; a block is 8 x 8 pixels.
"""

from collections.abc import Callable

import cv2
import numpy as np

from echoplane.deid import detector, energy
from echoplane.study import sector

_MARGIN = 8  # blocks around a group that are part of its view
_LOW, _TALL = 3, 3  # blocks
_REACH = 7  # blocks; letters up to three blocks from the line that the network detects belong to it
_WIDER = 3  # maximum number of times that a view is widened, if a line extends beyond it
_MIN_SHARE = 0.2  # minimum share of a group's blocks that lie in lines, or of a line's blocks in the group
Frame = Callable[[int], np.ndarray]
Place = tuple[slice, slice]


def search(energy_THW: np.ndarray, where_HW: np.ndarray, sample_THW: np.ndarray, frame: Frame) -> np.ndarray:
    """Returns the blocks that hold text. frame: one frame in grey at full size, by number; where_HW: blocks to search.

    sample_THW: frames for the projections, black outside the mask; a single one if nothing moves."""
    found = np.zeros(where_HW.shape, bool)
    for group in energy.groups(energy_THW, where_HW):
        if not (group.blocks_HW & ~found).any():
            continue
        lines = _lines_at(group, sample_THW, frame)
        if lines.any():
            found |= _with_letters_near(lines, group.blocks_HW)
    return found


def stand_at(blocks_HW: np.ndarray, energy_THW: np.ndarray, sample_THW: np.ndarray, frame: Frame) -> np.ndarray:
    """Returns those of the candidate blocks in which the network detects a text line, with the line.

    The candidates may hold text in some frames only.
    """
    count, labels_HW = cv2.connectedComponents(blocks_HW.astype(np.uint8))
    found = np.zeros_like(blocks_HW)
    for label in range(1, count):
        group_HW = labels_HW == label
        lines = _lines_at(energy.Group(group_HW, energy.best_frames(energy_THW, group_HW, 3)), sample_THW, frame)
        if lines.any():
            found |= _with_letters_near(lines, group_HW)
    return found


def to_the_end(words_HW: np.ndarray, sample_THW: np.ndarray) -> np.ndarray:
    """Extends the text blocks to the ends of their lines: fainter letters, or blocks that moving text uncovers."""
    count, labels_HW = cv2.connectedComponents(words_HW.astype(np.uint8))
    found = words_HW.copy()
    for label in range(1, count):
        group = energy.Group(labels_HW == label, (0, len(sample_THW) - 1))
        lines = _lines_at(group, sample_THW, lambda number: sample_THW[number])
        lines |= _whole_line(group.blocks_HW, None, sample_THW, lambda number: sample_THW[number])
        if lines.any():
            found |= _grown(lines)
    return found


def stands_in(group_HW: np.ndarray, sample_THW: np.ndarray) -> bool:
    """Returns True if the network detects a line in the projections over time at a group of blocks and around it."""
    return bool(detector.lines(_view(_place(group_HW), None, sample_THW, lambda number: sample_THW[number])).any())


def lie_in(group_HW: np.ndarray, sample_THW: np.ndarray) -> bool:
    """Returns True if a text line lies in a group of blocks, and not only near it, in the projections over time."""
    return _agree(group_HW, _lines_in_view(group_HW, sample_THW))


def near_lines(group_HW: np.ndarray, sample_THW: np.ndarray) -> np.ndarray:
    """Returns the blocks at the text lines that the network detects at a group, in the projections over time."""
    lines_HW = _lines_in_view(group_HW, sample_THW)
    return _grown(lines_HW) if _agree(group_HW, lines_HW) else lines_HW & False


def _lines_in_view(group_HW: np.ndarray, sample_THW: np.ndarray) -> np.ndarray:
    place = _place(group_HW)
    lines_HW = np.zeros_like(group_HW)
    lines_HW[place] = _touched(_seen(_view(place, None, sample_THW, lambda number: sample_THW[number]), group_HW))
    return lines_HW


def _lines_at(group: energy.Group, sample_THW: np.ndarray, frame: Frame) -> np.ndarray:
    """Returns the blocks of the lines at a group; for a moving line, the hull of all its positions."""
    lines = np.zeros_like(group.blocks_HW)
    for number in group.frames or (None,):
        lines |= _whole_line(group.blocks_HW, number, sample_THW, frame)
    return sector.hull(lines) if len(group.frames) > 1 and lines.any() else lines


def _whole_line(group_HW: np.ndarray, number: int | None, sample_THW: np.ndarray, frame: Frame) -> np.ndarray:
    """Returns the blocks of the line at a group in one view, widened until it shows the whole line; else no block."""
    seen = np.zeros_like(group_HW)
    for _ in range(1 + _WIDER):
        place = _place(group_HW | seen)
        lines = np.zeros_like(group_HW)
        lines[place] = _touched(_seen(_view(place, number, sample_THW, frame), group_HW))
        if not _agree(group_HW, lines):
            break
        seen |= lines
        if _place(group_HW | seen) == place:
            break
    return seen


def _seen(view: np.ndarray, group_HW: np.ndarray) -> np.ndarray:
    """Returns a mask of the pixels of a view that lie in text lines.

    If none are detected, the view of a tall group is also rotated, because the network is trained on horizontal lines,
    and the view of a low and wide group, whose letters may be small, is also inspected at double size."""
    lines_HW = detector.lines(view)
    if not lines_HW.any() and view.ndim == 3:  # small letters over bright speckle are visible only in the minimum
        lines_HW = detector.lines(np.ascontiguousarray(view[..., 0]))
    rows, columns = (np.flatnonzero(group_HW.any(axis=axis)) for axis in (1, 0))
    height, width = rows[-1] - rows[0], columns[-1] - columns[0]
    if lines_HW.any():
        return lines_HW
    if height >= _TALL and height > 2 * width:
        return np.rot90(detector.lines(np.ascontiguousarray(np.rot90(view))), -1)
    if height < _LOW and width >= 2 * height:
        return detector.lines(cv2.resize(view, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))[::2, ::2]
    return lines_HW


def _place(blocks_HW: np.ndarray) -> Place:
    """Returns the rows and columns of blocks that make up the view of these blocks."""
    rows, columns = (np.flatnonzero(blocks_HW.any(axis=axis)) for axis in (1, 0))
    return tuple(
        slice(max(0, int(side[0]) - _MARGIN), min(length, int(side[-1]) + 1 + _MARGIN))
        for side, length in zip((rows, columns), blocks_HW.shape, strict=True)
    )  # type: ignore[return-value]


def _view(place: Place, number: int | None, sample_THW: np.ndarray, frame: Frame) -> np.ndarray:
    """Returns the picture of a view: of one frame, or the projections over time."""
    pixels = tuple(slice(side.start * energy.BLOCK, side.stop * energy.BLOCK) for side in place)
    return frame(number)[pixels] if number is not None else _projections(sample_THW[:, *pixels])


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


def _with_letters_near(lines_HW: np.ndarray, group_HW: np.ndarray) -> np.ndarray:
    """Returns the lines with the blocks of their group that letters of the same line can reach.

    A group can be far larger than its line, such as a bright wall; more text in it is found by the next search."""
    near_HW = cv2.dilate(lines_HW.astype(np.uint8), np.ones((_REACH, _REACH), np.uint8)).astype(bool)
    return _grown(lines_HW | (group_HW & near_HW))


def _grown(blocks_HW: np.ndarray) -> np.ndarray:
    """Returns the group with its gaps closed, and dilated: a letter at its end may lie in flat surroundings."""
    closed = cv2.morphologyEx(blocks_HW.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 5), np.uint8))
    return cv2.dilate(closed, np.ones((3, 5), np.uint8)).astype(bool)
