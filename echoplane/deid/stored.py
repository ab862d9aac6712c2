"""Conversion of stored values to display values: image pixel module, palettes, the value of black, frames in grey."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from pydicom.dataset import Dataset

from echoplane.deid.reasons import FileRejected
from echoplane.study.mr_slices import functional_groups
from echoplane.study.pixels import to_eight_bits, window

_LUTS = ("Red", "Green", "Blue")
_WINDOW = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept")
_RARE_PERCENT = 0.5  # percent of the values, at either end
_SCALED_BY = 8  # number of frames of a clip that determine its scale
_NARROWER = 0.75

EightBits = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Geometry:
    """Checked image pixel module (PS3.3 C.7.6.3)."""

    frames: int
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    photometric: str

    @property
    def frame_bytes(self) -> int:
        """Size of one decoded frame in bytes."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


class Picture(NamedTuple):
    """One picture without a scan region: its stored values, and those as a viewer shows them, 0 to 255."""

    values_HW: np.ndarray
    shown_HW: np.ndarray


def palette(dataset: Dataset, order: str = "<") -> list[np.ndarray]:
    """Returns the three look-up tables (PS3.3 C.7.9). Raises FileRejected if one is missing or shorter than stated."""
    tables = []
    for colour in _LUTS:
        descriptor = dataset.get(f"{colour}PaletteColorLookupTableDescriptor")
        data = dataset.get(f"{colour}PaletteColorLookupTableData")
        if not descriptor or not data or len(descriptor) != 3:
            raise FileRejected("palette")
        entries = int(descriptor[0]) or 65536
        if len(data) >= 2 * entries:
            tables.append(np.frombuffer(data, order + "u2", entries))
        elif len(data) >= entries and descriptor[2] == 8:
            tables.append(np.frombuffer(data, np.uint8, entries))
        else:
            raise FileRejected("palette")
    return tables


def black(dataset: Dataset, shape: Geometry) -> int:
    """Returns the stored value that is displayed as black."""
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


def shown(dataset: Dataset, photometric: str, eight_bits: EightBits) -> EightBits:
    """Returns a function from stored values to display values in grey, 0 to 255."""
    if photometric == "PALETTE COLOR":
        brightness = np.mean([table.astype(float) for table in palette(dataset, word_order(dataset))], axis=0)
        look_up = (brightness * (255 / max(brightness.max(), 1))).astype(np.uint8)
        first = int(dataset["RedPaletteColorLookupTableDescriptor"].value[1])
        return lambda frame: look_up[np.clip(frame.astype(int) - first, 0, len(look_up) - 1)]
    if photometric == "RGB":
        return lambda frame: cv2.cvtColor(eight_bits(frame), cv2.COLOR_RGB2GRAY)
    if photometric.startswith("YBR"):
        return lambda frame: eight_bits(frame[..., 0])
    return lambda frame: 255 - eight_bits(frame) if photometric == "MONOCHROME1" else eight_bits(frame)


def colours_of(dataset: Dataset, photometric: str, eight_bits: EightBits) -> Callable[[np.ndarray], np.ndarray | None]:
    """Returns a function from stored values to red, green and blue, 0 to 255; it returns None for grey images."""
    if photometric == "PALETTE COLOR":
        tables = np.stack(palette(dataset, word_order(dataset)), axis=1).astype(float)
        look_up = (tables * (255 / max(tables.max(), 1))).astype(np.uint8)
        first = int(dataset["RedPaletteColorLookupTableDescriptor"].value[1])
        return lambda frame: look_up[np.clip(frame.astype(int) - first, 0, len(look_up) - 1)]
    if photometric == "RGB":
        return eight_bits
    if photometric.startswith("YBR"):
        return lambda frame: rgb_of_ybr(eight_bits(frame))
    return lambda frame: None


def rgb_of_ybr(ybr_HWC: np.ndarray) -> np.ndarray:
    """Converts YBR_FULL (PS3.3 C.7.6.3.1.2) to red, green and blue."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(ybr_HWC[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB))


def eight_bits_of(frames: Sequence[np.ndarray] | np.ndarray, shape: Geometry) -> EightBits:
    """Returns a function from stored values of a clip to 0 to 255.

    Bytes are unchanged; other values are scaled from black to a level that few pixels exceed. BitsStored is unsuitable
    for that: scanners use 12 of 16 bits, and a single hot pixel uses all of them."""
    if shape.bits_stored == 8 and frames[0].dtype == np.uint8:
        return lambda frame: np.array(frame, order="C")
    some = np.stack(list(frames[:: -(-len(frames) // _SCALED_BY)]))
    if shape.photometric == "MONOCHROME1":
        span = _without_the_rare(some)[0], float(some.max())
    else:
        span = float(some.min()), _without_the_rare(some)[1]
    return lambda frame: to_eight_bits(frame, span)


def views(frame_HW: np.ndarray, span: tuple[float, float] | None = None) -> Iterator[Picture]:
    """Yields a frame in the grey scales of common viewers, 0 to 255: full range, without rare values, by the window.

    The last two are yielded only if their range is clearly narrower, so that they have more contrast."""
    yield Picture(frame_HW, to_eight_bits(frame_HW, None))
    least, most = float(frame_HW.min()), float(frame_HW.max())
    for low, high in (_without_the_rare(frame_HW), *([span] if span else [])):
        if min(high, most) - max(low, least) < _NARROWER * (most - least):
            yield Picture(frame_HW, to_eight_bits(frame_HW, (low, high)))


def all_views(dataset: Dataset, frames: list[np.ndarray], photometric: str, show: EightBits) -> Iterator[Picture]:
    """Yields every frame of an image without a scan region, in each grey scale of common viewers."""
    for number, frame in enumerate(frames):
        if not photometric.startswith("MONO"):
            yield from views(show(frame))
            continue
        for _, view_HW in views(frame, _window_of_frame(dataset, number)):
            yield Picture(frame, 255 - view_HW if photometric == "MONOCHROME1" else view_HW)


def _without_the_rare(values: np.ndarray) -> tuple[float, float]:
    """Returns the range of nearly all values, after leaving out padding and saturation, which may fill whole rows."""
    least, most = float(values.min()), float(values.max())
    between = values[(values > least) & (values < most)]
    if not between.size:
        return least, most
    low, high = np.percentile(between, (_RARE_PERCENT, 100 - _RARE_PERCENT))
    return float(low), float(high)


def _window_of_frame(dataset: Dataset, number: int) -> tuple[float, float] | None:
    """Returns the stored values that the window shows as black and white; per frame in Enhanced MR (PS3.3 C.7.6.16)."""
    places = functional_groups(dataset, number)
    found = Dataset()
    for element in (place[keyword] for place in reversed(places) for keyword in _WINDOW if keyword in place):
        found.add(element)
    return window(found)


def exceed(frames: list[np.ndarray], shape: Geometry) -> bool:
    """Returns True if any value has bits above the stored ones, which is possible in JPEG 2000 and JPEG-LS."""
    if shape.bits_stored == shape.bits_allocated:
        return False
    least = -(1 << shape.bits_stored - 1) if frames[0].dtype.kind == "i" else 0
    return any(frame.min() < least or frame.max() >= least + (1 << shape.bits_stored) for frame in frames)


def word_order(dataset: Dataset) -> str:
    return ">" if dataset.original_encoding[1] is False else "<"
