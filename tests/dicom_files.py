"""DICOM files for tests, built with pydicom: well-formed ones, and a place to break them.

Axes: T frame, H row, W column, C colour."""

import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import simplejpeg
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

US_MULTIFRAME, US_IMAGE = "1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.6.1"
PATIENT = "Zyxwvut^Quetzalcoatl"
"""A name that no library or answer would ever hold by chance."""
PATIENT_ID = "ID-8675309-QQ"
INSTITUTION = "St. Elsewhere <script>alert(1)</script>"
PLANTED = ("Zyxwvut", "Quetzalcoatl", "8675309", "Elsewhere", "<script>")

Change = Callable[[Dataset], object]


def moving_disc(frames: int = 24, rows: int = 120, columns: int = 160, seed: int = 0) -> np.ndarray:
    """A bright disc that beats, on speckle: uint8 (frame, row, column)."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:rows, :columns]
    radius = rows / 5 * (1 + 0.3 * np.sin(np.linspace(0, 4 * np.pi, frames)))
    speckle_HW = rng.integers(0, 80, (rows, columns), np.uint8)
    distance_HW = np.hypot(row - rows / 2, column - columns / 2)
    return np.stack([speckle_HW + (distance_HW < r).astype(np.uint8) * 150 for r in radius])


def grey_clip(frames_THW: np.ndarray | None = None, *, change: Change | None = None) -> bytes:
    """An uncompressed MONOCHROME2 clip of 8 or 16 bits."""
    frames_THW = moving_disc() if frames_THW is None else frames_THW
    dataset = _header(frames_THW.shape, bits=8 * frames_THW.dtype.itemsize)
    dataset.PixelData = _even(frames_THW.tobytes())
    return to_bytes(dataset, ExplicitVRLittleEndian, change)


def jpeg_clip(frames_THW: np.ndarray | None = None, *, change: Change | None = None, quality: int = 85) -> bytes:
    """A JPEG baseline YBR_FULL_422 clip, as ultrasound machines write it."""
    frames_THW = moving_disc() if frames_THW is None else frames_THW
    dataset = _header(frames_THW.shape, samples=3, photometric="YBR_FULL_422")
    rgb_THWC = np.repeat(frames_THW[..., None], 3, axis=3)
    encoded = [simplejpeg.encode_jpeg(np.ascontiguousarray(f), quality, colorsubsampling="422") for f in rgb_THWC]
    dataset.PixelData = encapsulate(encoded)
    dataset["PixelData"].is_undefined_length = True
    return to_bytes(dataset, JPEGBaseline8Bit, change)


def native_clip(
    pixel_data: bytes, shape: tuple[int, ...], syntax: UID = ExplicitVRLittleEndian, *, change: Change | None = None,
    samples: int = 1, bits: int = 8, photometric: str = "MONOCHROME2",
) -> bytes:  # fmt: skip
    """An uncompressed clip of (frame, row, column) whose bytes are in the order of `syntax`."""
    dataset = _header(shape, samples=samples, bits=bits, photometric=photometric)
    dataset.PixelData = _even(pixel_data)
    dataset["PixelData"].VR = "OW" if bits > 8 or syntax == ImplicitVRLittleEndian else "OB"
    return to_bytes(dataset, syntax, change)


def encoded_clip(
    frames: list[bytes], shape: tuple[int, ...], syntax: UID, *, change: Change | None = None, samples: int = 1,
    bits: int = 8, photometric: str = "MONOCHROME2",
) -> bytes:  # fmt: skip
    """A clip of (frame, row, column) from compressed frames."""
    dataset = _header(shape, samples=samples, bits=bits, photometric=photometric)
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    return to_bytes(dataset, syntax, change)


def rle_clip(frames_THW: np.ndarray, *, change: Change | None = None) -> bytes:
    dataset = _header(frames_THW.shape)
    dataset.PixelData = _even(frames_THW.tobytes())
    dataset.compress(RLELossless, generate_instance_uid=False)
    return to_bytes(dataset, RLELossless, change)


def palette_clip(frames_THW: np.ndarray) -> bytes:
    """Indices into a palette of 256 greys that run backwards."""
    dataset = _header(frames_THW.shape, photometric="PALETTE COLOR")
    table = (np.arange(255, -1, -1, dtype=np.uint16) * 257).tobytes()
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table)
    dataset.PixelData = _even(frames_THW.tobytes())
    return to_bytes(dataset, ExplicitVRLittleEndian)


def deflated_bomb(mib: int) -> bytes:
    """`mib` frames of 1 MiB of zeros, in a deflated file of a thousandth of that."""
    empty = to_bytes(_header((mib, 1024, 1024)), DeflatedExplicitVRLittleEndian)
    meta_end = 132 + 12 + int.from_bytes(empty[140:144], "little")
    header = zlib.decompress(empty[meta_end:], -zlib.MAX_WBITS)
    pixel_data = b"\xe0\x7f\x10\x00OB\0\0" + (mib << 20).to_bytes(4, "little")
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    begin = deflate.compress(header + pixel_data) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)  # stands alone, so it may be repeated
    return empty[:meta_end] + begin + block * mib + deflate.flush(zlib.Z_FINISH)


def to_bytes(dataset: FileDataset, syntax: UID, change: Change | None = None) -> bytes:
    dataset.file_meta.TransferSyntaxUID = syntax
    if change:
        change(dataset)
    target = io.BytesIO()
    if syntax == ExplicitVRBigEndian:  # pixel data and palettes must be in that order already
        dcmwrite(target, dataset, implicit_vr=False, little_endian=False, force_encoding=True)
    else:
        dataset.save_as(target, enforce_file_format=True)
    return target.getvalue()


def setting(**values: Any) -> Change:
    """A change that sets attributes."""
    return lambda dataset: [setattr(dataset, name, value) for name, value in values.items()]


def without(name: str) -> Change:
    """A change that takes an attribute away."""
    return lambda dataset: delattr(dataset, name)


def _header(
    shape: tuple[int, ...], *, samples: int = 1, bits: int = 8, photometric: str = "MONOCHROME2"
) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(US_MULTIFRAME), UID("1.2.826.0.1.3680043.8.1")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = UID("1.2.826.0.1.3680043.8.2"), UID("1.2.826.0.1.3680043.8.3")
    dataset.PatientName, dataset.PatientID, dataset.InstitutionName = PATIENT, PATIENT_ID, INSTITUTION
    dataset.StudyDescription, dataset.Modality = INSTITUTION, "US"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = shape
    dataset.FrameTime = "40"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = samples, photometric
    if samples > 1:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    return dataset


def _even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)
