"""Identifiers in places and forms that nobody expects: none of them is in the written bytes."""

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.unit.test_deid_builder import clip, echo, region, run, set_native, written, written_bytes

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


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("TTE 29.02.48", "TTE"),
        ("TTE 29 2 1948", "TTE"),
        ("TTE 02/48", "TTE"),
        ("TTE 555 0123", "TTE"),
        ("TTE 471 10 77", "TTE"),
        ("TTE 47-110", "TTE"),
        ("TTE LEE1", "TTE"),
        ("TTE 25 fps, 3 of 4", "TTE 25 fps of"),
        ("ISO 10918 1", "ISO"),
    ],
)
def test_case_07_short_numbers_stay_but_not_a_day_or_an_id_cut_in_pieces(tmp_path: Path, text: str, left: str) -> None:
    dataset = echo(StudyDescription=text, PatientName="Lee^Rosalinde", PatientID="0047110")
    assert written(run(dataset, tmp_path), tmp_path).StudyDescription == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("51.80.108.010", "51.80.108.010"),
        ("1.2.3.45", "1.2.3.45"),
        ("29.02.48", ""),
        ("555.123.4567", ""),
        ("471.10.77", ""),
    ],
)
def test_case_09_a_version_stays_but_no_number_of_the_patient(tmp_path: Path, text: str, left: str) -> None:
    dataset = echo(SoftwareVersions=text)
    assert written(run(dataset, tmp_path), tmp_path).SoftwareVersions == left


@pytest.mark.parametrize("form", ["4711077", "+4711077", "4711077.0", "4.711077E6", "29021948"])
def test_case_09_a_number_that_is_her_id_or_birthday_is_gone(tmp_path: Path, form: str) -> None:
    dataset = echo(PatientID="MRN 00471-1077", SeriesNumber="3", FrameTime="40")
    dataset.add_new("PatientWeight", "DS", form)
    if form.isdigit():
        dataset.add_new("SeriesNumber", "IS", form)
        dataset.SequenceOfUltrasoundRegions[0].TransducerFrequency = int(form)
    result = written(run(dataset, tmp_path), tmp_path)
    assert (result.PatientWeight, result.FrameTime) == (None, 40)
    assert (result.SeriesNumber, "TransducerFrequency" in result.SequenceOfUltrasoundRegions[0]) == (
        (None, False) if form.isdigit() else (3, False)
    )


@pytest.mark.parametrize("vr", ["TM", "DT"])
def test_case_22_a_fraction_of_a_second_that_is_her_id_is_gone(tmp_path: Path, vr: str) -> None:
    dataset = echo(PatientID="00711077", StudyTime="101530.711077", AcquisitionDateTime="20240317101600.711077+0100")
    result = written(run(dataset, tmp_path), tmp_path)
    assert result.StudyTime == "101530"
    assert result.AcquisitionDateTime[8:] == "101600+0100"


@pytest.mark.parametrize(
    ("value", "scheme", "stays"),
    [
        ("399214001", "SCT", True),
        ("ROSALINDE", "SCT", False),
        ("SMITHERS", "SCT", False),
        ("4711077", "SCT", False),
        ("4711-077", "LN", False),
        ("D-LEE01", "SRT", False),
        ("T-32000", "SRT", True),
        ("2:1", "MDC", True),
    ],
)
def test_case_09_a_code_has_the_form_of_its_scheme_and_is_not_hers(
    tmp_path: Path, value: str, scheme: str, stays: bool
) -> None:
    dataset = echo(PatientName="Lee^Rosalinde", PatientID="0004711077")
    item = dataset.ViewCodeSequence[0]
    item.CodeValue, item.CodingSchemeDesignator = value, scheme
    assert bool(written(run(dataset, tmp_path), tmp_path).ViewCodeSequence) == stays


def test_case_09_a_term_spelled_letter_by_letter_is_gone(tmp_path: Path) -> None:
    dataset = echo(PatientName="Lee^Rosalinde", ImageType=["ORIGINAL", "PRIMARY", "L E E", "A"])
    assert written(run(dataset, tmp_path), tmp_path).ImageType == ["ORIGINAL", "PRIMARY", "", "A"]


@pytest.mark.parametrize("letters", [b"Rosalind", "Rosa".encode("utf-16-le")])
def test_case_09_letters_in_place_of_numbers_are_gone_and_the_file_is_written(tmp_path: Path, letters: bytes) -> None:
    dataset = echo(PatientName="Zwetschgen^Rosa^Rosalind")
    number = struct.unpack("<d", letters)[0]
    dataset.SequenceOfUltrasoundRegions[0].ReferencePixelPhysicalValueX = number
    dataset.FrameIncrementPointer = 0x45584143
    result = written(run(dataset, tmp_path), tmp_path)
    assert "ReferencePixelPhysicalValueX" not in result.SequenceOfUltrasoundRegions[0]
    assert "FrameIncrementPointer" not in result


@pytest.mark.parametrize("name", ["Rosalind", "Unknown"])
def test_case_38_a_palette_that_spells_her_name_is_held(tmp_path: Path, name: str) -> None:
    dataset = echo(PatientName=f"Zwetschgen^{name}")
    set_native(dataset, clip()[..., 0], "PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        table = bytearray(np.arange(256, dtype="<u2").tobytes())
        table[480:496] = "Rosalind".encode("utf-16-le")
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", bytes(table))
    assert run(dataset, tmp_path).reason == ("verify-header" if name == "Rosalind" else None)


def test_bits_that_no_pixel_uses_are_cleared(tmp_path: Path) -> None:
    dataset = echo()
    set_native(dataset, clip()[..., 0].astype(np.uint16) | 0x8000, "MONOCHROME2")
    dataset.BitsStored, dataset.HighBit = 8, 7
    result = written(run(dataset, tmp_path), tmp_path)
    assert np.frombuffer(result.PixelData, np.uint16).max() < 256
