"""Ultrasound clip or still from the header of a DICOM data set; its frames are decoded on demand."""

from typing import Any

from pydicom.dataset import FileDataset
from pydicom.uid import UID_dictionary

from echoplane.errors import NotAnImage, Unsupported
from echoplane.study.limits import Limits
from echoplane.study.pixels import DicomFrames
from echoplane.study.study import Identity, Instance, Region
from echoplane.study.timing import frame_time_ms, number
from echoplane.study.views import View, by_code

ULTRASOUND = (
    "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound Image
    "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame Image
    "1.2.840.10008.5.1.4.1.1.6",  # the same two, retired
    "1.2.840.10008.5.1.4.1.1.3",
)
SECONDARY_CAPTURE = (
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image
    "1.2.840.10008.5.1.4.1.1.7.2",  # Multi-frame Grayscale Byte
    "1.2.840.10008.5.1.4.1.1.7.3",  # Multi-frame Grayscale Word
    "1.2.840.10008.5.1.4.1.1.7.4",  # Multi-frame True Color
)
REGION_KINDS = {(1, 1): "tissue", (1, 2): "colour-flow", (3, 3): "pw-doppler", (3, 4): "cw-doppler", (4, 10): "trace"}
"""Kind of region by (RegionSpatialFormat, RegionDataType), PS3.3 C.8.5.5.1.1 and .2."""
REGION_KINDS_BY_FORMAT = {2: "m-mode", 3: "spectral", 4: "trace"}
CENTIMETRES = 3


def instance_of(dataset: FileDataset, digest: str, limits: Limits) -> Instance:
    """Returns the clip or still of a data set; `digest` is the SHA-256 of its file.

    Raises Unsupported for other SOP classes, TooLarge, or NotAnImage if its header contradicts its pixel data.
    """
    _check_class(dataset)
    rows, columns = _count(dataset, "Rows"), _count(dataset, "Columns")
    stated = None if dataset.get("NumberOfFrames") is None else _count(dataset, "NumberOfFrames")
    limits.check(rows, columns, stated or 1)
    if "PixelData" not in dataset:
        raise NotAnImage("the file holds no pixel data: it is truncated, or holds no image.")
    frames = DicomFrames(dataset, rows, columns, stated, limits)
    limits.check(rows, columns, frames.count)
    time_ms, warnings = frame_time_ms(dataset) if frames.count > 1 else (None, ())
    if stated is None and frames.count > 1:
        warnings += (f"no NumberOfFrames in the file: {frames.count} frames were counted",)
    return Instance(
        digest=digest,
        modality="US",
        frame_count=frames.count,
        rows=rows,
        columns=columns,
        frames=frames,
        frame_time_ms=time_ms,
        regions=_regions(dataset),
        manufacturer=str(dataset.get("Manufacturer") or ""),
        model=str(dataset.get("ManufacturerModelName") or ""),
        view=_view(dataset),
        identity=_identity(dataset),
        warnings=warnings,
    )


def _check_class(dataset: FileDataset) -> None:
    if "SOPClassUID" not in dataset:
        raise NotAnImage("the DICOM file is damaged: it has no SOP class.")
    sop_class = str(dataset.SOPClassUID)
    if sop_class in ULTRASOUND or (sop_class in SECONDARY_CAPTURE and dataset.get("Modality") == "US"):
        return
    if sop_class in SECONDARY_CAPTURE:
        raise Unsupported(
            "a secondary capture is read if its Modality is US. If this one shows ultrasound, set Modality to US."
        )
    name = UID_dictionary.get(sop_class, ("unknown",))[0]
    raise Unsupported(f"the SOP class ({name}) is not read; ultrasound images, of one frame or many, and cine MR are.")


def _count(dataset: FileDataset, name: str) -> int:
    """Returns a whole number above 0."""
    try:
        count = int(dataset.get(name))
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise NotAnImage(f"{name} is missing or no whole number above 0.")
    return count


def _regions(dataset: FileDataset) -> tuple[Region, ...]:
    """Returns the regions whose corners are whole numbers."""
    return tuple(r for item in dataset.get("SequenceOfUltrasoundRegions") or [] if (r := _region(item)))


def _region(item: Any) -> Region | None:
    try:
        left, top = int(item.RegionLocationMinX0), int(item.RegionLocationMinY0)
        right, bottom = int(item.RegionLocationMaxX1) + 1, int(item.RegionLocationMaxY1) + 1  # inclusive in the file
        kind = (int(item.RegionSpatialFormat), int(item.RegionDataType))
    except (AttributeError, TypeError, ValueError):
        return None
    name = REGION_KINDS.get(kind) or REGION_KINDS_BY_FORMAT.get(kind[0], "other")
    return Region(name, top, left, bottom, right, _spacing_mm(item))


def _spacing_mm(item: Any) -> tuple[float, float] | None:
    if item.get("PhysicalUnitsXDirection") != CENTIMETRES or item.get("PhysicalUnitsYDirection") != CENTIMETRES:
        return None
    row_cm, column_cm = (number(abs(item.get(f"PhysicalDelta{axis}") or 0)) for axis in "YX")
    return (10 * row_cm, 10 * column_cm) if row_cm and column_cm else None


def _view(dataset: FileDataset) -> View | None:
    codes = dataset.get("ViewCodeSequence") or []
    return by_code(str(codes[0].get("CodingSchemeDesignator")), str(codes[0].get("CodeValue"))) if codes else None


def _identity(dataset: FileDataset) -> Identity:
    height_m, weight_kg = number(dataset.get("PatientSize")), number(dataset.get("PatientWeight"))
    age = str(dataset.get("PatientAge") or "")
    return Identity(
        patient=str(dataset.get("PatientID") or ""),
        study_uid=str(dataset.get("StudyInstanceUID") or ""),
        instance_uid=str(dataset.get("SOPInstanceUID") or ""),
        sex=sex if (sex := dataset.get("PatientSex")) in ("F", "M", "O") else None,
        age_years=int(age[:3]) if age[3:] == "Y" and age[:3].isdigit() else None,
        bmi=round(weight_kg / height_m**2, 1) if height_m and weight_kg else None,
    )
