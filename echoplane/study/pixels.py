"""Grey frames of one DICOM instance, decoded when asked for: the fast DICOM path.

JPEG baseline, what ultrasound machines write, is decoded straight to luminance at the smallest DCT scale that is
large enough; everything else goes through pydicom's decoders. Colour becomes luminance (ITU-R BT.601).
Axes: T frame, H row, W column, C colour."""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import simplejpeg
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, iter_pixels
from pydicom.uid import JPEGBaseline8Bit

from echoplane.errors import NotAnImage

# version 100, no flags, colour transform 0: the components are red, green and blue
_ADOBE_RGB = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"


class DicomFrames:
    """Frames of a data set whose header was checked; nothing is decoded until `grey` is called."""

    def __init__(self, dataset: FileDataset, rows: int, columns: int, frame_count: int) -> None:
        self._dataset = dataset
        self._rows, self._columns, self._frame_count = rows, columns, frame_count
        self._encapsulated = dataset.file_meta.TransferSyntaxUID.is_encapsulated

    def check_complete(self) -> None:
        """NotAnImage where the pixel data hold fewer frames than the header says."""
        if self._encapsulated:
            self._encoded(self._frame_count - 1)
            return
        samples = int(self._dataset.get("SamplesPerPixel") or 1)
        subsampled = 2 / 3 if self._dataset.get("PhotometricInterpretation") == "YBR_FULL_422" else 1
        pixels = self._frame_count * self._rows * self._columns * samples * subsampled
        expected = int(pixels * int(self._dataset.get("BitsAllocated") or 8) / 8)
        if len(self._dataset.PixelData) < expected:
            raise NotAnImage(
                f"the pixel data are cut off: {len(self._dataset.PixelData)} bytes of {expected} are there."
            )

    def grey(self, indices: Sequence[int], smallest_side: int | None = None) -> np.ndarray:
        """Frames `indices` as uint8 (frame, row, column); see `echoplane.study.study.Frames`."""
        try:
            if self._dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit:
                return np.stack([self._jpeg_grey(i, smallest_side) for i in indices])
            return self._decoded_grey(indices, smallest_side)
        except NotAnImage:
            raise
        except Exception as error:  # decoders raise many kinds on damaged data
            raise NotAnImage(f"the pixel data could not be decoded ({type(error).__name__}).") from None

    def _encoded(self, index: int) -> bytes:
        try:
            return get_frame(self._dataset.PixelData, index, number_of_frames=self._frame_count)
        except Exception as error:  # as above
            raise NotAnImage(
                f"frame {index + 1} of {self._frame_count} is not in the pixel data ({type(error).__name__}): "
                "the file is cut off or NumberOfFrames is wrong."
            ) from None

    def _jpeg_grey(self, index: int, smallest_side: int | None) -> np.ndarray:
        encoded = self._encoded(index)
        if self._dataset.PhotometricInterpretation == "RGB":  # a frame that names its colours itself overrules this
            encoded = encoded[:2] + _ADOBE_RGB + encoded[2:]
        height, width, *_ = simplejpeg.decode_jpeg_header(encoded)
        if (height, width) != (self._rows, self._columns):
            raise NotAnImage(
                f"frame {index + 1} is a JPEG of {height} x {width}; the header says {self._rows} x {self._columns}."
            )
        scale = 1.0 if smallest_side is None else min(1.0, smallest_side / min(height, width))
        least_height, least_width = (int(np.ceil(side * scale)) for side in (height, width))
        frame_HWC = simplejpeg.decode_jpeg(encoded, "GRAY", min_height=least_height, min_width=least_width)
        return self._upright(frame_HWC[..., 0])

    def _upright(self, grey: np.ndarray) -> np.ndarray:
        """Grey levels with black at 0, which MONOCHROME1 has at 255."""
        return 255 - grey if self._dataset.PhotometricInterpretation == "MONOCHROME1" else grey

    def _decoded_grey(self, indices: Sequence[int], smallest_side: int | None) -> np.ndarray:
        """Decode each frame once, in file order, and keep only its reduced grey."""
        wanted = sorted(set(indices))
        reduced = [self._reduced(frame, smallest_side) for frame in self._single_channel(wanted)]
        frames_THW = np.stack(reduced)
        if frames_THW.dtype != np.uint8:
            frames_THW = to_eight_bits(frames_THW, window(self._dataset))
        return self._upright(frames_THW[np.searchsorted(wanted, indices)])

    def _single_channel(self, indices: list[int]) -> Iterator[np.ndarray]:
        """One channel a frame: uint8, or the stored values of more than 8 bits as float32."""
        palette = self._dataset.PhotometricInterpretation == "PALETTE COLOR"
        grey_of_index = _grey_palette(self._dataset) if palette else None
        for frame in iter_pixels(self._dataset, indices=indices):
            if grey_of_index is not None:
                yield grey_of_index[np.minimum(frame, len(grey_of_index) - 1)]
            elif frame.ndim == 3:
                yield _luminance(frame, int(self._dataset.BitsStored))
            else:
                yield frame if frame.dtype == np.uint8 else frame.astype(np.float32)

    def _reduced(self, frame_HW: np.ndarray, smallest_side: int | None) -> np.ndarray:
        """Halved as often as `smallest_side` allows, at most to an eighth, as a JPEG decoder does."""
        factor = 1
        while smallest_side and factor < 8 and min(frame_HW.shape) // (2 * factor) >= smallest_side:
            factor *= 2
        if factor == 1:
            return frame_HW
        size = (frame_HW.shape[1] // factor, frame_HW.shape[0] // factor)
        return cv2.resize(frame_HW, size, interpolation=cv2.INTER_AREA)


def to_eight_bits(values: np.ndarray, span: tuple[float, float] | None) -> np.ndarray:
    """Stored values to 0..255: through the (low, high) span of a window, else from their least to their greatest."""
    low, high = span or (float(values.min()), float(values.max()))
    scaled = (values - low) * (255 / max(high - low, 1e-6))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _luminance(colours_HWC: np.ndarray, bits: int) -> np.ndarray:
    """Colour of so many bits as uint8 luminance."""
    if bits > 8:
        colours_HWC = np.rint(colours_HWC * (255 / ((1 << bits) - 1)))
    return cv2.cvtColor(np.ascontiguousarray(colours_HWC, dtype=np.uint8), cv2.COLOR_RGB2GRAY)


def _grey_palette(dataset: FileDataset) -> np.ndarray:
    """Luminance uint8 of every palette index (index,)."""
    indices = np.arange(1 << min(16, int(dataset.BitsStored)), dtype=np.uint16)[None]
    colours = apply_color_lut(indices, dataset)
    # entries of 8 bits may stand in words of 16 (PS3.3 C.7.6.3.1.5), and some writers fill the word
    bits = int(dataset.RedPaletteColorLookupTableDescriptor[2])
    return _luminance(colours, bits if colours.max() < 1 << bits else 16)[0]


def window(dataset: Dataset) -> tuple[float, float] | None:
    """The (low, high) stored values of the first VOI window (PS3.3 C.11.2.1.2), or None."""
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
