"""Structured reports as DICOM (PS3.16 TID 1500): what the reports of every task have in common."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

MANUFACTURER = "echoplane"
RESEARCH_USE = "Research use only. Not a medical device."
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
TYPE_2 = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
"""Attributes that must be present but may be empty, and that de-identified files often lack."""
_DATE = re.compile(r"(\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]))?")
FORMATS = {
    "PatientBirthDate": _DATE,
    "StudyDate": _DATE,
    "StudyTime": re.compile(r"(([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?)?"),
    "PatientSex": re.compile("[MFO]?"),
}
CHARACTER_SETS = frozenset(value.value for value in hd.SpecificCharacterSetValues)


def make_evidence(dataset: Dataset) -> None:
    """Makes the header of an image acceptable as the evidence of a report, which takes its patient and study from it.

    Attributes of TYPE_2 that it lacks become empty, and so do dates, times and a sex that the standard does not allow;
    dates and times of ACR-NEMA, with dots and colons, are converted. An unknown character set becomes UTF-8.
    """
    for keyword in TYPE_2:
        value = str(dataset.get(keyword) or "").strip()
        if keyword not in dataset:
            setattr(dataset, keyword, "")
        elif pattern := FORMATS.get(keyword):
            value = value.replace(":", "") if keyword == "StudyTime" else value.replace(".", "")
            setattr(dataset, keyword, value if pattern.fullmatch(value) else "")
    names = dataset.get("SpecificCharacterSet") or ()
    if not CHARACTER_SETS.issuperset([names] if isinstance(names, str) else names):
        dataset.decode()
        dataset.SpecificCharacterSet = "ISO_IR 192"


def content(
    procedure: Code, groups: Sequence[hd.sr.MeasurementsAndQualitativeEvaluations], comments: Iterable[str]
) -> hd.sr.MeasurementReport:
    """Returns the content of a report: measurement groups, and the research use note with further comments."""
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=generate_uid(), name=MANUFACTURER
        ),
    )
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=procedure,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    report[0].ContentSequence.append(_comments([RESEARCH_USE, *comments]))
    return report


def identification(number: int, description: str) -> dict[str, Any]:
    """Returns the attributes of a new report in a series of its own; no person has verified it."""
    return {
        "series_instance_uid": generate_uid(),
        "series_number": number,
        "series_description": f"{description}, research use only",
        "sop_instance_uid": generate_uid(),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "is_complete": True,
        "is_final": False,
        "is_verified": False,
    }


def concept(code: Code) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(code.value, code.scheme_designator, code.meaning)


def _comments(texts: Iterable[str]) -> hd.sr.ContainerContentItem:
    """Returns texts in the report's qualitative evaluations (TID 1500).

    highdicom has no argument for evaluations of the report as a whole.
    """
    container = hd.sr.ContainerContentItem(
        name=concept(QUALITATIVE_EVALUATIONS), relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )
    container.ContentSequence = hd.sr.ContentSequence(
        [hd.sr.TextContentItem(codes.DCM.Comment, text, hd.sr.RelationshipTypeValues.CONTAINS) for text in texts]
    )
    return container
