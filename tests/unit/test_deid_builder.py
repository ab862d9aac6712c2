"""Files for the de-identification tests, built with pydicom alone: an echo clip with PHI in every corner."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    UltrasoundMultiFrameImageStorage,
)

from echoplane.deid import Key, Outcome, Policy, deidentify_file

KEY = Key(bytes(range(1, 65)))
OTHER_KEY = Key(bytes(range(65, 129)))
ROWS, COLUMNS, FRAMES = 120, 160, 6
BOX = (32, 32, 112, 144)  # top, left, bottom, right, exclusive; whole MCUs of 4:2:2
NAME, PATIENT_ID = "Zwetschgen^Rosalinde", "MRN4711077"


def clip(
    text: str = "ROSALINDE", frames: int = FRAMES, seed: int = 7, shape: tuple[int, int] = (ROWS, COLUMNS)
) -> np.ndarray:
    """Moving speckle inside the box, text in the border; (frame, row, column, RGB)."""
    rng = np.random.default_rng(seed)
    clip_THWC = np.zeros((frames, *shape, 3), np.uint8)
    rows, columns = shape[0] / ROWS, shape[1] / COLUMNS
    top, left, bottom, right = (round(side * (columns if i % 2 else rows)) for i, side in enumerate(BOX))
    for frame_HWC in clip_THWC:
        speckle = cv2.GaussianBlur(rng.normal(size=(bottom - top, right - left)), (0, 0), 2)
        frame_HWC[top:bottom, left:right] = np.clip(110 + 300 * speckle, 30, 230)[..., None]
    for frame_HWC in clip_THWC:
        cv2.putText(frame_HWC, text, (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1)
    return clip_THWC


def region(box: tuple[int, int, int, int] = BOX, spatial_format: int = 1, data_type: int = 1) -> Dataset:
    """One item of SequenceOfUltrasoundRegions."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = spatial_format, data_type, 0
    item.RegionLocationMinY0, item.RegionLocationMinX0 = box[0], box[1]
    item.RegionLocationMaxY1, item.RegionLocationMaxX1 = box[2] - 1, box[3] - 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX = item.PhysicalDeltaY = 0.05
    return item


def echo(pixels: np.ndarray | None = None, **changes: object) -> Dataset:
    """A JPEG 4:2:2 echo clip of an invented patient; `changes` set attributes by keyword."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.SOPInstanceUID, dataset.StudyInstanceUID = "1.2.826.0.1.999.3.1", "1.2.826.0.1.999.1.1"
    dataset.SeriesInstanceUID, dataset.Modality = "1.2.826.0.1.999.2.1", "US"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = NAME, PATIENT_ID, "19480229"
    dataset.PatientSex, dataset.PatientAge, dataset.PatientSize = "F", "076Y", "1.63"
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20240317", "101530", "ACC88231"
    dataset.ContentDate, dataset.AcquisitionDateTime = "20240318", "20240317101600.250000+0100"
    dataset.Manufacturer, dataset.ManufacturerModelName = "Philips", "EPIQ 7C"
    dataset.InstitutionName, dataset.ReferringPhysicianName = "Klinikum Hinterwald", "Quacksalber^Balduin"
    dataset.StudyDescription, dataset.ImageType = "TTE apical", ["ORIGINAL", "PRIMARY"]
    dataset.FrameTime, dataset.CineRate, dataset.HeartRate = "40", "25", "66"
    dataset.SequenceOfUltrasoundRegions = [region()]
    view = Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "399214001", "SCT", "Apical four chamber"
    dataset.ViewCodeSequence = [view]
    set_jpeg(dataset, clip() if pixels is None else pixels)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def frozen() -> Dataset:
    """A clip that does not move and has no region: nobody but a person can say where the scan is."""
    return echo(clip(frames=1).repeat(FRAMES, axis=0), SequenceOfUltrasoundRegions=[])


def set_jpeg(dataset: Dataset, clip_THWC: np.ndarray) -> None:
    """Pixels as baseline JPEG 4:2:2."""
    frames = [simplejpeg.encode_jpeg(np.ascontiguousarray(f), 90, colorsubsampling="422") for f in clip_THWC]
    _shape(dataset, clip_THWC, "YBR_FULL_422", 3)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    set_frames(dataset, frames)


def set_frames(dataset: Dataset, frames: list[bytes]) -> None:
    """Encapsulated frames as they are."""
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def set_native(dataset: Dataset, clip_THW: np.ndarray, photometric: str) -> None:
    """Uncompressed pixels of the given photometric interpretation."""
    _shape(dataset, clip_THW, photometric, 3 if clip_THW.ndim == 4 else 1)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.PixelData = clip_THW.tobytes()
    dataset["PixelData"].VR = "OB" if clip_THW.dtype == np.uint8 else "OW"
    dataset["PixelData"].is_undefined_length = False


def _shape(dataset: Dataset, clip_THW: np.ndarray, photometric: str, samples: int) -> None:
    bits = 8 * clip_THW.dtype.itemsize
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = clip_THW.shape[:3]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = samples, photometric
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    if samples == 3:
        dataset.PlanarConfiguration = 0


def to_bytes(dataset: Dataset) -> bytes:
    """The dataset as a file."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def run(
    content: Dataset | bytes, folder: Path, key: Key = KEY, policy: Policy | None = None, name: str = "a.dcm"
) -> Outcome:
    """De-identify one file through the public function."""
    source = folder / "in" / name
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(content if isinstance(content, bytes) else to_bytes(content))
    return deidentify_file(source, folder / "out", key, policy or Policy())


def written(outcome: Outcome, folder: Path) -> Dataset:
    """The output, read again; fails where there is none."""
    assert outcome.reason is None, outcome.reason
    assert outcome.output is not None
    return dcmread(folder / "out" / outcome.output)


def written_bytes(outcome: Outcome, folder: Path) -> bytes:
    """The raw output."""
    assert outcome.output is not None, outcome.reason
    return (folder / "out" / outcome.output).read_bytes()


def test_the_clip_of_the_tests_passes_and_keeps_its_view(tmp_path: Path) -> None:
    dataset = written(run(echo(), tmp_path), tmp_path)
    assert dataset.ViewCodeSequence[0].CodeValue == "399214001"
    assert dataset.NumberOfFrames == FRAMES
