"""Frames of MR DICOM with their position, time in the beat and values, from single-frame files and Enhanced MR.

The kind of a frame (magnitude, phase, tags) is read from the attributes that the standard has for it (PS3.3
C.8.3.1.1.1, C.8.13.3.1). Series descriptions are not read: they depend on language and local habits, and may name
patients. Axes: T frame, H row, W column."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset

from echoplane.errors import NotAnImage, UnusableStudy
from echoplane.study.cine import HEART_RATES_BPM, check_size

NO_MAGNITUDE = frozenset(
    (
        *("P", "PHASE", "PHASE MAP", "PHASE_MAP", "V", "VELOCITY", "VELOCITY MAP", "VELOCITY_MAP"),
        *("R", "REAL", "I", "IMAGINARY"),
    )
)
"""Values of ImageType, from the third on, of frames whose pixels are a phase, a velocity or a complex part."""
OTHER_CONTRASTS = frozenset(("FLOW_ENCODED", "TAGGING", "PERFUSION", "DIFFUSION", "VELOCITY"))
"""Values of AcquisitionContrast (PS3.3 C.8.13.3.1.4) that exclude a cine of the anatomy."""
MR_IMAGE, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"


@dataclass(frozen=True)
class Slice:
    """MR frame with its position (LPS, mm), its time in the beat, and its values."""

    origin_mm: np.ndarray
    row_direction: np.ndarray
    column_direction: np.ndarray
    spacing_mm: tuple[float, float] | None
    time_ms: float | None
    order: float
    """Number of the phase according to the files."""
    series: str = field(repr=False)
    """UID of the series; repeated scans of a slice usually have different series."""
    study: str = field(repr=False)
    """UID of the study (one visit of one patient); the patient's ID if it is absent."""
    heart_rate_bpm: float | None
    source: tuple[str, int] = field(repr=False)
    """SOP instance UID and frame number, from 1."""
    pixels: np.ndarray = field(repr=False)
    is_cine: bool = True
    """False for phase images, velocities, tagged and other frames that are not plain anatomy."""
    acquired: str = ""
    """Time of the scan as sortable text; empty if unknown."""
    scanner: tuple[str, str] = ("", "")
    """Manufacturer and model as the header states them."""

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.row_direction, self.column_direction)


def is_mr(dataset: Dataset) -> bool:
    return str(dataset.get("SOPClassUID")) in (MR_IMAGE, ENHANCED_MR)


def slices_of(dataset: FileDataset) -> Iterator[Slice]:
    """Yields the frames of one MR file.

    Raises UnusableStudy if the file is in colour or lacks the position of its slices, and NotAnImage if its pixels are
    damaged.
    """
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise UnusableStudy("an MR file has 3 colour channels; a cine MR has one. Send the original series.")
    values_THW = _stored_values(dataset)
    for index, values_HW in enumerate(values_THW):
        groups = functional_groups(dataset, index)
        yield _slice(groups, _rescaled(values_HW, groups), index)


def _stored_values(dataset: FileDataset) -> np.ndarray:
    """Returns the stored values (frame, row, column)."""
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    check_size((int(dataset.get("NumberOfFrames") or 1), rows, columns))
    try:
        values = dataset.pixel_array
    except Exception as error:  # decoders raise many kinds on damaged data
        raise NotAnImage(f"the pixel data of an MR file could not be decoded ({type(error).__name__}).") from None
    return np.asarray(values.reshape(-1, rows, columns))


def _rescaled(values_HW: np.ndarray, groups: Sequence[Dataset]) -> np.ndarray:
    """Returns the values of one frame after its own slope and intercept (PS3.3 C.7.6.16.2.9); black is the lowest.

    Scanners that scale each slice, or each phase, to its own maximum state a different slope or intercept per frame.
    """
    dataset = groups[-1]
    slope = (_numbers(groups, "RescaleSlope") or [1.0])[0] or 1.0
    intercept = (_numbers(groups, "RescaleIntercept") or [0.0])[0]
    if (slope, intercept) != (1.0, 0.0):
        values_HW = (values_HW * np.float32(slope) + np.float32(intercept)).astype(np.float32)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":  # the lowest value is white
        signed = int(dataset.get("PixelRepresentation") or 0) == 1
        values_HW = (0 if signed else 1 << int(dataset.BitsStored)) - 1 - values_HW
    return values_HW


def functional_groups(dataset: Dataset, index: int) -> list[Dataset]:
    """Returns the data sets that may hold attributes of frame `index`: functional groups, then the data set itself.

    Functional groups are those of PS3.3 C.7.6.16, the per-frame ones before the shared ones.
    """
    found: list[Dataset] = []
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in [*per_frame[index : index + 1], *shared[:1]]:
        found += [item.value[0] for item in groups if item.VR == "SQ" and item.value]
    return [*found, dataset]


def _slice(groups: Sequence[Dataset], values_HW: np.ndarray, index: int) -> Slice:
    origin, orientation = (_numbers(groups, name) for name in ("ImagePositionPatient", "ImageOrientationPatient"))
    if len(origin) != 3 or len(orientation) != 6:
        raise UnusableStudy(
            "an MR file does not say where its slice lies (ImagePositionPatient, ImageOrientationPatient); slices "
            "can't be sorted without. Send the original series."
        )
    spacing = _numbers(groups, "PixelSpacing")
    time = _numbers(groups, "NominalCardiacTriggerDelayTime") or _numbers(groups, "TriggerTime")
    order = _numbers(groups, "TemporalPositionIndex") or _numbers(groups, "TemporalPositionIdentifier")
    rate = _numbers(groups, "HeartRate")
    interval = _numbers(groups, "RRIntervalTimeNominal") or _numbers(groups, "NominalInterval")
    beats = rate[0] if rate and rate[0] > 0 else 60_000 / interval[0] if interval and interval[0] > 0 else None
    return Slice(
        origin_mm=np.array(origin),
        row_direction=np.array(orientation[:3]),
        column_direction=np.array(orientation[3:]),
        spacing_mm=(spacing[0], spacing[1]) if len(spacing) == 2 and min(spacing) > 0 else None,
        time_ms=time[0] if time else None,
        order=order[0] if order else (_numbers(groups, "InstanceNumber") or [0.0])[0] + index / 1e5,
        series=str(groups[-1].get("SeriesInstanceUID") or ""),
        study=str(groups[-1].get("StudyInstanceUID") or groups[-1].get("PatientID") or ""),
        heart_rate_bpm=beats if beats and HEART_RATES_BPM[0] <= beats <= HEART_RATES_BPM[1] else None,
        source=(str(groups[-1].get("SOPInstanceUID") or ""), index + 1),
        pixels=values_HW,
        is_cine=_shows_anatomy(groups),
        acquired=_acquired(groups),
        scanner=(str(groups[-1].get("Manufacturer") or ""), str(groups[-1].get("ManufacturerModelName") or "")),
    )


def _shows_anatomy(groups: Sequence[Dataset]) -> bool:
    """Returns True if a frame is a plain magnitude picture: not a phase, velocity, tagged or flow encoded one."""
    kinds = [str(kind).upper() for kind in _first(groups, ("FrameType", "ImageType")) or ()]
    component = str(_first(groups, ("ComplexImageComponent",)) or "MAGNITUDE").upper()
    return (
        not NO_MAGNITUDE & set(kinds[2:])
        and component in ("MAGNITUDE", "MIXED")
        and str(_first(groups, ("AcquisitionContrast",)) or "").upper() not in OTHER_CONTRASTS
        and str(_first(groups, ("Tagging",)) or "NONE").upper() == "NONE"
        and str(_first(groups, ("PhaseContrast",)) or "NO").upper() != "YES"
        and "tag" not in str(_first(groups, ("SequenceName", "PulseSequenceName")) or "").lower()
    )


def _acquired(groups: Sequence[Dataset]) -> str:
    """Returns the date and time of the scan as sortable text, from the attribute closest to the acquisition."""
    if moment := _first(groups, ("FrameAcquisitionDateTime", "AcquisitionDateTime")):
        return str(moment)
    dates = _first(groups, ("AcquisitionDate", "SeriesDate", "ContentDate")) or ""
    times = _first(groups, ("AcquisitionTime", "SeriesTime", "ContentTime")) or ""
    return f"{dates}{times}" if times else ""


def _first(groups: Sequence[Dataset], names: Sequence[str]) -> Any:
    """Returns the value of the first of the attributes that is present; None if none is."""
    return next((value for name in names for group in groups if (value := group.get(name)) not in (None, "")), None)


def _numbers(groups: Sequence[Dataset], name: str) -> list[float]:
    """Returns the numbers of the attribute from the first group that has it; empty if absent or not numeric."""
    for group in groups:
        value = group.get(name)
        if value is None or value == "":
            continue
        try:
            return [float(v) for v in (value if hasattr(value, "__iter__") and not isinstance(value, str) else [value])]
        except (TypeError, ValueError):
            return []
    return []
