"""MR DICOM frame by frame: where a slice lies, when in the beat it was taken, its values. Single files and Enhanced MR.

Series descriptions name patients, languages and habits, so they are not read. Axes: T frame, H row, W column."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydicom.dataset import Dataset, FileDataset

from echoplane.errors import NotAnImage, UnusableStudy
from echoplane.study.cine import HEART_RATES_BPM, check_size

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

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.row_direction, self.column_direction)


def is_mr(dataset: Dataset) -> bool:
    return str(dataset.get("SOPClassUID")) in (MR_IMAGE, ENHANCED_MR)


def slices_of(dataset: FileDataset) -> Iterator[Slice]:
    """The frames of one MR file; UnusableStudy for colour or a missing place, NotAnImage for damaged pixels."""
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise UnusableStudy("an MR file has 3 colour channels; a cine MR has one. Send the original series.")
    values_THW = _values(dataset)
    for index, values_HW in enumerate(values_THW):
        groups = functional_groups(dataset, index)
        yield _slice(groups, values_HW, index)


def _values(dataset: FileDataset) -> np.ndarray:
    """Stored values (frame, row, column), rescaled where the file says so."""
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    check_size((int(dataset.get("NumberOfFrames") or 1), rows, columns))
    try:
        values = dataset.pixel_array
    except Exception as error:  # decoders raise many kinds on damaged data
        raise NotAnImage(f"the pixel data of an MR file could not be decoded ({type(error).__name__}).") from None
    values = values.reshape(-1, rows, columns)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":  # the least value is white
        values = (0 if np.issubdtype(values.dtype, np.signedinteger) else 1 << int(dataset.BitsStored)) - 1 - values
    slope = float(dataset.get("RescaleSlope") or 1)
    return values if slope == 1 else (values * np.float32(slope)).astype(np.float32)


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
    )


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
