"""How stored values look: the image pixel module, palettes, which value is black, and frames in grey."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from pydicom.dataset import Dataset

from echoplane.deid.reasons import Held

_LUTS = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class Geometry:
    """The image pixel module, checked (PS3.3 C.7.6.3)."""

    frames: int
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    photometric: str

    @property
    def frame_bytes(self) -> int:
        """Bytes of one decoded frame."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


def palette(dataset: Dataset, order: str = "<") -> list[np.ndarray]:
    """The three look-up tables (PS3.3 C.7.9), entries as numbers; Held where one is not as long as it says."""
    tables = []
    for colour in _LUTS:
        descriptor = dataset.get(f"{colour}PaletteColorLookupTableDescriptor")
        data = dataset.get(f"{colour}PaletteColorLookupTableData")
        if not descriptor or not data or len(descriptor) != 3:
            raise Held("palette")
        entries = int(descriptor[0]) or 65536
        if len(data) >= 2 * entries:
            tables.append(np.frombuffer(data, order + "u2", entries))
        elif len(data) >= entries and descriptor[2] == 8:
            tables.append(np.frombuffer(data, np.uint8, entries))
        else:
            raise Held("palette")
    return tables


def black(dataset: Dataset, shape: Geometry) -> int:
    """The stored value that shows black."""
    if shape.photometric == "PALETTE COLOR":
        return _darkest_index(dataset)
    signed = dataset.get("PixelRepresentation") == 1
    low = -(1 << shape.bits_stored - 1) if signed else 0
    return low + (1 << shape.bits_stored) - 1 if shape.photometric == "MONOCHROME1" else low


def _darkest_index(dataset: Dataset) -> int:
    order = word_order(dataset)
    red, green, blue = (table.astype(float) for table in palette(dataset, order))
    darkest = int(np.argmin(0.299 * red + 0.587 * green + 0.114 * blue))
    return int(dataset["RedPaletteColorLookupTableDescriptor"].value[1]) + darkest


def shown(dataset: Dataset, shape: Geometry, photometric: str) -> Callable[[np.ndarray], np.ndarray]:
    """How stored values look in grey, 0 to 255."""
    if photometric == "PALETTE COLOR":
        brightness = np.mean([table.astype(float) for table in palette(dataset, word_order(dataset))], axis=0)
        look_up = (brightness * (255 / max(brightness.max(), 1))).astype(np.uint8)
        first = int(dataset["RedPaletteColorLookupTableDescriptor"].value[1])
        return lambda frame: look_up[np.clip(frame.astype(int) - first, 0, len(look_up) - 1)]
    if photometric == "RGB":
        return lambda frame: cv2.cvtColor(_eight_bits(frame, shape), cv2.COLOR_RGB2GRAY)
    if photometric.startswith("YBR"):
        return lambda frame: _eight_bits(frame[..., 0], shape)
    inverted = photometric == "MONOCHROME1"
    return lambda frame: 255 - _eight_bits(frame, shape) if inverted else _eight_bits(frame, shape)


def colours_of(dataset: Dataset, shape: Geometry, photometric: str) -> Callable[[np.ndarray], np.ndarray | None]:
    """How stored values look in red, green and blue, 0 to 255; None of what is grey."""
    if photometric == "PALETTE COLOR":
        tables = np.stack(palette(dataset, word_order(dataset)), axis=1).astype(float)
        look_up = (tables * (255 / max(tables.max(), 1))).astype(np.uint8)
        first = int(dataset["RedPaletteColorLookupTableDescriptor"].value[1])
        return lambda frame: look_up[np.clip(frame.astype(int) - first, 0, len(look_up) - 1)]
    if photometric == "RGB":
        return lambda frame: _eight_bits(frame, shape)
    if photometric.startswith("YBR"):
        return lambda frame: rgb_of_ybr(_eight_bits(frame, shape))
    return lambda frame: None


def rgb_of_ybr(ybr_HWC: np.ndarray) -> np.ndarray:
    """YBR_FULL (PS3.3 C.7.6.3.1.2) in red, green and blue."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(ybr_HWC[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB))


def _eight_bits(frame: np.ndarray, shape: Geometry) -> np.ndarray:
    shifted = frame if shape.bits_stored <= 8 else frame >> (shape.bits_stored - 8)
    return np.ascontiguousarray(shifted).astype(np.uint8)


def word_order(dataset: Dataset) -> str:
    return ">" if dataset.original_encoding[1] is False else "<"
