"""The pixels of the output: masked outside the scan, every frame, losslessly (PS3.15 E.3.1, clean pixel data).

JPEG baseline stays JPEG (module `jpeg`). Everything else is decoded, masked and written as explicit little endian:
the stored values inside the scan are the stored values of the original.
Axes: T frame, H row, W column, C sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from echoplane.deid import jpeg
from echoplane.deid.policy import Policy
from echoplane.deid.reasons import Held
from echoplane.deid.regions import Box

NATIVE = frozenset(
    (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
)
DECODED = frozenset(
    (RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000)
)
_PHOTOMETRIC = frozenset(
    ("MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
)
_LARGEST_SIDE = 32768
_SHAPE = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")
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


@dataclass(frozen=True)
class CleanPixels:
    """What goes into the output: the value, its syntax, and the attributes that changed with it."""

    value: bytes
    transfer_syntax: UID
    attributes: dict[str, object]


def geometry(dataset: Dataset, policy: Policy) -> Geometry:
    """Read and check the pixel module before anything is decoded."""
    try:
        rows, columns, samples, allocated, stored = (int(dataset[keyword].value) for keyword in _SHAPE)
        frames = int(dataset.get("NumberOfFrames") or 1)
    except (KeyError, TypeError, ValueError) as error:
        raise Held("pixel-data") from error
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    found = Geometry(frames, rows, columns, samples, allocated, stored, photometric)
    sane = (
        found.frames > 0
        and 0 < found.rows <= _LARGEST_SIDE
        and 0 < found.columns <= _LARGEST_SIDE
        and found.samples == (1 if found.photometric.startswith(("MONO", "PALETTE")) else 3)
        and found.bits_allocated in (8, 16)
        and 0 < found.bits_stored <= found.bits_allocated
        and found.photometric in _PHOTOMETRIC
    )
    if not sane:
        raise Held("pixel-data")
    if found.frame_bytes * found.frames > policy.max_pixels_mib << 20:
        raise Held("too-large")
    return found


def clean(dataset: Dataset, syntax: UID, shape: Geometry, boxes: tuple[Box, ...] | None) -> CleanPixels:
    """The pixels with everything outside `boxes` black; None keeps them all, decoded and rewritten alike."""
    element = dataset.get("PixelData") and dataset["PixelData"]
    if not element or not element.value:
        raise Held("pixel-data")
    if (syntax in NATIVE) == element.is_undefined_length:
        raise Held("wrong-transfer-syntax")
    if syntax == JPEGBaseline8Bit:
        masker = jpeg.Masker(shape.rows, shape.columns, boxes, inverted=shape.photometric == "MONOCHROME1")
        frames = [masker.mask(frame) for frame in encapsulated_frames(element.value, shape.frames)]
        return CleanPixels(encapsulate(frames), JPEGBaseline8Bit, {})
    if syntax in DECODED:
        encapsulated_frames(element.value, shape.frames)
    elif syntax not in NATIVE:
        raise Held("transfer-syntax")
    elif shape.photometric == "YBR_FULL_422":
        return _clean_422(element.value, shape, boxes)
    return _clean_decoded(dataset, syntax, shape, boxes)


def encapsulated_frames(value: bytes, count: int) -> list[bytes]:
    """The frames of encapsulated pixel data; Held where their number is not the header's (PS3.5 A.4)."""
    try:
        frames = list(generate_frames(value, number_of_frames=count))
    except ValueError as error:
        raise Held("pixel-data") from error
    if len(frames) != count or not all(frames):
        raise Held("pixel-data")
    return frames


def _clean_422(value: bytes, shape: Geometry, boxes: tuple[Box, ...] | None) -> CleanPixels:
    """Native YBR_FULL_422, Y Y Cb Cr for each pair of pixels (PS3.3 C.7.6.3.1.2); a pair is kept whole or not."""
    size = shape.frames * shape.rows * shape.columns * 2
    if shape.columns % 2 or shape.bits_allocated != 8 or len(value) < size:
        raise Held("pixel-data")
    pairs_THWC = np.frombuffer(value, np.uint8, size).reshape(shape.frames, shape.rows, shape.columns // 2, 4).copy()
    if boxes is not None:
        keep = keep_mask(shape, boxes)
        pairs_THWC[:, ~(keep[:, ::2] & keep[:, 1::2])] = (0, 0, 128, 128)
    return CleanPixels(pairs_THWC.tobytes(), ExplicitVRLittleEndian, {"PlanarConfiguration": 0})


def keep_mask(shape: Geometry, boxes: tuple[Box, ...]) -> np.ndarray:
    """The pixels inside the boxes, as (rows, columns)."""
    keep = np.zeros((shape.rows, shape.columns), bool)
    for box in boxes:
        keep[box.top : box.bottom, box.left : box.right] = True
    return keep


def _clean_decoded(dataset: Dataset, syntax: UID, shape: Geometry, boxes: tuple[Box, ...] | None) -> CleanPixels:
    black = _black(dataset, shape) if boxes is not None else 0
    masked = ~keep_mask(shape, boxes) if boxes is not None else None
    frames, photometric = [], shape.photometric
    for frame_HWC, photometric in _decoded_frames(dataset, syntax, shape):
        if masked is not None:
            frame_HWC[masked] = (0, 128, 128) if photometric.startswith("YBR") else black
        frames.append(frame_HWC.astype(frame_HWC.dtype.newbyteorder("<"), copy=False).tobytes())
    if len(frames) != shape.frames or any(len(frame) != shape.frame_bytes for frame in frames):
        raise Held("pixel-data")
    changed: dict[str, object] = {"PhotometricInterpretation": photometric}
    if shape.samples == 3:
        changed["PlanarConfiguration"] = 0
    value = b"".join(frames)
    return CleanPixels(value + b"\0" * (len(value) % 2), ExplicitVRLittleEndian, changed)


def _decoded_frames(dataset: Dataset, syntax: UID, shape: Geometry) -> Iterator[tuple[np.ndarray, str]]:
    """Each frame as (row, column[, sample]) of stored values, and its photometric interpretation."""
    if syntax in NATIVE and len(dataset["PixelData"].value) < shape.frame_bytes * shape.frames:
        raise Held("pixel-data")
    decoder = get_decoder(ExplicitVRLittleEndian if syntax == DeflatedExplicitVRLittleEndian else syntax)
    try:
        # raw: no conversion to RGB, so that stored values stay what they are
        for array, found in decoder.iter_array(dataset, raw=True):
            yield array.copy(), str(found["photometric_interpretation"])
    except Held:
        raise
    except Exception as error:  # a codec may raise anything on a broken frame
        raise Held("codec") from error


def _black(dataset: Dataset, shape: Geometry) -> int:
    """The stored value that shows black."""
    if shape.photometric == "PALETTE COLOR":
        return _darkest_index(dataset)
    signed = dataset.get("PixelRepresentation") == 1
    low = -(1 << shape.bits_stored - 1) if signed else 0
    return low + (1 << shape.bits_stored) - 1 if shape.photometric == "MONOCHROME1" else low


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


def _darkest_index(dataset: Dataset) -> int:
    order = ">" if dataset.original_encoding[1] is False else "<"
    red, green, blue = (table.astype(float) for table in palette(dataset, order))
    darkest = int(np.argmin(0.299 * red + 0.587 * green + 0.114 * blue))
    return int(dataset["RedPaletteColorLookupTableDescriptor"].value[1]) + darkest
