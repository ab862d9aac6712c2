"""Uncompressed frames (PS3.5 8.2). Axes: H row, W column, C sample."""

from dataclasses import replace

import numpy as np
from pydicom.dataset import FileDataset

from echoplane.errors import NotAnImage
from echoplane.study.encapsulated import ITEM
from echoplane.study.pixel_format import PixelFormat, Samples, arranged, native_samples


class NativeFrames:
    """Uncompressed frames of one instance (PS3.5 8.2).

    Raises NotAnImage if the pixel data do not hold the frames that the header states.
    """

    def __init__(self, dataset: FileDataset, form: PixelFormat, frame_count: int | None) -> None:
        little_endian = dataset.file_meta.TransferSyntaxUID.is_little_endian
        self._byte_order = "<" if little_endian else ">"
        self._words_of_bytes = not little_endian and form.bits_allocated == 8 and dataset["PixelData"].VR == "OW"
        self._pixel_data = dataset.PixelData
        if self._pixel_data.startswith(ITEM) and dataset["PixelData"].is_undefined_length:
            raise NotAnImage("the pixel data are compressed, but the transfer syntax is one of uncompressed data.")
        self.format = _without_false_subsampling(form, len(self._pixel_data), frame_count or 1)
        self._count = frame_count or max(1, len(self._pixel_data) // self.format.frame_bytes)
        self._check_length()

    def __len__(self) -> int:
        return self._count

    def _check_length(self) -> None:
        present, expected = len(self._pixel_data), self._count * self.format.frame_bytes
        if present < expected:
            raise NotAnImage(
                f"the pixel data are truncated, or NumberOfFrames is wrong: {present} bytes of {expected} are there."
            )
        if present - expected >= self.format.frame_bytes:
            raise NotAnImage(
                f"the pixel data hold {present // self.format.frame_bytes} frames, but NumberOfFrames is {self._count}."
            )

    def samples(self, index: int) -> Samples:
        size = self.format.frame_bytes
        frame = self._bytes(index * size, (index + 1) * size)
        return native_samples(_words(frame, self.format, self._byte_order), self.format)

    def _bytes(self, start: int, end: int) -> bytes:
        if not self._words_of_bytes:
            return self._pixel_data[start:end]
        # two pixels in each big endian word, the first in the low byte (PS3.5 annex D)
        first, last = start - start % 2, end + end % 2
        swapped = np.frombuffer(self._pixel_data[first:last], "<u2").byteswap().tobytes()
        return swapped[start - first : end - first]


def _without_false_subsampling(form: PixelFormat, present: int, frame_count: int) -> PixelFormat:
    """Returns the corrected format: some writers call complete YBR_FULL subsampled; the length of the pixel data shows
    it."""
    whole = replace(form, photometric="YBR_FULL")
    return whole if form.photometric == "YBR_FULL_422" and present == frame_count * whole.frame_bytes else form


def _words(frame: bytes, form: PixelFormat, byte_order: str) -> np.ndarray:
    """Returns the samples of one uncompressed frame, (row, column) or (row, column, sample); luminance if subsampled.

    `byte_order` is that of numpy, < or >.
    """
    words = np.frombuffer(frame, f"{byte_order}u{form.bits_allocated // 8}")
    if form.subsampled:  # Y Y Cb Cr
        return words.reshape(-1, 4)[:, :2].reshape(form.rows, form.columns)
    return arranged(words, form.rows, form.columns, form.samples, planar=form.planar)
