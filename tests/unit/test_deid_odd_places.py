"""Identifiers in places and forms that nobody expects: none of them is in the written bytes."""

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.unit.test_deid_builder import echo, region, run, written_bytes

FORMS = (
    "zwetschgen", "ZWETSCHGEN", "rosalinde", "Zwetschgen, Rosalinde", "rosalinde zwetschgen", "zwetschgenrosalinde",
    "4711077", "MRN 4711077", "MRN-4711077", "29 Feb 1948", "29.02.1948", "02/29/1948", "1948-02-29", "17 Mar 2024",
    "88231", "ACC-88231", "Dr. Quacksalber", "hinterwald",
)  # fmt: skip
PLACES = (
    "ImageComments", "StudyDescription", "SeriesDescription", "ProtocolName", "TransducerData", "StageName", "ViewName",
    "ManufacturerModelName", "SoftwareVersions", "ContentLabel", "ContentDescription", "TransducerType", "ImageType",
    "PerformedProcedureStepDescription", "ConvolutionKernel", "ScanOptions", "SequenceName", "AcquisitionContrast",
    "StudyID", "DerivationDescription", "PositionReferenceIndicator", "ProcessingFunction", "DeviceSerialNumber",
)  # fmt: skip


def leaks(raw: bytes, form: str) -> list[str]:
    """The words of a form that would name someone, as they stand in the bytes."""
    parts = [form, *(part for part in form.replace(",", " ").replace("-", " ").split() if len(part) > 4)]
    lower = raw.lower()
    return [part for part in parts for e in ("utf-8", "utf-16-le") if part.lower().encode(e) in lower]


def planted(form: str) -> Dataset:
    """The form in every place at the top, in a kept sequence, in private and unknown elements."""
    dataset = echo(**{place: form.upper()[:16] if place in ("ImageType", "ScanOptions") else form for place in PLACES})
    deep = Dataset()
    deep.CodeValue, deep.CodingSchemeDesignator, deep.CodeMeaning = form[:16], "SCT", form
    inner = dataset.SequenceOfUltrasoundRegions[0]
    inner.add_new(0x00091001, "UN", form.encode())
    inner.TransducerData = form
    dataset.ViewCodeSequence.append(deep)
    block = dataset.private_block(0x0011, form[:16], create=True)
    nested = Dataset()
    nested.ImageComments, nested.PatientID = form, form
    block.add_new(0x01, "SQ", Sequence([nested]))
    block.add_new(0x02, "UN", form.encode("utf-16-le"))
    return dataset


@pytest.mark.parametrize("form", FORMS)
def test_case_09_an_identifier_in_any_form_and_place_is_gone(tmp_path: Path, form: str) -> None:
    outcome = run(planted(form), tmp_path)
    assert outcome.status == "written", outcome.reason
    assert leaks(written_bytes(outcome, tmp_path), form) == []


@pytest.mark.parametrize("form", ["0004711077", "4711077", "004711077"])
def test_case_09_an_id_without_its_leading_zeros_is_gone(tmp_path: Path, form: str) -> None:
    dataset = planted(form)
    dataset.PatientID = "0004711077"
    outcome = run(dataset, tmp_path)
    assert outcome.status == "written", outcome.reason
    assert leaks(written_bytes(outcome, tmp_path), "4711077") == []


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192"])
def test_case_21_a_latin_name_is_gone_with_its_plain_spelling_in_free_text(tmp_path: Path, charset: str) -> None:
    dataset = echo(SpecificCharacterSet=charset, StudyDescription="TTE Müller Jördis", SeriesDescription="Muller TTE")
    dataset.PatientName = "Müller^Jördis"
    outcome = run(dataset, tmp_path)
    raw = written_bytes(outcome, tmp_path).lower()
    for name in ("müller", "jördis", "rdis", "muller"):
        assert name.encode("utf-8") not in raw
        assert name.encode("latin-1") not in raw


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("ReferencePixelX0", "LT", "Schoolmate Old!!"),
        ("PhysicalDeltaX", "OB", b"Schoolmate Old!!"),  # FD, one number of 8 bytes
        ("PhysicalDeltaX", "UT", "Schoolmate Old!!"),
        ("RegionFlags", "LT", "Schoolmate Old!!"),
    ],
)
def test_words_in_place_of_numbers_are_gone(tmp_path: Path, keyword: str, vr: str, value: object) -> None:
    dataset = echo()
    item = dataset.SequenceOfUltrasoundRegions[0]
    item.pop(keyword, None)
    item.add_new(keyword, vr, value)
    dataset.SequenceOfUltrasoundRegions.append(region())
    outcome = run(dataset, tmp_path)
    if outcome.output is not None:
        assert b"Schoolmate" not in written_bytes(outcome, tmp_path)


def test_a_term_is_plain_ascii(tmp_path: Path) -> None:
    dataset = echo(SpecificCharacterSet="ISO_IR 192", ImageType=["ORIGINAL", "\u00c9"])
    outcome = run(dataset, tmp_path)
    assert outcome.status == "written", outcome.reason
    assert pydicom.dcmread(tmp_path / "out" / str(outcome.output)).ImageType == ["ORIGINAL", ""]


def test_a_patient_named_like_a_sentence_of_ours_is_written(tmp_path: Path) -> None:
    assert run(echo(PatientName="Patient^Basic"), tmp_path).status == "written"
