"""Grey frames of one DICOM instance, decoded on demand.

JPEG of 8 bits, which ultrasound machines write, is decoded straight to luminance at the smallest DCT scale that is
large enough. Colour becomes luminance (ITU-R BT.601). Axes: T frame, H row, W column, C sample.
"""

import functools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import simplejpeg
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels import apply_color_lut
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

from echoplane.errors import InputError, NotAnImage
from echoplane.study import codecs
from echoplane.study.encapsulated import EncapsulatedFrames
from echoplane.study.limits import DEFAULT_LIMITS, Limits
from echoplane.study.native import NativeFrames
from echoplane.study.pixel_format import Samples, pixel_format

# version 100, no flags, colour transform 0: the components are red, green and blue
_ADOBE_RGB = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
_END_OF_IMAGE = b"\xff\xd9"


class DicomFrames:
    """Frames of a data set whose sizes were checked; nothing is decoded until `grey` is called.

    `frame_count` is NumberOfFrames, or None if the file does not state it; then the pixel data decide. Raises
    NotAnImage if the pixel data do not hold that many frames.
    """

    def __init__(
        self, dataset: FileDataset, rows: int, columns: int, frame_count: int | None, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self._dataset, self._limits = dataset, limits
        self._syntax = dataset.file_meta.TransferSyntaxUID
        self._format = pixel_format(dataset, rows, columns)
        self._frames: EncapsulatedFrames | NativeFrames
        if self._syntax.is_encapsulated:
            offsets = np.frombuffer(dataset.get("ExtendedOffsetTable") or b"", "<u8").tolist()
            self._frames = EncapsulatedFrames(dataset.PixelData, frame_count, offsets)
        else:
            self._frames = NativeFrames(dataset, self._format, frame_count)
            self._format = self._frames.format

    @property
    def count(self) -> int:
        return len(self._frames)

    def grey(self, indices: Sequence[int], smallest_side: int | None = None) -> np.ndarray:
        """Returns frames `indices` as uint8 (frame, row, column); see `echoplane.study.study.Frames`.

        Raises TooLarge if they have too many pixels.
        """
        self._limits.check_decoded(self._format.rows, self._format.columns, len(set(indices)))
        try:
            return self._grey(indices, smallest_side)
        except InputError:
            raise
        except Exception as error:  # decoders raise many kinds on damaged data
            raise NotAnImage(f"the pixel data could not be decoded ({type(error).__name__}).") from None

    def _grey(self, indices: Sequence[int], smallest_side: int | None) -> np.ndarray:
        """Decodes each frame once, in file order, and keeps only its reduced grey."""
        greys = {index: self._reduced_grey(index, smallest_side) for index in sorted(set(indices))}
        frames_THW = np.stack([greys[index] for index in indices])
        if frames_THW.dtype != np.uint8:
            frames_THW = to_eight_bits(frames_THW, window(self._dataset))
        return 255 - frames_THW if self._format.photometric == "MONOCHROME1" else frames_THW

    def _reduced_grey(self, index: int, smallest_side: int | None) -> np.ndarray:
        if isinstance(self._frames, NativeFrames):
            return _reduced(self._single_channel(self._frames.samples(index)), smallest_side)
        encoded = self._frames[index]
        if self._syntax in (JPEGBaseline8Bit, JPEGExtended12Bit) and codecs.jpeg_header(encoded).precision == 8:
            return self._jpeg_grey(encoded, smallest_side)
        samples = codecs.decode(encoded, self._syntax, self._format)
        return _reduced(self._single_channel(samples), smallest_side)

    def _jpeg_grey(self, encoded: bytes, smallest_side: int | None) -> np.ndarray:
        height, width, colours, subsampling = simplejpeg.decode_jpeg_header(encoded)
        codecs.check_shape(self._format, height, width, 1 if colours == "Gray" else 3)
        if self._format.photometric == "RGB" and subsampling == "444":
            # A frame that states its own colours overrules this marker; only luminance and chroma are subsampled.
            encoded = encoded[:2] + _ADOBE_RGB + encoded[2:]
        if self._format.photometric == "PALETTE COLOR":
            smallest_side = None  # a mean of palette indices is meaningless
        scale = 1.0 if smallest_side is None else min(1.0, smallest_side / min(height, width))
        min_height, min_width = (int(np.ceil(side * scale)) for side in (height, width))
        if encoded.rfind(_END_OF_IMAGE) < 0:  # some writers leave it out; a frame that is cut short is still refused
            encoded += _END_OF_IMAGE
        try:
            frame_HWC = simplejpeg.decode_jpeg(encoded, "GRAY", min_height=min_height, min_width=min_width)
        except ValueError:
            raise NotAnImage("a JPEG frame is damaged or truncated.") from None
        return self._single_channel(Samples(frame_HWC[..., 0], 8, is_rgb=False))

    def _single_channel(self, samples: Samples) -> np.ndarray:
        """Returns one channel of a frame: uint8, or stored values that need a window as float32."""
        values = samples.values
        if self._format.photometric == "PALETTE COLOR":
            return self._grey_of_index[np.clip(values, 0, len(self._grey_of_index) - 1)]
        if samples.is_rgb:
            return _luminance(values, samples.bits)
        if self._format.samples == 3:
            luma = values if values.ndim == 2 else values[..., 0]
            return _scaled(luma, samples.bits, partial=self._format.photometric == "YBR_PARTIAL_422")
        return _scaled(values, samples.bits) if values.dtype == np.uint8 else values.astype(np.float32)

    @functools.cached_property
    def _grey_of_index(self) -> np.ndarray:
        return _grey_palette(self._dataset)


def _reduced(frame_HW: np.ndarray, smallest_side: int | None) -> np.ndarray:
    """Returns a frame halved as often as `smallest_side` allows, down to one eighth, as a JPEG decoder does."""
    factor = 1
    while smallest_side and factor < 8 and min(frame_HW.shape) // (2 * factor) >= smallest_side:
        factor *= 2
    if factor == 1:
        return frame_HW
    size = (frame_HW.shape[1] // factor, frame_HW.shape[0] // factor)
    return cv2.resize(frame_HW, size, interpolation=cv2.INTER_AREA)


def to_eight_bits(values: np.ndarray, span: tuple[float, float] | None) -> np.ndarray:
    """Returns stored values as 0 to 255, from low to high of `span`, or from their minimum to their maximum."""
    low, high = span or (float(values.min()), float(values.max()))
    scaled = (values - low) * (255 / max(high - low, 1e-6))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _luminance(colours_HWC: np.ndarray, bits: int) -> np.ndarray:
    """Returns the luminance, uint8, of red, green and blue of `bits` bits."""
    return cv2.cvtColor(np.ascontiguousarray(_scaled(colours_HWC, bits)), cv2.COLOR_RGB2GRAY)


def _scaled(values: np.ndarray, bits: int, *, partial: bool = False) -> np.ndarray:
    """Returns values of `bits` bits as uint8; `partial` luminance is black at 16, white at 235 (ITU-R BT.601)."""
    if bits == 8 and not partial:
        return values.astype(np.uint8, copy=False)
    black, white = (16.0, 235.0) if partial else (0.0, float((1 << bits) - 1))
    return np.clip(np.rint((values - black) * (255 / (white - black))), 0, 255).astype(np.uint8)


def _grey_palette(dataset: FileDataset) -> np.ndarray:
    """Returns the luminance, uint8, of every palette index."""
    if "RedPaletteColorLookupTableDescriptor" not in dataset:
        raise NotAnImage("PhotometricInterpretation is PALETTE COLOR, but the file holds no palette.")
    indices = np.arange(1 << min(16, int(dataset.BitsStored)), dtype=np.uint16)[None]
    colours = apply_color_lut(indices, dataset)
    # entries of 8 bits may be stored in words of 16 (PS3.3 C.7.6.3.1.5), and some writers fill the word
    bits = int(dataset.RedPaletteColorLookupTableDescriptor[2])
    return _luminance(colours, bits if colours.max() < 1 << bits else 16)[0]


def window(dataset: Dataset) -> tuple[float, float] | None:
    """Returns (low, high) in stored values of the first VOI window (PS3.3 C.11.2.1.2), or None."""
    try:
        centre, width = (float(_first(dataset[name].value)) for name in ("WindowCenter", "WindowWidth"))
        slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    except (KeyError, TypeError, ValueError):
        return None
    if width <= 1 or slope == 0:
        return None
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return (low - intercept) / slope, (high - intercept) / slope


def _first(value: Any) -> Any:
    return value[0] if hasattr(value, "__getitem__") and not isinstance(value, str) else value
