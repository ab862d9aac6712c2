"""Pixels of the output: every frame is masked outside the scan, losslessly (PS3.15 E.3.1, clean pixel data).

Baseline JPEG is kept as JPEG (module `jpeg`). Everything else is decoded, masked and written as explicit little endian:
stored values inside the scan are those of the original.
Axes: T frame, H row, W column, C sample.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import simplejpeg
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

from echoplane.deid import energy, fan, jpeg, search, stills, text
from echoplane.deid.policy import Policy
from echoplane.deid.reasons import FileRejected
from echoplane.deid.regions import Mask, Region, with_whole_units
from echoplane.deid.search import Blocks, Images
from echoplane.deid.stored import (
    Geometry,
    Picture,
    all_views,
    black,
    colours_of,
    eight_bits_of,
    exceed,
    rgb_of_ybr,
    shown,
    views,
)
from echoplane.study import sector

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
_MAX_BLACKENED = 0.6  # share of the scan; text lines that move over all of it take half
_MAX_UNREAD = 0.1  # share of the scan in which no text was read; captions of real files take up to 0.07
_SHAPE = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")


@dataclass(frozen=True)
class CleanPixels:
    """Pixel data of the output: the value, its transfer syntax, and the attributes that changed with it."""

    value: bytes
    transfer_syntax: UID
    attributes: dict[str, object]
    mask: Mask | None = None
    """Mask that was applied; None if nothing had to be blackened."""
    moves: bool = False
    """True if text was searched for in a clip that moves, so that the search is reliable."""
    doubtful: bool = False
    """True if drawn edges remain that may be letters."""
    scan_blackened: float = 0.0
    """Share of the scan that was blackened as text, 0 to 1."""

    @property
    def searched(self) -> bool:
        """True if text was searched for reliably, and none is left."""
        return self.moves and not self.doubtful


@dataclass(frozen=True)
class _Masked:
    mask: Mask | None = None
    moves: bool = False
    doubtful: bool = False
    blackened: float = 0.0
    """Share of the scan that was blackened as text, 0 to 1."""

    def with_pixels(self, value: bytes, syntax: UID, attributes: dict[str, object]) -> CleanPixels:
        return CleanPixels(value, syntax, attributes, self.mask, self.moves, self.doubtful, self.blackened)


def geometry(dataset: Dataset, policy: Policy) -> Geometry:
    """Reads and checks the pixel module before anything is decoded. Raises FileRejected if it is invalid."""
    try:
        rows, columns, samples, allocated, stored = (int(dataset[keyword].value) for keyword in _SHAPE)
        frames = int(dataset.get("NumberOfFrames") or 1)
        high_bit = int(dataset.get("HighBit", stored - 1))
    except (KeyError, TypeError, ValueError) as error:
        raise FileRejected("pixel-data") from error
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    found = Geometry(frames, rows, columns, samples, allocated, stored, photometric)
    sane = (
        found.frames > 0
        and 0 < found.rows <= _LARGEST_SIDE
        and 0 < found.columns <= _LARGEST_SIDE
        and found.samples == (1 if found.photometric.startswith(("MONO", "PALETTE")) else 3)
        and found.bits_allocated in (8, 16)
        and 0 < found.bits_stored <= found.bits_allocated
        and high_bit == found.bits_stored - 1  # else there would be bits below the sample that no viewer shows
        and found.photometric in _PHOTOMETRIC
    )
    if not sane:
        raise FileRejected("pixel-data")
    if found.frame_bytes * found.frames > policy.max_pixels_mib << 20:
        raise FileRejected("too-large")
    return found


def clean(dataset: Dataset, syntax: UID, shape: Geometry, region: Region | None, accepted: bool = False) -> CleanPixels:
    """Returns the pixels with text and everything outside the scan black. Without a region all pixels are kept.

    In both cases they are decoded and rewritten. accepted: a person has accepted the pixels, so everything inside the
    region is kept."""
    element = dataset.get("PixelData") and dataset["PixelData"]
    if not element or not element.value:
        raise FileRejected("pixel-data")
    if (syntax in NATIVE) == element.is_undefined_length:
        raise FileRejected("wrong-transfer-syntax")
    if syntax == JPEGBaseline8Bit:
        return _clean_jpeg(encapsulated_frames(element.value, shape.frames), shape, region, accepted)
    if syntax in DECODED:
        encapsulated_frames(element.value, shape.frames)
    elif syntax not in NATIVE:
        raise FileRejected("transfer-syntax")
    elif shape.photometric == "YBR_FULL_422":
        return _clean_422(element.value, shape, region, accepted)
    return _clean_decoded(dataset, syntax, shape, region, accepted)


def _clean_jpeg(frames: list[bytes], shape: Geometry, region: Region | None, accepted: bool) -> CleanPixels:
    images = _JpegFrames(frames, shape)
    if region is not None and region.doubt is None and not accepted:
        unit = jpeg.parse(frames[0]).layout.mcu_shape
        region = replace(region, boxes=with_whole_units(region.boxes, unit, _sample(images)))
    masked = _mask(images, region, accepted)
    if masked.mask is None:
        _hold_text((view for number in range(len(frames)) for view in views(images.frame(number))), accepted)
        images.blacken(None)
    return masked.with_pixels(encapsulate(images.frames), JPEGBaseline8Bit, {})


class _JpegFrames:
    """Frames of baseline JPEG, masked in their coefficients."""

    def __init__(self, frames: list[bytes], shape: Geometry) -> None:
        self.frames, self.shape = frames, shape
        self.inverted = shape.photometric == "MONOCHROME1"
        self._coloured = False

    def blacken(self, mask: Mask | None) -> Blocks:
        masker = jpeg.Masker(self.shape.rows, self.shape.columns, mask, self.shape.photometric)
        self.frames = [masker.rewrite(frame) for frame in self.frames]
        self._coloured = masker.coloured
        if mask is None:
            return Blocks(*np.zeros((2, 0, 0, 0)))
        eighth_THW = np.stack(masker.eighths)
        return Blocks(255 - eighth_THW if self.inverted else eighth_THW, np.stack(masker.energies))

    def frame(self, number: int) -> np.ndarray:
        return _grey(self.frames[number], self.shape)

    def colours(self, number: int) -> np.ndarray | None:
        return np.asarray(simplejpeg.decode_jpeg(self.frames[number], "RGB")) if self._coloured else None


def _grey(frame: bytes, shape: Geometry) -> np.ndarray:
    jpeg.parse(frame)
    try:
        grey_HW = simplejpeg.decode_jpeg(frame, "GRAY", strict=True)[..., 0]
    except ValueError as error:
        raise FileRejected("codec") from error
    if grey_HW.shape != (shape.rows, shape.columns):
        raise FileRejected("pixel-data")
    return 255 - grey_HW if shape.photometric == "MONOCHROME1" else grey_HW


def _mask(images: Images, region: Region | None, accepted: bool) -> _Masked:
    """Blackens everything outside the scan, and text."""
    if region is None:
        return _Masked()
    mask = Mask(region.boxes, region.text_blocks)
    if accepted:
        images.blacken(mask)
        return _Masked(mask)
    if region.doubt is not None:
        mask = replace(mask, scan_blocks=_found_scan(_sample(images), region.doubt))
    sample_THW = _sample(images)
    beside_HW = fan.beside(sample_THW, mask) if len(images.frames) < sector.MIN_FRAMES else None
    found = search.mask_text(images, mask if beside_HW is None else mask.without(beside_HW))
    blackened = text.blackened_share(sample_THW, found.mask)
    unread_HW = found.unread if beside_HW is None else found.unread | beside_HW
    unread = text.blackened_share(sample_THW, replace(found.mask, text_blocks=unread_HW))
    if blackened > _MAX_BLACKENED or unread > _MAX_UNREAD:
        raise FileRejected("scan-blackened")
    return _Masked(found.mask, found.moves, found.doubtful, blackened)


def _hold_text(pictures: Iterable[Picture], accepted: bool) -> None:
    """Raises FileRejected if there is text in pictures without a scan region, unless a person has accepted them."""
    if not accepted and stills.any_text(pictures):
        raise FileRejected("text-in-image")


def _sample(images: Images) -> np.ndarray:
    return np.stack([images.frame(number) for number in text.sample(len(images.frames))])


def _found_scan(sample_THW: np.ndarray, doubt: str) -> np.ndarray:
    blocks = fan.find(sample_THW)
    if blocks is None:
        raise FileRejected(doubt)
    return blocks


def encapsulated_frames(value: bytes, count: int) -> list[bytes]:
    """Returns the frames of encapsulated pixel data (PS3.5 A.4). Raises FileRejected if their number is not `count`."""
    try:
        frames = list(generate_frames(value, number_of_frames=count))
    except ValueError as error:
        raise FileRejected("pixel-data") from error
    if len(frames) != count or not all(frames):
        raise FileRejected("pixel-data")
    return frames


def _clean_422(value: bytes, shape: Geometry, region: Region | None, accepted: bool) -> CleanPixels:
    """Masks native YBR_FULL_422, Y Y Cb Cr per pair of pixels (PS3.3 C.7.6.3.1.2); a pair is kept as a whole or not."""
    size = shape.frames * shape.rows * shape.columns * 2
    if shape.columns % 2 or (shape.bits_allocated, shape.bits_stored) != (8, 8) or len(value) < size:
        raise FileRejected("pixel-data")
    pairs_THWC = np.frombuffer(value, np.uint8, size).reshape(shape.frames, shape.rows, shape.columns // 2, 4).copy()

    def blacken(mask: Mask) -> list[np.ndarray]:
        keep = mask.keeps(shape.rows, shape.columns)
        pairs_THWC[:, ~(keep[:, ::2] & keep[:, 1::2])] = (0, 0, 128, 128)
        return list(pairs_THWC[..., :2].reshape(shape.frames, shape.rows, shape.columns))

    def colours(number: int) -> np.ndarray:
        luma_HW = pairs_THWC[number, ..., :2].reshape(shape.rows, shape.columns)
        chroma = [pairs_THWC[number, ..., part].repeat(2, axis=1) for part in (2, 3)]
        return rgb_of_ybr(np.stack([luma_HW, *chroma], axis=2))

    masked = _mask(_NativeFrames(blacken, colours, region), region, accepted)
    return masked.with_pixels(pairs_THWC.tobytes(), ExplicitVRLittleEndian, {"PlanarConfiguration": 0})


class _NativeFrames:
    """Decoded frames. apply: blackens them outside a mask and returns them in grey; colours: one frame in colour."""

    def __init__(
        self,
        apply: Callable[[Mask], list[np.ndarray]],
        colours: Callable[[int], np.ndarray | None],
        region: Region | None,
    ) -> None:
        self._apply = apply
        self.colours = colours
        self._grey = apply(Mask(region.boxes)) if region is not None else []

    @property
    def frames(self) -> Sequence[object]:
        return self._grey

    def blacken(self, mask: Mask) -> Blocks:
        self._grey = self._apply(mask)
        eighth_THW = np.stack([sector.block_means(frame) for frame in self._grey])
        return Blocks(eighth_THW, np.stack([energy.of_pixels(frame) for frame in self._grey]))

    def frame(self, number: int) -> np.ndarray:
        return self._grey[number]


def _clean_decoded(
    dataset: Dataset, syntax: UID, shape: Geometry, region: Region | None, accepted: bool
) -> CleanPixels:
    decoded = list(_decoded_frames(dataset, syntax, shape))
    frames = [frame.astype(frame.dtype.newbyteorder("<"), copy=False) for frame, _ in decoded]
    photometric = decoded[-1][1] if decoded else shape.photometric
    if len(frames) != shape.frames or any(frame.nbytes != shape.frame_bytes for frame in frames):
        raise FileRejected("pixel-data")
    if exceed(frames, shape) or (photometric.startswith("YBR") and shape.bits_stored != 8):
        raise FileRejected("pixel-data")
    darkest = black(dataset, shape) if region is not None else 0
    eight_bits = eight_bits_of(frames, shape)
    show = shown(dataset, photometric, eight_bits)

    def blacken(mask: Mask) -> list[np.ndarray]:
        keep = mask.keeps(shape.rows, shape.columns)
        for frame_HWC in frames:
            frame_HWC[~keep] = (0, 128, 128) if photometric.startswith("YBR") else darkest
        return [show(frame) for frame in frames]

    in_colour = colours_of(dataset, photometric, eight_bits)
    masked = _mask(_NativeFrames(blacken, lambda number: in_colour(frames[number]), region), region, accepted)
    if masked.mask is None:
        _hold_text(all_views(dataset, frames, photometric, show), accepted)
    changed: dict[str, object] = {"PhotometricInterpretation": photometric}
    if shape.samples == 3:
        changed["PlanarConfiguration"] = 0
    value = b"".join(frame.tobytes() for frame in frames)
    return masked.with_pixels(value + b"\0" * (len(value) % 2), ExplicitVRLittleEndian, changed)


def _decoded_frames(dataset: Dataset, syntax: UID, shape: Geometry) -> Iterator[tuple[np.ndarray, str]]:
    """Yields each frame as stored values (row, column[, sample]), and its photometric interpretation."""
    if syntax in NATIVE and len(dataset["PixelData"].value) < shape.frame_bytes * shape.frames:
        raise FileRejected("pixel-data")
    decoder = get_decoder(ExplicitVRLittleEndian if syntax == DeflatedExplicitVRLittleEndian else syntax)
    try:
        # raw: no conversion to RGB, so that stored values are kept
        for array, found in decoder.iter_array(dataset, raw=True):
            yield array.copy(), str(found["photometric_interpretation"])
    except FileRejected:
        raise
    except Exception as error:  # a codec may raise anything on a broken frame
        raise FileRejected("codec") from error
