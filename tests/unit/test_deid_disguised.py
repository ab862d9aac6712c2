"""What tells of a patient in disguise: constants that give the shift away, letters made of ASCII, days cut up."""

import re
from pathlib import Path

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from tests.unit.test_deid_builder import KEY, echo, run, to_bytes, written


def with_raw(dataset: Dataset, tag: int, vr: str, value: bytes) -> Dataset:
    """A file's own bytes, which pydicom would encode in its own way."""
    value += b" " * (len(value) % 2)
    dataset[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
    return dataset


def test_no_public_constant_is_shifted_from_which_the_shift_could_be_read(tmp_path: Path) -> None:
    dataset = echo(ContentDate="19000101", AcquisitionDateTime="20000101000000", SeriesDate="19480229")
    dataset.AcquisitionDate = "20991231"
    view = dataset.ViewCodeSequence[0]
    view.MappingResource, view.ContextIdentifier, view.ContextGroupVersion = "DCMR", "12226", "20020904"
    result = written(run(dataset, tmp_path), tmp_path)
    assert (result.ContentDate, result.AcquisitionDateTime, result.SeriesDate) == ("", "", "")
    assert result.AcquisitionDate == ""
    assert "ContextGroupVersion" not in result.ViewCodeSequence[0]
    assert result.ViewCodeSequence[0].CodeValue == "399214001"
    assert result.StudyDate


@pytest.mark.parametrize("code", ["17.03.2024", "20240317", "170324", "17.MAR.2024", "17MAR24", "17.III.24"])
def test_a_code_that_is_the_day_of_the_examination_is_emptied(tmp_path: Path, code: str) -> None:
    dataset = echo()
    unit = Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = code, "UCUM", "mm"
    dataset.AnatomicRegionSequence = [unit]
    result = written(run(dataset, tmp_path), tmp_path)
    assert not result.get("AnatomicRegionSequence")


@pytest.mark.parametrize("text", ["高橋", "心エコー　高橋", "山田 echo"])
@pytest.mark.parametrize("keyword", ["StudyDescription", "ImageType"])
def test_letters_made_of_ascii_pairs_are_no_short_numbers(tmp_path: Path, text: str, keyword: str) -> None:
    dataset = echo(SpecificCharacterSet=["", "ISO 2022 IR 87"])
    vr = "CS" if keyword == "ImageType" else "LO"
    outcome = run(with_raw(dataset, Tag(keyword), vr, text.encode("iso2022_jp")), tmp_path)
    assert (written(outcome, tmp_path).get(keyword) or "") == ""


def test_of_text_in_another_alphabet_words_of_the_list_alone_stay(tmp_path: Path) -> None:
    dataset = echo(SpecificCharacterSet="GB18030")
    outcome = run(with_raw(dataset, 0x00081030, "LO", "apical 誠1 25".encode("gb18030")), tmp_path)
    assert written(outcome, tmp_path).StudyDescription == "apical"


def test_one_id_is_one_patient_whatever_it_is_encoded_in(tmp_path: Path) -> None:
    found = {
        run(echo(SpecificCharacterSet=charset, PatientID=text), tmp_path, name=f"{k}.dcm").pseudonym
        for k, (charset, text) in enumerate(
            [("ISO_IR 192", "MÜ-4711"), ("ISO_IR 100", "MÜ-4711"), ("ISO_IR 192", "MU\u0308-4711")]
        )
    }
    assert found == {KEY.pseudonym("MÜ-4711")}


@pytest.mark.parametrize("charset", ["ISO_IR 192", "GB18030"])
def test_ids_in_another_character_set_than_the_file_names_stay_apart(tmp_path: Path, charset: str) -> None:
    for text in ("MÜ-4711", "MÄ-4711"):
        raw = to_bytes(echo(SpecificCharacterSet=charset, PatientID="A" * 7)).replace(b"A" * 7, text.encode("latin-1"))
        assert run(raw, tmp_path / text).pseudonym == KEY.pseudonym(text)


def test_an_id_stored_as_bytes_is_the_same_patient(tmp_path: Path) -> None:
    dataset = with_raw(echo(), 0x00100020, "OB", b"MRN4711077")
    assert run(dataset, tmp_path).pseudonym == KEY.pseudonym("MRN4711077")


def test_an_id_in_parts_is_held_for_a_part_can_be_shared_by_many(tmp_path: Path) -> None:
    assert run(echo(PatientID=["KLINIK", "4711077"]), tmp_path).reason == "malformed"


def test_a_letter_of_an_id_may_hold_the_byte_that_parts_values(tmp_path: Path) -> None:
    letters = "誠一".encode("gb18030")
    raw = to_bytes(echo(SpecificCharacterSet="GB18030", PatientID="A" * 4)).replace(b"A" * 4, letters)
    assert b"\\" in letters
    assert run(raw, tmp_path).pseudonym == KEY.pseudonym("誠一")


@pytest.mark.parametrize(
    "text",
    [
        "TTE 29.II.48",
        "DOB 29 FEB 48",
        "TTE 17 MAR 24",
        "TTE 17. März 24",
        "TTE 29.2.48",
        "TTE 4 711 077",
        "TTE 29 quux 2 quux 48",
    ],
)
def test_numbers_that_together_could_be_a_day_or_an_id_go_together(tmp_path: Path, text: str) -> None:
    result = written(run(echo(StudyDescription=text, PatientID="4711077"), tmp_path), tmp_path)
    assert not re.search(r"\d", result.StudyDescription or "")


@pytest.mark.parametrize("value", ["4711.077", "0.4711077", "47110.77", "4.711077E3", "4711.0770"])
def test_an_id_with_a_point_in_it_is_no_number(tmp_path: Path, value: str) -> None:
    result = written(run(echo(FrameTime=value, PatientID="4711077"), tmp_path), tmp_path)
    assert result.FrameTime is None


def test_an_id_cut_into_several_numbers_is_emptied(tmp_path: Path) -> None:
    result = written(run(echo(FrameTimeVector=["471", "1077"], PatientID="4711077"), tmp_path), tmp_path)
    assert not any(result.FrameTimeVector or ())


def test_a_number_that_shares_a_few_digits_with_the_patient_stays(tmp_path: Path) -> None:
    dataset = echo(FrameTime="13000", FrameTimeVector=["0", "40.13"], PatientID="4013", PatientBirthDate="19480301")
    result = written(run(dataset, tmp_path), tmp_path)
    assert (result.FrameTime, result.FrameTimeVector) == (13000, [0, 40.13])


@pytest.mark.parametrize(("number", "stays"), [(7176557, False), (100_001, False), (2_500_000, True), (99_999, True)])
def test_a_number_of_more_than_five_digits_goes_whatever_its_vr(tmp_path: Path, number: int, stays: bool) -> None:
    dataset = echo(FrameTime=str(number))
    region = dataset.SequenceOfUltrasoundRegions[0]
    region.TransducerFrequency, region.SteeringAngle = number, number + 0.5
    result = written(run(dataset, tmp_path), tmp_path)
    region = result.SequenceOfUltrasoundRegions[0]
    assert (result.FrameTime == number) == ("TransducerFrequency" in region) == ("SteeringAngle" in region) == stays


def test_the_first_letters_of_a_name_are_no_term(tmp_path: Path) -> None:
    result = written(run(echo(ImageType=["ORIGINAL", "Z W E T", "L P"]), tmp_path), tmp_path)
    assert result.ImageType == ["ORIGINAL", "", "L P"]


@pytest.mark.parametrize("vr", ["UN", "LO"])
def test_a_name_is_a_name_whatever_the_file_calls_it(tmp_path: Path, vr: str) -> None:
    dataset = with_raw(echo(StudyDescription="LONG apical"), 0x00100010, vr, b"Long^Elan ")
    assert written(run(dataset, tmp_path), tmp_path).StudyDescription == "apical"


def test_a_frame_time_of_more_characters_than_a_number_may_have_is_rounded(tmp_path: Path) -> None:
    dataset = with_raw(echo(), 0x00181063, "DS", b"16.666666666666668")
    value = written(run(dataset, tmp_path), tmp_path)["FrameTime"].value
    assert len(str(value)) <= 16
    assert float(value) == pytest.approx(50 / 3, rel=1e-12)
