"""Text candidates inside the scan region: static bright strokes over the sector, and everything outside the sector.

Scanners write in the corners of the region, and over the sector. Outside the sector, everything that is above black
level in some frame is blackened. Inside it, text is the same in every frame while speckle changes, so it is bright in
the minimum over time: several thin bright strokes in a row form a text candidate ("words"). If nothing moves, text
cannot be distinguished from speckle in this way, so a still is judged only by its strokes.
Axes: T frame, H row, W column; a block is 8 x 8 pixels.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from echoplane.deid import detector
from echoplane.deid.regions import Mask
from echoplane.study.sector import BLOCK, MIN_FRAMES, block_means, grow, has_texture, opened, scan_hull, shrink

_BLACK = 10  # black level of a block's mean in grey levels; higher than the ringing of JPEG outside the sector
_VOID = 2  # grey levels of the mean of an empty block
_FAINT = 16  # black level of one pixel in grey levels
_STROKE_LEVELS = 70  # minimum contrast of a stroke to its surroundings
_STROKE_PIXELS = 9  # wider than the strokes of any caption
_MIN_GLYPH_PIXELS, _MAX_GLYPH_PIXELS = 5, 48  # height
_MIN_GLYPHS = 3
_STILL_LEVELS = 6
_STEADY_LEVELS = 45  # maximum range over time; JPEG makes text over moving speckle vary
_MIN_MOVING_FRACTION = 0.02
_SAMPLED_FRAMES = 8
_LETTER_DETAIL = 12.0  # mean |Laplacian| of a block; dim speckle at the sector border has less
_DRAWN_SLOPE = 35.0  # grey levels per pixel next to a stroke; static walls have 20, letters 60
_GROWTH_STEPS = 3
_RIM_BLOCKS = 3
_MIN_PASSING = 4  # blocks side by side
_CAPTION = 30  # grey levels of a block's mean; speckle at a mostly black sector border has less


@dataclass(frozen=True)
class Findings:
    """Text candidates, the sector and blocks above black level, as (rows, columns) of 8 x 8 blocks.

    `moves` is True if the clip moves, so that static text can be distinguished from speckle.
    """

    beside_fan: np.ndarray
    words: np.ndarray
    fan: np.ndarray
    lit: np.ndarray
    moves: bool

    @property
    def blocks(self) -> np.ndarray:
        """Blocks that hold text, or may."""
        return self.beside_fan | self.words


def sample(frames: int) -> list[int]:
    """Returns the frames to inspect at full size, spread over the clip, including the first and the last."""
    return sorted({round(index) for index in np.linspace(0, frames - 1, min(frames, _SAMPLED_FRAMES))})


def search(sample_THW: np.ndarray, mask: Mask) -> Findings:
    """Searches for text in the pixels that the mask keeps, in some frames at full size."""
    inside_HW = _inside(mask, sample_THW.shape[1:])
    eighth_THW = np.stack([block_means(frame) for frame in sample_THW])
    lit_HW = ((eighth_THW.max(axis=0) > _BLACK) | _faint_strokes(sample_THW, mask)) & inside_HW
    fan_HW, _ = _scan(sample_THW, eighth_THW, mask)
    beside_HW = lit_HW & ~fan_HW & ~_flickers(eighth_THW)
    moving_HW = np.ptp(eighth_THW, axis=0) > _STILL_LEVELS
    enough = len(sample_THW) >= MIN_FRAMES and fan_HW.any()
    moves = bool(enough and moving_HW[fan_HW].mean() > _MIN_MOVING_FRACTION)
    return Findings(grow(beside_HW) & inside_HW, words(sample_THW, mask), fan_HW, lit_HW, moves)


def blackened_share(sample_THW: np.ndarray, mask: Mask) -> float:
    """Returns the share of the scan that was blackened as text, 0 to 1, in the box with the largest share.

    sample_THW: frames before blackening. The scan consists of blocks above black level in the sector's hull, and of
    all blocks that look like tissue, so that tissue outside a wrong hull, or of a frozen picture, is counted too."""
    if mask.text_blocks is None or not mask.text_blocks.any():
        return 0.0
    means_THW = np.stack([block_means(frame) for frame in sample_THW])
    whole = replace(mask, text_blocks=None)
    scan_HW, tissue_HW = _scan(sample_THW, means_THW, whole)
    thick_HW = opened(mask.text_blocks & (means_THW.min(axis=0) > _BLACK))  # thicker than lines of text
    if thick_HW.any():
        tissue_HW = tissue_HW | (thick_HW & _textured(sample_THW[0]))
    shown_HW = (scan_HW & (means_THW.max(axis=0) > _BLACK)) | tissue_HW
    shares = [0.0]
    for box in mask.boxes:
        in_box_HW = shown_HW & _inside(replace(whole, boxes=(box,)), sample_THW.shape[1:])
        shares.append(float((in_box_HW & mask.text_blocks).sum() / max(1, in_box_HW.sum())))
    return max(shares)


def _scan(sample_THW: np.ndarray, means_THW: np.ndarray, mask: Mask) -> tuple[np.ndarray, np.ndarray]:
    """Returns the blocks of the scan, and all blocks that look like tissue.

    The scan of a 2D region is the hull of its sector; that of a strip over time (M-mode, Doppler) is the whole
    region."""
    # above black level most of the time: text that moves must not widen the sector
    lit_HW = np.median(means_THW, axis=0) > _BLACK
    # text that moves outside the sector leaves black behind; speckle is never quite black, or always dim
    lasting_HW = lit_HW & (means_THW.min(axis=0) > _VOID)
    tissue_HW = _flickers(means_THW) & (lasting_HW | (means_THW.max(axis=0) <= _CAPTION))
    if len(sample_THW) < MIN_FRAMES:
        tissue_HW = lit_HW & np.logical_and.reduce([_textured(frame_HW) for frame_HW in sample_THW])
    scan_HW = np.zeros(lit_HW.shape, bool)
    for box in mask.boxes:
        inside_HW = _inside(replace(mask, boxes=(box,)), sample_THW.shape[1:])
        scan_HW |= inside_HW if box.is_strip else scan_hull(lit_HW & inside_HW, tissue_HW & inside_HW)
    return scan_HW, tissue_HW


def _textured(frame_HW: np.ndarray) -> np.ndarray:
    """Returns the blocks of a still that have the texture of speckle and in which the network detects no text."""
    return has_texture(frame_HW) & ~(block_means(detector.lines(frame_HW).astype(np.uint8) * 255) > 0)


def _faint_strokes(sample_THW: np.ndarray, mask: Mask) -> np.ndarray:
    """Returns the blocks with any pixel that is never black, such as those of faint letters, whose mean is dark."""
    always_HW = np.where(mask.keeps(*sample_THW.shape[1:]), sample_THW.min(axis=0), 0) > _FAINT
    return block_means(always_HW.astype(np.uint8) * 255) > 0


def _inside(mask: Mask, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the blocks of which the mask keeps at least one pixel."""
    return block_means(mask.keeps(shape[0], shape[1]).astype(np.uint8) * 255) > 0


def strips(mask: Mask, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the blocks of M-mode and spectral Doppler."""
    return _inside(replace(mask, boxes=tuple(box for box in mask.boxes if box.is_strip)), shape)


def appear_later(
    found: Findings, eighth_THW: np.ndarray, energy_THW: np.ndarray, mask: Mask, shape: tuple[int, ...]
) -> np.ndarray:
    """Returns blocks outside the sector above black level in any frame of the clip, if they may hold text.

    They may if they have the detail of letters, or if they were black in the sample and do not flicker like speckle.
    """
    inside_HW = _inside(mask, shape)
    new_HW = ~found.lit & ~_flickers(eighth_THW) | (energy_THW.max(axis=0) > _LETTER_DETAIL)
    late_HW = (eighth_THW.max(axis=0) > _BLACK) & inside_HW & ~found.fan & new_HW
    return grow(late_HW) & inside_HW


def passing(found: Findings, eighth_THW: np.ndarray, energy_THW: np.ndarray) -> np.ndarray:
    """Returns blocks at the border of the sector's hull that are usually black, and have the detail of letters once.

    A wall of the heart that moves into a dark border has it too, so these blocks are only candidates."""
    rim_HW = found.fan & ~shrink(found.fan, _RIM_BLOCKS)
    once_HW = (eighth_THW.max(axis=0) > _CAPTION) & (np.median(eighth_THW, axis=0) <= _BLACK)
    passing_HW = rim_HW & once_HW & (energy_THW.max(axis=0) > _LETTER_DETAIL)
    count, labels_HW = cv2.connectedComponents(passing_HW.astype(np.uint8))
    large = np.bincount(labels_HW.ravel(), minlength=count) >= _MIN_PASSING
    large[0] = False
    return np.asarray(large[labels_HW])


def _flickers(eighth_THW: np.ndarray) -> np.ndarray:
    """Returns blocks that change between most frames, unlike text, such as dim speckle at the sector border."""
    if len(eighth_THW) < MIN_FRAMES:
        return np.zeros(eighth_THW.shape[1:], bool)
    steps = np.abs(np.diff(eighth_THW.astype(np.int16), axis=0))
    return np.asarray((steps >= 1).mean(axis=0) > 0.5)


def words(sample_THW: np.ndarray, mask: Mask) -> np.ndarray:
    """Returns the blocks of static rows of thin bright strokes, in the pixels that the mask keeps."""
    keep_HW = mask.keeps(*sample_THW.shape[1:])
    lowest_HW = np.where(keep_HW, sample_THW.min(axis=0), 0)
    bright = _bright_strokes(lowest_HW)
    found = np.zeros((-(-keep_HW.shape[0] // BLOCK), -(-keep_HW.shape[1] // BLOCK)), bool)
    if not bright.any():
        return found
    steady = cv2.subtract(np.where(keep_HW, sample_THW.max(axis=0), 0), lowest_HW) < _STEADY_LEVELS
    strokes = (bright & steady).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(strokes)
    heights = stats[:, cv2.CC_STAT_HEIGHT]
    glyph = (heights >= _MIN_GLYPH_PIXELS) & (heights <= _MAX_GLYPH_PIXELS)
    glyph[0] = False
    boxes = stats[glyph][:, :4]
    for line in _lines(boxes):
        if len(line) >= _MIN_GLYPHS:
            _cover(found, boxes[line])
    return _with_neighbours(found, strokes) & _inside(mask, keep_HW.shape)


def _bright_strokes(lowest_HW: np.ndarray) -> np.ndarray:
    kernel = np.ones((_STROKE_PIXELS, _STROKE_PIXELS), np.uint8)
    return np.asarray(cv2.morphologyEx(lowest_HW, cv2.MORPH_TOPHAT, kernel) > _STROKE_LEVELS)


def is_drawn(group_HW: np.ndarray, sample_THW: np.ndarray) -> bool:
    """Returns True if the strokes of a group have the sharp edges of drawn graphics, in the mean over time.

    Tissue has none: its speckle is averaged, and the edge of a static wall is blurred by the width of the beam."""
    rows, columns = (np.flatnonzero(group_HW.any(axis=axis)) for axis in (1, 0))
    place = np.s_[:, rows[0] * BLOCK : (rows[-1] + 1) * BLOCK, columns[0] * BLOCK : (columns[-1] + 1) * BLOCK]
    strokes = _bright_strokes(sample_THW[place].min(axis=0))
    mean_HW = sample_THW[place].mean(axis=0, dtype=np.float32)
    slope_HW = cv2.magnitude(cv2.Sobel(mean_HW, cv2.CV_32F, 1, 0), cv2.Sobel(mean_HW, cv2.CV_32F, 0, 1)) / 8
    beside = cv2.dilate(strokes.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~strokes
    return bool(beside.any() and np.median(slope_HW[beside]) > _DRAWN_SLOPE)


def _with_neighbours(found: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """Returns the candidates with adjacent strokes: points, signs and letters that would not be candidates alone."""
    touched = block_means(strokes * 255) > 0
    for _ in range(_GROWTH_STEPS if found.any() else 0):
        near = cv2.dilate(found.astype(np.uint8), np.ones((3, 5), np.uint8)).astype(bool)
        found = found | (near & touched)
    return found


def _lines(boxes: np.ndarray) -> list[list[int]]:
    """Groups glyphs into lines: gaps of at most one and a half heights, similar heights, overlapping rows."""
    order = np.argsort(boxes[:, 0]) if len(boxes) else np.zeros(0, int)
    lines: list[list[int]] = []
    for index in order:
        x, y, _, height = boxes[index]
        for line in lines:
            last_x, last_y, last_width, last_height = boxes[line[-1]]
            near = x - (last_x + last_width) <= 1.5 * max(height, last_height)
            overlap = min(y + height, last_y + last_height) - max(y, last_y)
            alike = max(height, last_height) <= 2 * min(height, last_height)
            if near and alike and overlap >= 0.5 * min(height, last_height):
                line.append(int(index))
                break
        else:
            lines.append([int(index)])
    return lines


def _cover(found: np.ndarray, boxes: np.ndarray) -> None:
    """Marks the blocks of a line of glyphs, with a margin of half a glyph for dots and descenders."""
    margin = int(boxes[:, 3].max()) // 2
    left, top = boxes[:, 0].min() - margin, boxes[:, 1].min() - margin
    right, bottom = (boxes[:, 0] + boxes[:, 2]).max() + margin, (boxes[:, 1] + boxes[:, 3]).max() + margin
    found[max(0, top) // BLOCK : -(-bottom // BLOCK), max(0, left) // BLOCK : -(-right // BLOCK)] = True


def groups(blocks_HW: np.ndarray) -> list[np.ndarray]:
    """Returns each connected group of blocks on its own."""
    count, labels_HW = cv2.connectedComponents(blocks_HW.astype(np.uint8))
    return [labels_HW == label for label in range(1, count)]
