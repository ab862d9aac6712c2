"""A de-identified cohort as the stage `deid` leaves it, tiny: moving bars that differ by view. No phantom, no PHI."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pydicom
import simplejpeg
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit, UltrasoundMultiFrameImageStorage

from echoplane.files import digest_of
from echoplane.stages.outputs import Studies
from echoplane.stages.stage import Manifest, file_digests
from echoplane.study.views import VIDEO_VIEWS, View

ROWS, COLUMNS, FRAMES = 80, 96, 10


def write_cohort(folder: Path, patients: int, views: int = 3, clips: int = 1, seed: int = 0) -> Path:
    """`patients` x `views` x `clips` files under FOLDER/dicom, a report, and a manifest whose path is returned."""
    for patient in range(patients):
        for number, view in enumerate(VIDEO_VIEWS[:views]):
            for clip in range(clips):
                path = folder / "dicom" / f"p{patient:03d}" / f"{view.name}-{clip}.dcm"
                write_clip(path, f"P{patient:03d}", view, moving_bar(number, [seed, patient, number, clip]))
    return write_manifest(folder)


def write_manifest(folder: Path) -> Path:
    """The report and the manifest that make `folder` a finished deid stage."""
    written = {name: digest for name, digest in file_digests(folder).items() if name.startswith("dicom/")}
    outcomes = [{"output": name, "output_digest": digest} for name, digest in written.items()]
    (folder / "report.json").write_text(json.dumps({"policy": "test", "outcomes": outcomes}))
    digest = digest_of(file_digests(folder))
    output = Studies(
        unit="file",
        count=len(written),
        identity="removed",
        report_sha256=hashlib.sha256((folder / "report.json").read_bytes()).hexdigest(),
    )
    manifest = Manifest(
        stage="deid", key="0", digest=digest, folder=str(folder), counts={}, output=output, duration_s=0
    )
    manifest.write(folder / "manifest.json")
    return folder / "manifest.json"


def moving_bar(number: int, seed: list[int]) -> np.ndarray:
    """uint8 (frame, row, column): a bar whose direction says `number`, drifting over noise."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:ROWS, :COLUMNS]
    angle = np.pi * number / 12 + rng.normal(0, 0.03)
    across = (row - ROWS / 2) * np.cos(angle) + (column - COLUMNS / 2) * np.sin(angle)
    place = rng.uniform(-6, 6) + 8 * np.sin(np.linspace(0, 6, FRAMES) + rng.uniform(0, 6))
    bar_THW = np.abs(across[None] - place[:, None, None]) < 7
    return (bar_THW * 140 + rng.integers(0, 80, bar_THW.shape)).astype(np.uint8)


def write_clip(path: Path, patient: str, view: View | None, frames_THW: np.ndarray, study: str = "1") -> None:
    """One multi-frame ultrasound file, JPEG grey, its scan region the whole image."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.SOPClassUID, data.Modality = UltrasoundMultiFrameImageStorage, "US"
    data.SOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[patient, study, path.name])
    data.StudyInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[patient, study])
    data.PatientID, data.PatientSex, data.PatientAge = patient, "F", "063Y"
    data.Manufacturer, data.ManufacturerModelName, data.FrameTime = "Bars", "One", "40"
    data.NumberOfFrames, data.Rows, data.Columns = (int(n) for n in frames_THW.shape)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.SequenceOfUltrasoundRegions = Sequence([_region(*frames_THW.shape[1:])])
    if view is not None:
        data.ViewCodeSequence = Sequence([_code(view)])
    jpegs = [simplejpeg.encode_jpeg(np.ascontiguousarray(f[..., None]), colorspace="GRAY") for f in frames_THW]
    data.PixelData = encapsulate(jpegs)
    data["PixelData"].is_undefined_length = True
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def _region(rows: int, columns: int) -> Dataset:
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = columns - 1, rows - 1
    region.RegionSpatialFormat, region.RegionDataType = 1, 1
    return region


def _code(view: View) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = view.code, view.scheme, view.meaning
    return code
