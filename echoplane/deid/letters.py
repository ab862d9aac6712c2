"""Letters over the fan: groups of blocks with too much detail, each looked at by the network in a view that shows it.

What stands still is looked at in projections over time, where speckle fades: the minimum, the median and the range
are the three channels of one picture. What moves, or is in one frame only, is looked at in the frames with the most
of its detail. A group in which the network sees a line of text goes black in every frame, with the line.
Axes: T frame, H row, W column; a block is 8 x 8 pixels.
"""

from collections.abc import Callable

import cv2
import numpy as np

from echoplane.deid import detector, energy
from echoplane.study import sector

_MARGIN = 8  # blocks around a group that its view shows
_LOW, _TALL = 3, 3  # blocks
_WIDER = 3  # times that a view is widened, where a line runs out of it
_MIN_SHARE = 0.2  # of a group's blocks that lie in lines, or of a line's blocks that lie in the group
Frame = Callable[[int], np.ndarray]
Place = tuple[slice, slice]


def search(energy_THW: np.ndarray, where_HW: np.ndarray, sample_THW: np.ndarray, frame: Frame) -> np.ndarray:
    """Blocks that hold letters. frame: one frame in grey at full size, by number; where_HW: blocks of the fan.

    sample_THW: frames for the projections, with black where the mask is; one where nothing moves."""
    found = np.zeros(where_HW.shape, bool)
    for group in energy.groups(energy_THW, where_HW):
        if not (group.blocks_HW & ~found).any():
            continue
        lines = _lines_at(group, sample_THW, frame)
        if lines.any():
            found |= _grown(lines | group.blocks_HW)
    return found


def stand_at(blocks_HW: np.ndarray, energy_THW: np.ndarray, sample_THW: np.ndarray, frame: Frame) -> np.ndarray:
    """Of blocks that may hold letters in some frame, those where the network sees a line, with the line."""
    count, labels_HW = cv2.connectedComponents(blocks_HW.astype(np.uint8))
    found = np.zeros_like(blocks_HW)
    for label in range(1, count):
        group_HW = labels_HW == label
        lines = _lines_at(energy.Group(group_HW, energy.best_frames(energy_THW, group_HW, 3)), sample_THW, frame)
        if lines.any():
            found |= _grown(lines | group_HW)
    return found


def to_the_end(words_HW: np.ndarray, sample_THW: np.ndarray) -> np.ndarray:
    """The words with the rest of their lines: letters that are fainter, or that the text leaves as it moves."""
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
    """Whether the network sees a line in what stands still at a group of blocks and around it."""
    return bool(detector.lines(_view(_place(group_HW), None, sample_THW, lambda number: sample_THW[number])).any())


def lie_in(group_HW: np.ndarray, sample_THW: np.ndarray) -> bool:
    """Returns whether a line of text lies in a group of blocks, and not only near it, in what stands still."""
    return _agree(group_HW, _lines_in_view(group_HW, sample_THW))


def near_lines(group_HW: np.ndarray, sample_THW: np.ndarray) -> np.ndarray:
    """Returns the blocks at the lines of text that the network sees at a group, in what stands still."""
    lines_HW = _lines_in_view(group_HW, sample_THW)
    return _grown(lines_HW) if _agree(group_HW, lines_HW) else lines_HW & False


def _lines_in_view(group_HW: np.ndarray, sample_THW: np.ndarray) -> np.ndarray:
    place = _place(group_HW)
    lines_HW = np.zeros_like(group_HW)
    lines_HW[place] = _touched(_seen(_view(place, None, sample_THW, lambda number: sample_THW[number]), group_HW))
    return lines_HW


def _lines_at(group: energy.Group, sample_THW: np.ndarray, frame: Frame) -> np.ndarray:
    """Blocks of the lines at a group; of one that moves, all blocks between the places where it was seen."""
    lines = np.zeros_like(group.blocks_HW)
    for number in group.frames or (None,):
        lines |= _whole_line(group.blocks_HW, number, sample_THW, frame)
    return sector.hull(lines) if len(group.frames) > 1 and lines.any() else lines


def _whole_line(group_HW: np.ndarray, number: int | None, sample_THW: np.ndarray, frame: Frame) -> np.ndarray:
    """Blocks of the line at a group in one view, none where there is no line; the view follows it to its ends."""
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
    """Pixels of a view in lines of text.

    At a tall group the view is also turned, because the network is used to lines that lie; at a low and wide one,
    where letters may be small, it is also looked at in double size."""
    lines_HW = detector.lines(view)
    if not lines_HW.any() and view.ndim == 3:  # small letters over bright speckle show in the minimum alone
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
    """Rows and columns of blocks that a view of these blocks shows."""
    rows, columns = (np.flatnonzero(blocks_HW.any(axis=axis)) for axis in (1, 0))
    return tuple(
        slice(max(0, int(side[0]) - _MARGIN), min(length, int(side[-1]) + 1 + _MARGIN))
        for side, length in zip((rows, columns), blocks_HW.shape, strict=True)
    )  # type: ignore[return-value]


def _view(place: Place, number: int | None, sample_THW: np.ndarray, frame: Frame) -> np.ndarray:
    """The picture of a place: of one frame, or the projections over time."""
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


def _grown(blocks_HW: np.ndarray) -> np.ndarray:
    """The group with its gaps closed and two blocks more: a letter at its end may lie in flat surroundings."""
    closed = cv2.morphologyEx(blocks_HW.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 5), np.uint8))
    return cv2.dilate(closed, np.ones((3, 5), np.uint8)).astype(bool)
