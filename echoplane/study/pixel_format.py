"""Checked image pixel module (PS3.3 C.7.6.3), and the samples of one decoded frame.

Axes: H row, W column, C sample.
"""

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from echoplane.errors import NotAnImage, Unsupported

ONE_SAMPLE = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
SUBSAMPLED = ("YBR_FULL_422", "YBR_PARTIAL_422")
THREE_SAMPLES = ("RGB", "YBR_FULL", *SUBSAMPLED, "YBR_ICT", "YBR_RCT")
BITS_ALLOCATED = (8, 16, 32)


@dataclass(frozen=True)
class PixelFormat:
    """Storage format of the samples of one instance."""

    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: bool
    """True if each frame is three pictures, one per sample, instead of three samples per pixel."""

    @property
    def subsampled(self) -> bool:
        """Returns True if two pixels in a row share their chroma (PS3.3 C.7.6.3.1.2)."""
        return self.photometric in SUBSAMPLED

    @property
    def frame_bytes(self) -> int:
        """Returns the bytes of one uncompressed frame."""
        samples = 2 if self.subsampled else self.samples
        return self.rows * self.columns * samples * self.bits_allocated // 8


@dataclass(frozen=True)
class Samples:
    """One decoded frame."""

    values: np.ndarray
    """Values (row, column) or (row, column, sample)."""
    bits: int
    """Number of bits that a value can have."""
    is_rgb: bool
    """True if three samples are red, green and blue, False if the first is luminance."""


def pixel_format(dataset: Dataset, rows: int, columns: int) -> PixelFormat:
    """Returns the format that the header states.

    Raises NotAnImage if its attributes contradict each other, Unsupported if the format is not read.
    """
    photometric = str(dataset.get("PhotometricInterpretation") or "").upper()
    samples = int(dataset.get("SamplesPerPixel") or 1)
    _check_photometric(photometric, samples)
    allocated = int(dataset.get("BitsAllocated") or 8)
    if allocated not in BITS_ALLOCATED:
        raise Unsupported(f"BitsAllocated is {allocated}; pixels of 8, 16 and 32 bits are read.")
    stored = int(dataset.get("BitsStored") or allocated)
    high_bit = int(dataset.get("HighBit", stored - 1))
    if not stored <= high_bit + 1 <= allocated:
        raise NotAnImage(
            f"BitsStored {stored}, HighBit {high_bit} and BitsAllocated {allocated} contradict each other."
        )
    return PixelFormat(
        rows,
        columns,
        samples,
        photometric,
        allocated,
        stored,
        high_bit,
        signed=dataset.get("PixelRepresentation") == 1,
        planar=samples > 1 and dataset.get("PlanarConfiguration") == 1,
    )


def _check_photometric(photometric: str, samples: int) -> None:
    if not photometric:
        raise NotAnImage("PhotometricInterpretation is missing: what the pixels mean is unknown.")
    if photometric not in ONE_SAMPLE + THREE_SAMPLES:
        raise Unsupported(f"PhotometricInterpretation is none of {', '.join(ONE_SAMPLE + THREE_SAMPLES)}.")
    if samples != (1 if photometric in ONE_SAMPLE else 3):
        raise NotAnImage(f"SamplesPerPixel {samples} contradicts PhotometricInterpretation {photometric}.")


def arranged(words: np.ndarray, rows: int, columns: int, samples: int, *, planar: bool) -> np.ndarray:
    """Returns samples in the order of the file as (row, column) or (row, column, sample)."""
    if samples == 1:
        return words.reshape(rows, columns)
    if planar:
        return np.moveaxis(words.reshape(samples, rows, columns), 0, -1)
    return words.reshape(rows, columns, samples)


def stored_values(words: np.ndarray, high_bit: int, bits_stored: int, *, signed: bool) -> np.ndarray:
    """Returns the stored bits of each word as a number; the other bits, such as an overlay, are dropped."""
    width = 8 * words.dtype.itemsize
    native = words.astype(words.dtype.newbyteorder("="), copy=False)
    if bits_stored == width and not signed:
        return native
    shifted = native << np.array(width - 1 - high_bit, native.dtype)
    kind = np.dtype(f"{'i' if signed else 'u'}{words.dtype.itemsize}")
    return shifted.view(kind) >> np.array(width - bits_stored, kind)


def native_samples(words: np.ndarray, form: PixelFormat) -> Samples:
    """Returns the samples of words that have the header's format."""
    values = stored_values(words, form.high_bit, form.bits_stored, signed=form.signed)
    return Samples(values, form.bits_stored, is_rgb=form.photometric == "RGB")
