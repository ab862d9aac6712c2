"""Results as DICOM: masks as a segmentation (PS3.3 A.51), measures as a structured report (PS3.16 TID 1500).

Both belong to the study of the cine that they were made from and carry its patient, as PS3.3 requires.
Axes: Z slice, H row, W column."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import highdicom as hd
import numpy as np
from highdicom.color import CIELabColor
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from echoplane import __version__, structured_report
from echoplane.errors import InputError, UnusableStudy
from echoplane.study.cine import Cine
from echoplane.study.dicom import parse
from echoplane.study.limits import Limits
from echoplane.study.mr_slices import MR_IMAGE, is_mr
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import Segmentation
from echoplane.tasks.cmr_segmentation.outputs.files import DICOM_OBJECTS
from echoplane.tasks.cmr_segmentation.structures import (
    COLOURS,
    LEFT_ATRIUM,
    LV_CAVITY,
    MYOCARDIUM,
    RV_CAVITY,
    SHOWN,
    STRUCTURES,
)

MODEL, SERIAL = "cmr-segmentation", "none"
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
REPORT_SERIES_NUMBER = 902
PROCEDURE = Code("241620005", "SCT", "Magnetic resonance imaging of heart")
TYPE_1 = ("FrameOfReferenceUID", "PixelSpacing", "SliceThickness")
"""Attributes that a segmentation takes from its source images and that must have a value."""


@dataclass(frozen=True)
class End:
    """End diastole or end systole: attributes by which a viewer distinguishes the two segmentations."""

    name: str
    title: str
    series_number: int
    brightness: float
    """Factor of the brightness of the segments' colours."""


ED, ES = End("ED", "end diastole", 900, 1.0), End("ES", "end systole", 901, 0.6)


def dicom_objects(
    found: Segmentation, study: Study, contents: Iterable[bytes]
) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    """Returns segmentations at end diastole and end systole and the report that refers to them, by file name.

    `contents` are those of the files that the study was read from.

    Objects that cannot be made from the files of the cine are left out, each with a warning that states the reason.
    """
    cine = study.cines[0]
    objects: dict[str, Dataset] = {}
    try:
        images = _images(contents, cine)
    except UnusableStudy as error:
        return {}, (f"no DICOM objects were written: {error}",)
    warnings = []
    for end, name in zip((ED, ES), DICOM_OBJECTS[:2], strict=True):
        try:
            objects[name] = as_segmentation(found, cine, end, images)
        except UnusableStudy as error:
            warnings.append(f"no DICOM segmentation at {end.title} was written: {error}")
    segmentations = {ED.name: objects.get(DICOM_OBJECTS[0]), ES.name: objects.get(DICOM_OBJECTS[1])}
    objects[DICOM_OBJECTS[2]] = as_report(found, list(images.values()), segmentations)
    return objects, tuple(warnings)


def _images(contents: Iterable[bytes], cine: Cine) -> dict[str, Dataset]:
    """Returns the data sets that the stack was read from, by SOP instance UID.

    Raises UnusableStudy if they are not single MR slices, cannot all be read again, or lack their study or series UID.
    """
    wanted = {uid for uid, _ in cine.sources.values()}
    found: dict[str, Dataset] = {}
    for content in contents:
        try:
            dataset: Dataset = parse(content, Limits())
        except InputError:
            continue
        if is_mr(dataset) and str(dataset.SOPInstanceUID) in wanted:
            found[str(dataset.SOPInstanceUID)] = dataset
    one_each = all(frame == 1 for _, frame in cine.sources.values())
    if not wanted or not one_each or any(dataset.SOPClassUID != MR_IMAGE for dataset in found.values()):
        raise UnusableStudy("they are written for single MR slices alone, and this cine is none.")
    if set(found) != wanted:
        raise UnusableStudy("the DICOM files of the cine are not all there to be read again.")
    _check_attributes(found.values(), ("StudyInstanceUID", "SeriesInstanceUID"))
    for dataset in found.values():
        structured_report.make_evidence(dataset)
    return found


def _check_attributes(images: Iterable[Dataset], keywords: Iterable[str]) -> None:
    for keyword in keywords:
        if lacking := sum(dataset.get(keyword) in (None, "") for dataset in images):
            raise UnusableStudy(f"{lacking} MR file(s) have no {keyword}, which the object needs.")


def as_segmentation(found: Segmentation, cine: Cine, end: End, images: Mapping[str, Dataset]) -> hd.seg.Segmentation:
    """Returns a segmentation of every slice of one phase, with one binary segment per structure.

    It covers one phase because an object may hold each slice position only once. Raises UnusableStudy if the slices
    lack attributes that it needs or have several frames of reference.
    """
    phase = found.ed if end is ED else found.es
    slices = [(z, uid) for (t, z), (uid, _) in sorted(cine.sources.items()) if t == phase]
    sources = [images[uid] for _, uid in slices]
    _check_attributes(sources, TYPE_1)
    if (frames := len({(image.StudyInstanceUID, image.FrameOfReferenceUID) for image in sources})) > 1:
        raise UnusableStudy(f"the slices are of {frames} frames of reference; a segmentation is of one.")
    segmentation = hd.seg.Segmentation(
        source_images=[_in_one_series(image, sources[0]) for image in sources],
        pixel_array=np.stack([found.masks[cine.plane][phase, z] for z, _ in slices]),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(value, end) for value in SHOWN[cine.plane][1:]],
        series_instance_uid=generate_uid(),
        series_number=end.series_number,
        series_description=f"Ventricles at {end.title}, research use only",
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=structured_report.MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        device_serial_number=SERIAL,
        content_label=end.name,
        content_description=f"Ventricles at {end.title}; research use only",
    )
    segmentation.ReferencedSeriesSequence = _referenced_series(sources)
    return segmentation


def _in_one_series(image: Dataset, first: Dataset) -> Dataset:
    """Returns the image with the series UID of `first`: highdicom requires one series. The true ones are set later."""
    if image.SeriesInstanceUID == first.SeriesInstanceUID:
        return image
    moved = copy.deepcopy(image)
    moved.SeriesInstanceUID = first.SeriesInstanceUID
    return moved


def _referenced_series(images: Iterable[Dataset]) -> list[Dataset]:
    """Returns the series of the Common Instance Reference module (PS3.3 C.12.2).

    There are several if each slice was scanned in its own breath hold, as its own series.
    """
    series: dict[str, Dataset] = {}
    for image in images:
        item = series.setdefault(str(image.SeriesInstanceUID), Dataset())
        if "SeriesInstanceUID" not in item:
            item.SeriesInstanceUID, item.ReferencedInstanceSequence = image.SeriesInstanceUID, []
        instance = Dataset()
        instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        item.ReferencedInstanceSequence.append(instance)
    return list(series.values())


def _segment(value: int, end: End) -> hd.seg.SegmentDescription:
    structure = STRUCTURES[value]
    red, green, blue = (round(end.brightness * part) for part in COLOURS[value])
    return hd.seg.SegmentDescription(
        segment_number=value,
        segment_label=f"{structure.title}, {end.name}",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=Code(structure.code, "SCT", structure.meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=MODEL, version=__version__, family=codes.DCM.ArtificialIntelligence
        ),
        display_color=CIELabColor.from_rgb(red, green, blue),
    )


def as_report(
    found: Segmentation, images: list[Dataset], segmentations: Mapping[str, Dataset | None] = MappingProxyType({})
) -> hd.sr.Comprehensive3DSR:
    """Returns the report: one measurement group (TID 1501) per chamber with the known measures, and comments.

    Each measure refers to the segments it was taken from; `segmentations` are by the name of their phase.
    """
    algorithm = hd.sr.AlgorithmIdentification(name=MODEL, version=__version__)
    groups = [
        hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(uid=generate_uid(), identifier=STRUCTURES[chamber].title),
            finding_type=Code(STRUCTURES[chamber].code, "SCT", STRUCTURES[chamber].meaning),
            algorithm_id=algorithm,
            measurements=measurements,
        )
        for chamber in MEASURES
        if (measurements := _measurements(found, chamber, algorithm, segmentations))
        or chamber == LV_CAVITY  # a report needs at least one group
    ]
    texts = [f"Flag: {flag.sentence}" for flag in found.flags]
    texts += [f"Warning: {warning}." for warning in found.warnings]
    return hd.sr.Comprehensive3DSR(
        evidence=[*images, *(segmentation for segmentation in segmentations.values() if segmentation)],
        content=structured_report.content(PROCEDURE, groups, texts),
        **structured_report.identification(REPORT_SERIES_NUMBER, "Cine MR measures"),
    )


def _measurements(
    found: Segmentation,
    chamber: int,
    algorithm: hd.sr.AlgorithmIdentification,
    segmentations: Mapping[str, Dataset | None],
) -> list[hd.sr.Measurement]:
    return [
        hd.sr.Measurement(
            name=structured_report.concept(name),
            value=round(value, 2),
            unit=unit,
            algorithm_id=algorithm,
            referenced_images=_segments_of(measure, chamber, segmentations) or None,
        )
        for measure, (name, unit) in MEASURES[chamber].items()
        if (value := found.measures.get(measure)) is not None
    ]


def _segments_of(
    measure: str, chamber: int, segmentations: Mapping[str, Dataset | None]
) -> list[hd.sr.SourceImageForMeasurement]:
    """Returns references to the segments that a measure was taken from, at one phase or at both."""
    value = MYOCARDIUM if measure == "lvm_g" else chamber
    if value not in SHOWN["short-axis"]:
        return []
    names = [ED.name, ES.name]
    if "edv" in measure or measure == "lvm_g":
        names = [ED.name]
    elif "esv" in measure:
        names = [ES.name]
    found = []
    for segmentation in (segmentations.get(name) for name in names):
        if segmentation is not None:
            reference = hd.sr.SourceImageForMeasurement(segmentation.SOPClassUID, segmentation.SOPInstanceUID)
            reference.ReferencedSOPSequence[0].ReferencedSegmentNumber = value
            found.append(reference)
    return found
