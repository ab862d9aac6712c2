"""MR DICOM frame by frame: where a slice lies, when in the beat it was taken, its values. Single files and Enhanced MR.

What a frame shows (magnitude, phase, tags) is read from the attributes that the standard has for it (PS3.3 C.8.3.1.1.1,
C.8.13.3.1). Series descriptions name patients, languages and habits, so they are not read. Axes: T frame, H row,
W column."""

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
"""Values of ImageType, from the third on, of frames whose grey is a phase, a velocity or a complex part."""
OTHER_CONTRASTS = frozenset(("FLOW_ENCODED", "TAGGING", "PERFUSION", "DIFFUSION", "VELOCITY"))
"""Values of AcquisitionContrast (PS3.3 C.8.13.3.1.4) that no cine of the anatomy has."""
MR_IMAGE, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"


@dataclass(frozen=True)
class Slice:
    """One MR frame: its place (LPS, mm), its time in the beat, and its stored values."""

    origin_mm: np.ndarray
    row_direction: np.ndarray
    column_direction: np.ndarray
    spacing_mm: tuple[float, float] | None
    time_ms: float | None
    order: float
    """As the files number the phases."""
    series: str = field(repr=False)
    """UID of the series; what was scanned twice comes in two, as a rule."""
    study: str = field(repr=False)
    """UID of the study, one patient's of one visit; without it the patient's ID."""
    heart_rate_bpm: float | None
    source: tuple[str, int] = field(repr=False)
    """SOP instance UID and frame number, from 1."""
    pixels: np.ndarray = field(repr=False)
    is_cine: bool = True
    """False for phase images, velocities, tags and other frames that show no plain anatomy."""
    acquired: str = ""
    """When it was scanned, as text that sorts; empty if the files do not say."""

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.row_direction, self.column_direction)


def is_mr(dataset: Dataset) -> bool:
    return str(dataset.get("SOPClassUID")) in (MR_IMAGE, ENHANCED_MR)


def slices_of(dataset: FileDataset) -> Iterator[Slice]:
    """The frames of one MR file; UnusableStudy for colour or a missing place, NotAnImage for damaged pixels."""
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise UnusableStudy("an MR file has 3 colour channels; a cine MR has one. Send the original series.")
    values_THW = _stored_values(dataset)
    for index, values_HW in enumerate(values_THW):
        groups = functional_groups(dataset, index)
        yield _slice(groups, _rescaled(values_HW, groups), index)


def _stored_values(dataset: FileDataset) -> np.ndarray:
    """Stored values (frame, row, column)."""
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    check_size((int(dataset.get("NumberOfFrames") or 1), rows, columns))
    try:
        values = dataset.pixel_array
    except Exception as error:  # decoders raise many kinds on damaged data
        raise NotAnImage(f"the pixel data of an MR file could not be decoded ({type(error).__name__}).") from None
    return np.asarray(values.reshape(-1, rows, columns))


def _rescaled(values_HW: np.ndarray, groups: Sequence[Dataset]) -> np.ndarray:
    """Values of one frame after its own slope and intercept (PS3.3 C.7.6.16.2.9), black the lowest.

    Scanners that scale each slice, or each phase, to its own maximum state another slope or intercept per frame.
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
    """Where the attributes of frame `index` may stand: its functional groups (PS3.3 C.7.6.16), then the data set."""
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
    )


def _shows_anatomy(groups: Sequence[Dataset]) -> bool:
    """Whether a frame is a plain magnitude picture: no phase, velocity, tagged or flow encoded one."""
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
    """Date and time of the series' frame as sortable text; of several attributes the nearest to the scan."""
    if moment := _first(groups, ("FrameAcquisitionDateTime", "AcquisitionDateTime")):
        return str(moment)
    dates = _first(groups, ("AcquisitionDate", "SeriesDate", "ContentDate")) or ""
    times = _first(groups, ("AcquisitionTime", "SeriesTime", "ContentTime")) or ""
    return f"{dates}{times}" if times else ""


def _first(groups: Sequence[Dataset], names: Sequence[str]) -> Any:
    """The value of the first of the attributes that is there; None if none is."""
    return next((value for name in names for group in groups if (value := group.get(name)) not in (None, "")), None)


def _numbers(groups: Sequence[Dataset], name: str) -> list[float]:
    """The attribute's numbers where it stands first; empty where it stands nowhere or holds no numbers."""
    for group in groups:
        value = group.get(name)
        if value is None or value == "":
            continue
        try:
            return [float(v) for v in (value if hasattr(value, "__iter__") and not isinstance(value, str) else [value])]
        except (TypeError, ValueError):
            return []
    return []
