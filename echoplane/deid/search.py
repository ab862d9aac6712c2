"""Text found and masked until none is left: beside the fan, over it, in every frame.

Looking costs little where there is nothing: a few frames at full size, and the mean and the detail of every block of
all frames. What is found is masked and looked for again; what can't be made to go is held.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from echoplane.deid import letters, text
from echoplane.deid.reasons import Held
from echoplane.deid.regions import Mask

_SEARCHES = 3


@dataclass(frozen=True)
class Blocks:
    """Of every frame, the mean and the detail of each block of 8 x 8 pixels, as (frame, row, column)."""

    eighth_THW: np.ndarray
    energy_THW: np.ndarray


class Images(Protocol):
    """The frames of one clip, that a mask can blacken."""

    @property
    def frames(self) -> Sequence[object]:
        """All of them, in whatever form."""

    def blacken(self, mask: Mask) -> Blocks:
        """Blacken what the mask does not keep, in every frame."""

    def frame(self, number: int) -> np.ndarray:
        """One frame in grey at full size."""


def mask_text(images: Images, mask: Mask) -> tuple[Mask, bool]:
    """Mask all text. The mask that was needed, and whether the clip moves, so that the search can be relied on."""
    sample_THW = np.stack([images.frame(number) for number in text.sample(len(images.frames))])
    found = text.search(sample_THW, mask)
    if found.words.any() and not found.moves:
        raise Held("text-in-still")
    mask = mask.without(found.blocks)
    blocks = images.blacken(mask)
    more = text.appear_later(found, blocks.eighth_THW, blocks.energy_THW, mask, sample_THW.shape[1:])
    more |= _letters(found, blocks, images, sample_THW, mask)
    for _ in range(_SEARCHES):
        if not more.any():
            break
        mask = mask.without(more)
        blocks = images.blacken(mask)
        more = _letters(found, blocks, images, sample_THW, mask)
    left = mask.text_blocks is not None and text.words(sample_THW, mask).any()
    if more.any() or left:
        raise Held("text-in-pixels")
    return mask, found.moves


def _letters(found: text.Findings, blocks: Blocks, images: Images, sample_THW: np.ndarray, mask: Mask) -> np.ndarray:
    """Blocks of the fan that hold letters; where nothing moves, no program can tell them from speckle for sure."""
    chosen = sample_THW if found.moves else sample_THW[:1]
    masked_THW = np.where(mask.keeps(*sample_THW.shape[1:]), chosen, 0)
    where_HW = text.shrunk(found.fan, 2) & found.lit  # the fan's own edge is sharp too
    if mask.text_blocks is not None:
        where_HW = where_HW & ~mask.text_blocks
    seen = letters.search(blocks.energy_THW, where_HW, masked_THW, images.frame)
    if seen.any() and not found.moves:
        raise Held("text-in-still")
    return seen
