"""Writes a clip or a still as an ultrasound machine does: Ultrasound (Multi-frame) Image, JPEG Baseline 4:2:2, with
names in many attributes.

UIDs are derived from the patient's seed, so that the same seed gives the same bytes (PS3.5 B.2: 2.25 and a UUID's
integer).
"""

import hashlib
from pathlib import Path

import simplejpeg
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, JPEGBaseline8Bit, UltrasoundImageStorage, UltrasoundMultiFrameImageStorage

from echoplane.phantom.patient import EchoClip, Patient
from echoplane.phantom.strip_screen import StripStill
from echoplane.phantom.trace import SWEEP_S
from echoplane.study.views import by_name

Scan = EchoClip | StripStill
CREATOR = "HALCYON VANTIS 01"


def uid(*parts: object) -> UID:
    """Returns a UID of the 2.25 root that is derived from `parts`."""
    digest = hashlib.sha256("/".join(map(str, ("phantom", *parts))).encode()).digest()
    # The bits of a version 4 UUID, as PS3.5 B.2 requires.
    number = int.from_bytes(digest[:16], "big") & ~(0xF << 76) & ~(0x3 << 62) | (0x4 << 76) | (0x2 << 62)
    return UID(f"2.25.{number}")


def write_clip(clip: Scan, patient: Patient, path: Path) -> str:
    """Writes the clip to `path`, under a temporary name first; returns its SOPInstanceUID."""
    dataset = build(clip, patient)
    temporary = path.with_name(f".{path.name}.part")
    dataset.save_as(temporary, enforce_file_format=True)
    temporary.replace(path)
    return str(dataset.SOPInstanceUID)


def build(clip: Scan, patient: Patient) -> Dataset:
    """Returns the whole data set of a clip, pixels included."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    _who(dataset, patient)
    _machine(dataset, clip)
    _study(dataset, clip, patient)
    dataset.HeartRate = clip.heart_rate_bpm
    _view(dataset, clip)
    if isinstance(clip, EchoClip):
        _cine(dataset, clip)
        dataset.SequenceOfUltrasoundRegions = Sequence(_regions(clip))
    else:
        dataset.SequenceOfUltrasoundRegions = Sequence([_strip_region(clip)])
    if clip.style.private_tags:
        _private(dataset, clip, patient)
    _pixels(dataset, clip)
    dataset.file_meta = _meta(dataset, clip)
    return dataset


def _meta(dataset: Dataset, clip: Scan) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    meta.ImplementationClassUID = uid("implementation", clip.style.name)
    meta.ImplementationVersionName = clip.style.name.upper()
    return meta


def _who(dataset: Dataset, patient: Patient) -> None:
    person = patient.identity
    dataset.PatientName = person.name
    dataset.PatientID = person.patient_id
    dataset.PatientBirthDate = f"{person.birth_date:%Y%m%d}"
    dataset.PatientSex = person.sex
    dataset.PatientAge = f"{person.age_years:03d}Y"
    dataset.PatientSize = f"{person.height_cm / 100:.2f}"
    dataset.PatientWeight = str(person.weight_kg)
    dataset.PatientTelephoneNumbers = person.phone
    dataset.InstitutionName = person.hospital
    dataset.InstitutionalDepartmentName = person.department
    dataset.ReferringPhysicianName = person.referring
    dataset.OperatorsName = person.operator
    dataset.AccessionNumber = person.accession


def _machine(dataset: Dataset, clip: Scan) -> None:
    style = clip.style
    dataset.Modality = "US"
    dataset.Manufacturer = style.manufacturer
    dataset.ManufacturerModelName = style.model
    dataset.SoftwareVersions = style.software
    dataset.StationName = f"{style.name.upper()}-ECHO2"
    dataset.DeviceSerialNumber = f"{style.name[:2].upper()}{len(style.model)}0417"
    dataset.TransducerData = ["S5-1", "CARDIAC", ""]
    dataset.TransducerType = "SECTOR_PHASED"
    dataset.ProtocolName = "ADULT ECHO"


def _study(dataset: Dataset, clip: Scan, patient: Patient) -> None:
    start, person = patient.identity.study_start, patient.identity
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage if isinstance(clip, EchoClip) else UltrasoundImageStorage
    dataset.SOPInstanceUID = uid(patient.seed, *_instance(clip))
    dataset.StudyInstanceUID = uid(patient.seed, "study")
    dataset.SeriesInstanceUID = uid(patient.seed, "series")
    dataset.StudyID = f"{person.accession[-5:]}"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = clip.number
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "", "0001"]
    dataset.StudyDate = dataset.SeriesDate = f"{start:%Y%m%d}"
    dataset.StudyTime = dataset.SeriesTime = f"{start:%H%M%S}"
    dataset.ContentDate = dataset.AcquisitionDate = f"{clip.acquired:%Y%m%d}"
    dataset.ContentTime = dataset.AcquisitionTime = f"{clip.acquired:%H%M%S}"
    dataset.AcquisitionDateTime = f"{clip.acquired:%Y%m%d%H%M%S}"
    family = person.name.split("^")[0]
    dataset.StudyDescription = f"TTE {person.indication}, pt. {family}"
    dataset.SeriesDescription = "Adult echo"


def _instance(clip: Scan) -> tuple[object, ...]:
    """Returns the values that distinguish instances of a patient; stills have a namespace of their own."""
    kind = "instance" if isinstance(clip, EchoClip) else "still"
    return kind, clip.number, clip.seed


def _cine(dataset: Dataset, clip: EchoClip) -> None:
    frames = len(clip.rgb)
    dataset.NumberOfFrames = frames
    dataset.FrameIncrementPointer = (0x0018, 0x1063)
    dataset.FrameTime = f"{clip.frame_time_ms:.3f}"
    dataset.CineRate = round(1000 / clip.frame_time_ms)
    dataset.RecommendedDisplayFrameRate = round(1000 / clip.frame_time_ms)
    dataset.EffectiveDuration = f"{frames * clip.frame_time_ms / 1000:.4f}"
    dataset.StartTrim, dataset.StopTrim = 1, frames


def _view(dataset: Dataset, clip: Scan) -> None:
    view = by_name(clip.view)
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = view.code, view.scheme, view.meaning
    dataset.ViewCodeSequence = Sequence([item])


def _regions(clip: EchoClip) -> list[Dataset]:
    """Returns the tissue region (PS3.3 C.8.5.5), and on machines that state it the ECG's."""
    tissue = _region(1, 1, clip.sector.box)
    tissue.RegionFlags = 2
    tissue.PhysicalUnitsXDirection = tissue.PhysicalUnitsYDirection = 3
    tissue.PhysicalDeltaX = tissue.PhysicalDeltaY = clip.spacing_mm / 10
    tissue.ReferencePixelX0 = round(clip.sector.apex_rc[1]) - clip.sector.box[0]
    tissue.ReferencePixelY0 = round(clip.sector.apex_rc[0]) - clip.sector.box[1]
    tissue.ReferencePixelPhysicalValueX = tissue.ReferencePixelPhysicalValueY = 0.0
    tissue.TransducerFrequency = round(1000 * clip.optics.frequency_mhz)
    if not clip.style.trace_region:
        return [tissue]
    trace = _region(4, 10, clip.trace_box)
    trace.RegionFlags = 0
    trace.PhysicalUnitsXDirection, trace.PhysicalUnitsYDirection = 4, 0
    trace.PhysicalDeltaX = SWEEP_S / (clip.trace_box[2] - clip.trace_box[0])
    trace.PhysicalDeltaY = 1.0
    return [tissue, trace]


def _strip_region(still: StripStill) -> Dataset:
    """Returns the region of the spectrum or M-mode (PS3.3 C.8.5.5): seconds across, cm/s or cm down."""
    strip = still.strip
    formats = {"m-mode": (2, 1), "pw-doppler": (3, 3), "cw-doppler": (3, 4)}
    item = _region(*formats[strip.kind], still.box)
    item.RegionFlags = 2
    item.PhysicalUnitsXDirection, item.PhysicalUnitsYDirection = 4, 3 if strip.kind == "m-mode" else 7
    item.PhysicalDeltaX = strip.seconds / (still.box[2] - still.box[0] + 1)
    # Speed decreases down the screen, depth increases.
    item.PhysicalDeltaY = strip.per_row / 10 if strip.kind == "m-mode" else -strip.per_row
    item.ReferencePixelX0, item.ReferencePixelY0 = 0, strip.baseline_row
    item.ReferencePixelPhysicalValueX = item.ReferencePixelPhysicalValueY = 0.0
    item.TransducerFrequency = round(1000 * still.optics.frequency_mhz)
    return item


def _region(spatial_format: int, data_type: int, box: tuple[int, int, int, int]) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = spatial_format, data_type
    item.RegionLocationMinX0, item.RegionLocationMinY0, item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box
    return item


def _private(dataset: Dataset, clip: Scan, patient: Patient) -> None:
    """Adds private tags that name the patient, as careless manufacturers write them."""
    block = dataset.private_block(0x0019, CREATOR, create=True)
    block.add_new(0x10, "LO", patient.identity.screen_name)
    block.add_new(0x11, "LT", f"Exam of {patient.identity.patient_id}, tel. {patient.identity.phone}")
    block.add_new(0x12, "DS", f"{clip.optics.gain_db:.2f}")


def _pixels(dataset: Dataset, clip: Scan) -> None:
    rows, columns = clip.rgb.shape[1:3]
    encoded = [
        simplejpeg.encode_jpeg(frame, quality=clip.style.jpeg_quality, colorspace="RGB", colorsubsampling="422")
        for frame in clip.rgb
    ]
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.BurnedInAnnotation = "YES"
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    dataset.LossyImageCompressionRatio = f"{clip.rgb.size / sum(map(len, encoded)):.2f}"
    dataset.PixelData = encapsulate(encoded, has_bot=True)
    # encapsulate() returns the bytes only; the element must state that its length is undefined (PS3.5 A.4).
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
