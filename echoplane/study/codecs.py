"""Decodes the samples of one compressed frame, with one decoder per transfer syntax on every machine.

A frame's own header is compared with the file's before anything is decoded. Axes: H row, W column, C sample.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import gdcm
import jpeg_ls
import numpy as np
import openjpeg
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from echoplane.errors import NotAnImage, TooLarge, Unsupported
from echoplane.study import jpeg2000
from echoplane.study.pixel_format import PixelFormat, Samples, arranged, native_samples, stored_values


def decode(encoded: bytes, syntax: str, form: PixelFormat) -> Samples:
    """Returns the samples of one compressed frame. Raises NotAnImage if the frame is damaged."""
    return DECODERS[syntax](encoded, syntax, form)


def _rle(encoded: bytes, syntax: str, form: PixelFormat) -> Samples:
    """Decodes RLE (PS3.5 annex G): a segment per byte of a sample, the most significant first, sample after sample."""
    size = form.bits_allocated // 8
    segments, *offsets = struct.unpack("<16I", encoded[:64])
    if segments != form.samples * size:
        raise NotAnImage(f"an RLE frame has {segments} segments; {form.samples * size} are needed.")
    bounds = [*offsets[:segments], len(encoded)]
    pixels = form.rows * form.columns
    planes = [_unpacked(encoded[bounds[i] : bounds[i + 1]], pixels) for i in range(segments)]
    words = np.stack(planes, axis=-1).reshape(pixels, form.samples, size)
    big_endian = np.ascontiguousarray(words.swapaxes(0, 1)).view(f">u{size}")
    frame = arranged(big_endian.ravel(), form.rows, form.columns, form.samples, planar=True)
    return native_samples(frame, form)


def _coded_samples(words: np.ndarray, form: PixelFormat, precision: int, *, is_rgb: bool) -> Samples:
    """Returns the samples in words whose compressed frame states their precision, which may exceed BitsStored."""
    bits = min(precision, form.bits_stored) if form.signed else precision
    return Samples(stored_values(words, bits - 1, bits, signed=form.signed), precision, is_rgb=is_rgb)


def _unpacked(segment: bytes, length: int) -> np.ndarray:
    """Returns `length` bytes of an RLE segment (PS3.5 G.3.2), even if it would unpack to more."""
    unpacked, position = bytearray(), 0
    while len(unpacked) < length and position + 1 < len(segment):
        control = segment[position]
        if control < 128:
            unpacked += segment[position + 1 : position + 2 + control]
            position += 2 + control
        elif control > 128:
            unpacked += segment[position + 1 : position + 2] * (257 - control)
            position += 2
        else:
            position += 1
    if len(unpacked) < length:
        raise NotAnImage("an RLE frame is truncated.")
    return np.frombuffer(unpacked, np.uint8, length)


MAX_SCANS = 32
"""Maximum number of scans of one JPEG: encoders write up to 14, and each scan takes as long as a whole picture."""
START_OF_SCAN = b"\xff\xda"


@dataclass(frozen=True)
class JpegHeader:
    """Start-of-frame header of a JPEG or JPEG-LS frame (ISO 10918-1 B.2.2)."""

    precision: int
    rows: int
    columns: int
    components: int


def jpeg_header(encoded: bytes) -> JpegHeader:
    """Returns the content of the start-of-frame segment. Raises NotAnImage if the frame has none, TooLarge if it has
    too many scans."""
    if (scans := encoded.count(START_OF_SCAN)) > MAX_SCANS:  # never inside compressed data (ISO 10918-1 B.1.1.5)
        raise TooLarge(f"a JPEG has {scans} scans; at most {MAX_SCANS} are read. Export it as baseline JPEG.")
    position = 2
    while position + 10 <= len(encoded) and encoded[position] == 0xFF:
        marker = encoded[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return JpegHeader(*struct.unpack(">BHHB", encoded[position + 4 : position + 10]))
        else:
            position += 2 + int.from_bytes(encoded[position + 2 : position + 4], "big")
    raise NotAnImage("a JPEG frame is damaged: it has no start-of-frame segment.")


def _jpeg(encoded: bytes, syntax: str, form: PixelFormat) -> Samples:
    header = jpeg_header(encoded)
    check_shape(form, header.rows, header.columns, header.components)
    if not 2 <= header.precision <= min(16, form.bits_allocated):  # GDCM ends the process for others
        raise NotAnImage(f"a JPEG frame states {header.precision} bits; the header allocates {form.bits_allocated}.")
    if syntax == JPEGBaseline8Bit:  # by its name only: frames of 8 bits are decoded elsewhere
        syntax = JPEGExtended12Bit
    if syntax == JPEGExtended12Bit and header.components == 3:
        raise Unsupported("colour JPEG of 12 bits is not read. Send the clip as JPEG of 8 bits, or uncompressed.")
    planar = False
    if syntax in JPEGLSTransferSyntaxes:
        words, planar = _by_charls(encoded, form, header.precision)
    else:
        words = _by_gdcm(encoded, syntax, form, header.precision)
    frame = arranged(words, form.rows, form.columns, form.samples, planar=planar)
    return _coded_samples(frame, form, header.precision, is_rgb=form.photometric == "RGB")


def _by_charls(encoded: bytes, form: PixelFormat, precision: int) -> tuple[np.ndarray, bool]:
    """Returns the samples of a JPEG-LS frame, and True if they are ordered by plane (interleave mode 0)."""
    decoded, header = jpeg_ls.decode_pixel_data(encoded)
    words = np.frombuffer(decoded, np.uint8 if precision <= 8 else "<u2", form.rows * form.columns * form.samples)
    return words, header["interleave_mode"] == 0


def _by_gdcm(encoded: bytes, syntax: str, form: PixelFormat, precision: int) -> np.ndarray:
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((form.columns, form.rows, 1))
    image.SetDataElement(element)
    photometric = gdcm.PhotometricInterpretation.GetPIType("RGB" if form.samples == 3 else "MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(photometric))
    if form.samples == 3:
        image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    size = 1 if precision <= 8 else 2
    image.SetPixelFormat(gdcm.PixelFormat(form.samples, 8 * size, precision, precision - 1, 0))
    decoded = image.GetBuffer()
    if decoded is None:
        raise NotAnImage("a JPEG frame is damaged: it could not be decoded.")
    # the binding returns bytes as text
    return np.frombuffer(
        decoded.encode("utf-8", "surrogateescape"), f"<u{size}", form.rows * form.columns * form.samples
    )


def _jpeg2000(encoded: bytes, syntax: str, form: PixelFormat) -> Samples:
    encoded = jpeg2000.codestream(encoded)
    header = openjpeg.get_parameters(encoded)
    rows, columns, components, precision = (
        int(header[name]) for name in ("rows", "columns", "samples_per_pixel", "precision")
    )
    check_shape(form, rows, columns, components)
    decoded = openjpeg.decode(encoded)
    words = decoded.view(decoded.dtype.str.replace("i", "u"))
    is_rgb = form.photometric in ("RGB", "YBR_ICT", "YBR_RCT") or _has_component_transform(encoded)
    return _coded_samples(words, form, precision, is_rgb=is_rgb)


def _has_component_transform(codestream: bytes) -> bool:
    """Returns True if the COD segment (ISO 15444-1 A.6.1) says that three components were transformed; decoding undoes
    it."""
    position = 2
    while position + 9 <= len(codestream) and codestream[position : position + 2] != b"\xff\x90":  # start of tile part
        if codestream[position : position + 2] == b"\xff\x52":
            return codestream[position + 8] == 1
        position += 2 + int.from_bytes(codestream[position + 2 : position + 4], "big")
    return False


def check_shape(form: PixelFormat, rows: int, columns: int, components: int) -> None:
    """Raises NotAnImage if a compressed frame's shape differs from the header's."""
    if (rows, columns) != (form.rows, form.columns):
        raise NotAnImage(f"a frame is of {rows} x {columns} pixels; the header says {form.rows} x {form.columns}.")
    if components != form.samples:
        raise NotAnImage(f"a frame has {components} component(s); the header says {form.samples}.")


DECODERS: dict[str, Callable[[bytes, str, PixelFormat], Samples]] = {
    RLELossless: _rle,
    **dict.fromkeys(
        (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless), _jpeg
    ),
    **dict.fromkeys((JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL), _jpeg2000),
}
