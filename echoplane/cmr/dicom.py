"""A measured cine as DICOM: masks as a segmentation (PS3.3 A.51), figures as a structured report (PS3.16 TID 1500).

Both belong to the study of the cine that they were made from and carry its patient, as PS3.3 asks.
Axes: Z slice, H row, W column."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from echoplane import __version__
from echoplane.cmr.files import DICOM_OBJECTS, RESEARCH_USE
from echoplane.errors import InputError, UnusableStudy
from echoplane.study.cine import Cine
from echoplane.study.dicom import parse
from echoplane.study.limits import Limits
from echoplane.study.mr_slices import MR_IMAGE, is_mr
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import Segmentation
from echoplane.tasks.cmr_segmentation.structures import LEFT_ATRIUM, LV_CAVITY, RV_CAVITY, SHOWN, STRUCTURES

MAKER, MODEL, SERIAL = "echoplane", "cmr-segmentation", "none"
MILLILITRE, GRAM, PERCENT = Code("ml", "UCUM", "ml"), Code("g", "UCUM", "g"), Code("%", "UCUM", "%")
LITRE_PER_MINUTE = Code("l/min", "UCUM", "l/min")
MEASURES = {
    LV_CAVITY: {
        "lvedv_ml": (Code("8821-1", "LN", "Left Ventricular ED Volume"), MILLILITRE),
        "lvesv_ml": (Code("8823-7", "LN", "Left Ventricular ES Volume"), MILLILITRE),
        "lvsv_ml": (Code("90096001", "SCT", "Stroke Volume"), MILLILITRE),
        "lvef_percent": (Code("8811-2", "LN", "Left ventricular ejection fraction by MR"), PERCENT),
        "lvco_l_min": (Code("82799009", "SCT", "Cardiac Output"), LITRE_PER_MINUTE),
        "lvm_g": (Code("18087-7", "LN", "Left Ventricle Mass"), GRAM),
    },
    RV_CAVITY: {
        "rvedv_ml": (Code("8822-9", "LN", "Right Ventricular ED Volume"), MILLILITRE),
        "rvesv_ml": (Code("8824-5", "LN", "Right Ventricular ES Volume"), MILLILITRE),
        "rvsv_ml": (Code("429483009", "SCT", "RV Stroke Volume"), MILLILITRE),
        "rvef_percent": (Code("8818-7", "LN", "Right ventricular ejection fraction by MR"), PERCENT),
    },
    LEFT_ATRIUM: {
        "lav_max_ml": (Code("122408", "DCM", "Left Atrial ES Volume"), MILLILITRE),
        "lav_min_ml": (Code("122407", "DCM", "Left Atrial ED Volume"), MILLILITRE),
    },
}
"""Concept and unit of each chamber's measures (CID 3468, 3469, 3833, 12200). An atrium is largest at end systole."""
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
TYPE_2 = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
"""What must be there, if empty, and what de-identified files often lack."""
TYPE_1 = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PixelSpacing", "SliceThickness")
"""What a segmentation takes from its source and can't be without."""


def dicom_objects(found: Segmentation, study: Study, source: Path) -> dict[str, Dataset]:
    """Segmentations at end diastole and end systole and the report of the short axis, by their file's name.

    UnusableStudy where the cine did not come from DICOM files of one slice each, or these lack what is needed.
    """
    cine = study.cines[0]
    images = _images(source, cine)
    objects = (
        as_segmentation(found, cine, found.ed, images),
        as_segmentation(found, cine, found.es, images),
        as_report(found, list(images.values())),
    )
    return dict(zip(DICOM_OBJECTS, objects, strict=True))


def _images(source: Path, cine: Cine) -> dict[str, Dataset]:
    """The files that the stack was read from, by SOP instance UID."""
    wanted = {uid for uid, _ in cine.sources.values()}
    paths: Iterable[Path] = sorted(source.rglob("*")) if source.is_dir() else [source]
    found = {}
    for path in paths:
        try:
            dataset = parse(path.read_bytes(), Limits()) if path.is_file() else Dataset()
        except InputError:
            continue
        if is_mr(dataset) and str(dataset.SOPInstanceUID) in wanted:
            found[str(dataset.SOPInstanceUID)] = dataset
    one_each = all(frame == 1 for _, frame in cine.sources.values())
    if not wanted or not one_each or any(dataset.SOPClassUID != MR_IMAGE for dataset in found.values()):
        raise UnusableStudy("DICOM objects are written for a series of single MR slices alone; this cine is none.")
    if set(found) != wanted:
        raise UnusableStudy(
            "the DICOM files of the cine are not all there to be read again; give CINE as a folder, not as a zip."
        )
    for keyword in TYPE_1:
        if lacking := sum(dataset.get(keyword) in (None, "") for dataset in found.values()):
            raise UnusableStudy(
                f"{lacking} MR file(s) have no {keyword}, which a DICOM segmentation needs; measure without --dicom."
            )
    for dataset in found.values():
        for keyword in TYPE_2:
            if keyword not in dataset:
                setattr(dataset, keyword, "")
    return found


def as_segmentation(found: Segmentation, cine: Cine, phase: int, images: Mapping[str, Dataset]) -> hd.seg.Segmentation:
    """Every slice of one phase (an object holds a place once), one binary segment a structure.

    UnusableStudy where they are not of one series.
    """
    slices = [(z, uid) for (t, z), (uid, _) in sorted(cine.sources.items()) if t == phase]
    sources = {
        (images[uid].StudyInstanceUID, images[uid].SeriesInstanceUID, images[uid].FrameOfReferenceUID)
        for _, uid in slices
    }
    if len(sources) > 1:
        raise UnusableStudy(
            f"the slices of one phase are of {len(sources)} series or frames of reference; a DICOM segmentation is of "
            "one. Measure without --dicom."
        )
    return hd.seg.Segmentation(
        source_images=[images[uid] for _, uid in slices],
        pixel_array=np.stack([found.masks[cine.plane][phase, z] for z, _ in slices]),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(value) for value in SHOWN[cine.plane][1:]],
        series_instance_uid=generate_uid(),
        series_number=900,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        device_serial_number=SERIAL,
        content_description="Ventricles; research use only",
    )


def _segment(value: int) -> hd.seg.SegmentDescription:
    structure = STRUCTURES[value]
    return hd.seg.SegmentDescription(
        segment_number=value,
        segment_label=structure.title,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=Code(structure.code, "SCT", structure.meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=MODEL, version=__version__, family=codes.DCM.ArtificialIntelligence
        ),
    )


def as_report(found: Segmentation, images: list[Dataset]) -> hd.sr.Comprehensive3DSR:
    """The figures that are known, a measurement group (TID 1501) a chamber, and what to read with them as comments."""
    algorithm = hd.sr.AlgorithmIdentification(name=MODEL, version=__version__)
    groups = [
        hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(uid=generate_uid(), identifier=STRUCTURES[chamber].title),
            finding_type=Code(STRUCTURES[chamber].code, "SCT", STRUCTURES[chamber].meaning),
            algorithm_id=algorithm,
            measurements=measurements,
        )
        for chamber, concepts in MEASURES.items()
        if (measurements := _measurements(found, concepts, algorithm)) or chamber == LV_CAVITY  # a report needs a group
    ]
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(uid=generate_uid(), name=MAKER),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=Code("241620005", "SCT", "Magnetic resonance imaging of heart"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    content[0].ContentSequence.append(_comments(found))
    return hd.sr.Comprehensive3DSR(
        evidence=images,
        content=content,
        series_instance_uid=generate_uid(),
        series_number=901,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MAKER,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )


def _measurements(
    found: Segmentation, concepts: Mapping[str, tuple[Code, Code]], algorithm: hd.sr.AlgorithmIdentification
) -> list[hd.sr.Measurement]:
    return [
        hd.sr.Measurement(name=_concept(name), value=round(value, 2), unit=unit, algorithm_id=algorithm)
        for measure, (name, unit) in concepts.items()
        if (value := found.measures.get(measure)) is not None
    ]


def _comments(found: Segmentation) -> hd.sr.ContainerContentItem:
    """Flags, warnings and what the figures are not for: texts beside the measurements, where TID 1500 has qualitative
    evaluations of the whole; highdicom has no argument for them."""
    container = hd.sr.ContainerContentItem(
        name=_concept(QUALITATIVE_EVALUATIONS), relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )
    said = [RESEARCH_USE, *(f"Flag: {flag.sentence}" for flag in found.flags)]
    said += [f"Warning: {warning}." for warning in found.warnings]
    container.ContentSequence = hd.sr.ContentSequence(
        [hd.sr.TextContentItem(codes.DCM.Comment, text, hd.sr.RelationshipTypeValues.CONTAINS) for text in said]
    )
    return container


def _concept(code: Code) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(code.value, code.scheme_designator, code.meaning)
