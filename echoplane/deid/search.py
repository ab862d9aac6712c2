"""Search for text inside and outside the sector in every frame, and masking until none is left.

Without text the search is cheap: it uses a few frames at full size, and the mean and the detail of every block of all
frames. Text that is found is masked and searched for again; if some remains, the file is rejected.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np

from echoplane.deid import drawn, letters, stills, text
from echoplane.deid.reasons import FileRejected
from echoplane.deid.regions import Mask
from echoplane.study import sector

_SEARCHES = 3
_SATURATED = 70  # levels between the maximum and the minimum of red, green and blue
_ONE_HUE = 0.985  # length of the mean hue vector; text has at least 0.992, flow of one direction at most 0.972


@dataclass(frozen=True)
class Blocks:
    """Mean and detail of each block of 8 x 8 pixels, as (frame, row, column)."""

    eighth_THW: np.ndarray
    energy_THW: np.ndarray


class Images(Protocol):
    """Frames of one clip, which can be blackened with a mask."""

    @property
    def frames(self) -> Sequence[object]:
        """All frames, in any form."""

    def blacken(self, mask: Mask) -> Blocks:
        """Blackens the pixels that the mask does not keep, in every frame."""

    def frame(self, number: int) -> np.ndarray:
        """Returns one frame in grey at full size."""

    def colours(self, number: int) -> np.ndarray | None:
        """Returns one frame at full size in red, green and blue; None if all frames are grey."""


@dataclass(frozen=True)
class Searched:
    """Mask of a clip without text; `moves` is True if it moves, so that the search is reliable."""

    mask: Mask
    moves: bool
    doubtful: bool
    """True if drawn edges remain that may be letters."""
    unread: np.ndarray
    """Blackened blocks outside the sector in which neither a line nor drawn letters were found."""


def mask_text(images: Images, mask: Mask) -> Searched:
    """Masks all text.

    Raises FileRejected if text remains, or if nothing moves and there may be text over the scan.
    """
    sample_THW = np.stack([images.frame(number) for number in text.sample(len(images.frames))])
    found = text.search(sample_THW, mask)
    if not found.moves and any(stills.has_text(frame_HW, mask) for frame_HW in sample_THW):
        raise FileRejected("text-in-still")
    found = replace(found, words=letters_of(found, sample_THW, mask))
    if found.words.any() and not found.moves:
        raise FileRejected("text-in-still")
    edges = _edges(found, sample_THW, mask)
    masked_THW = np.where(mask.keeps(*sample_THW.shape[1:]), sample_THW, 0)
    drawn_HW = drawn.letters(edges) if edges is not None else found.words & False
    read_HW = drawn_HW | letters.to_the_end(found.words & found.fan, masked_THW)
    mask = mask.without(found.blocks | read_HW)
    blocks = images.blacken(mask)
    more = text.appear_later(found, blocks.eighth_THW, blocks.energy_THW, mask, sample_THW.shape[1:])
    unread_HW = (found.blocks | more) & ~read_HW
    passing_HW = text.passing(found, blocks.eighth_THW, blocks.energy_THW)
    more |= letters.stand_at(passing_HW, blocks.energy_THW, masked_THW, images.frame)
    more |= _letters(found, blocks, images, sample_THW, mask)
    more |= _coloured(found, images, mask)
    if found.words.any():  # more strokes near them; static tissue has some too, so they are no reason to reject
        more |= _confirmed(text.words(sample_THW, mask), found.fan, sample_THW, mask)
    for _ in range(_SEARCHES):
        if not more.any():
            break
        mask = mask.without(more)
        blocks = images.blacken(mask)
        more = _letters(found, blocks, images, sample_THW, mask)
    if more.any():
        raise FileRejected("text-in-pixels")
    doubtful = edges is not None and drawn.remain(edges, mask)
    return Searched(mask, found.moves, doubtful, unread_HW)


def _edges(found: text.Findings, sample_THW: np.ndarray, mask: Mask) -> drawn.Edges | None:
    """Returns the drawn edges over the sector; None if nothing moves, because then every edge stands still."""
    if not found.moves:
        return None
    return drawn.edges(sample_THW, found.fan, text.strips(mask, sample_THW.shape[1:]), mask)


def _coloured(found: text.Findings, images: Images, mask: Mask) -> np.ndarray:
    """Returns blocks of text that is not visible in grey: red or blue over speckle, or white over colour flow.

    The minimum of red, green and blue is dark in flow and bright in white letters; maximum minus minimum shows what is
    coloured. Flow changes over time, text does not."""
    seen_HW = np.zeros(found.fan.shape, bool)
    pictures = [images.colours(number) for number in text.sample(len(images.frames))]
    shown = [picture for picture in pictures if picture is not None]
    if not shown:
        return seen_HW
    keep_HW = mask.keeps(*shown[0].shape[:2])
    ends = [_least_and_most(picture) for picture in shown]
    min_THW, max_THW = (np.stack([np.where(keep_HW, each[end], 0) for each in ends]) for end in (0, 1))
    for plain_THW, of_one_hue in ((min_THW, False), (max_THW - min_THW, True)):
        for group_HW in text.groups(text.words(plain_THW, mask)):
            lines = letters.lie_in(group_HW, plain_THW)
            if lines and (not of_one_hue or _is_one_hue(shown[0], plain_THW[0], group_HW)):
                seen_HW |= letters.to_the_end(group_HW, plain_THW)
    if seen_HW.any() and not found.moves:
        raise FileRejected("text-in-still")
    return seen_HW


def _least_and_most(picture_HWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns minimum and maximum of red, green and blue; numpy's reduction over three values is ten times slower."""
    red, green, blue = cv2.split(picture_HWC)
    return np.asarray(cv2.min(cv2.min(red, green), blue)), np.asarray(cv2.max(cv2.max(red, green), blue))


def _is_one_hue(picture_HWC: np.ndarray, saturation_HW: np.ndarray, group_HW: np.ndarray) -> bool:
    """Returns True if the coloured pixels of a group have one hue, as text has; flow ranges from red to yellow."""
    blocks_HW = group_HW.repeat(sector.BLOCK, 0).repeat(sector.BLOCK, 1)[
        : saturation_HW.shape[0], : saturation_HW.shape[1]
    ]
    pixels_NC = picture_HWC[blocks_HW & (saturation_HW > _SATURATED)]
    if not len(pixels_NC):
        return False
    hue_N = cv2.cvtColor(pixels_NC[None], cv2.COLOR_RGB2HSV)[0, :, 0]
    coloured = np.exp(2j * np.pi / 180 * hue_N)  # on the unit circle
    return bool(abs(coloured.mean()) > _ONE_HUE)


def letters_of(found: text.Findings, sample_THW: np.ndarray, mask: Mask) -> np.ndarray:
    """Returns the text candidates that are confirmed; in a still, only those in which the network detects a line."""
    if found.moves:
        return _confirmed(found.words, found.fan, sample_THW, mask)
    return stills.read(found.words, sample_THW[0], mask)


def _confirmed(words_HW: np.ndarray, fan_HW: np.ndarray, sample_THW: np.ndarray, mask: Mask) -> np.ndarray:
    """Returns the candidates, but over the scan only those with drawn edges or in a line that the network detects.

    Vessel walls, near-field reverberation and strips over time (M-mode, Doppler) are bright and static too, and break
    into pieces of the size of letters. Blackening them would spoil the picture and make the view recognisable."""
    kept_HW, strips_HW = words_HW & ~fan_HW, text.strips(mask, sample_THW.shape[1:])
    masked_THW = np.where(mask.keeps(*sample_THW.shape[1:]), sample_THW, 0) if words_HW.any() else sample_THW
    for group_HW in text.groups(words_HW):
        if not (group_HW & fan_HW).any() or text.is_drawn(group_HW, masked_THW):
            kept_HW |= group_HW
        else:
            read_HW = group_HW & letters.near_lines(group_HW, masked_THW)
            # a strip is static speckle: there the network alone is no proof
            if not (read_HW & strips_HW).any() or text.is_drawn(read_HW, masked_THW):
                kept_HW |= read_HW
    return kept_HW


def _letters(found: text.Findings, blocks: Blocks, images: Images, sample_THW: np.ndarray, mask: Mask) -> np.ndarray:
    """Returns blocks of the sector that hold text. Raises FileRejected if there are some and nothing moves.

    Without motion, text cannot be reliably distinguished from speckle.
    """
    chosen = sample_THW if found.moves else sample_THW[:1]
    masked_THW = np.where(mask.keeps(*sample_THW.shape[1:]), chosen, 0)
    where_HW = sector.shrink(found.fan, 2) & found.lit  # the sector border is sharp too
    if mask.text_blocks is not None:
        where_HW = where_HW & ~mask.text_blocks
    seen = letters.search(blocks.energy_THW, where_HW, masked_THW, images.frame)
    if seen.any() and not found.moves:
        raise FileRejected("text-in-still")
    return seen
