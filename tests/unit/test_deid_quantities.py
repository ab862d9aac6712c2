"""Numbers in header text are kept with a role and removed without one; also what stands for a person or a day."""

from datetime import date

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from echoplane.deid import instance
from echoplane.deid.header import rebuild
from echoplane.deid.policy import Policy
from tests.unit.test_deid_builder import KEY, echo


def rebuilt(policy: Policy | None = None, object_class: str = "ultrasound", **changes: object) -> Dataset:
    original = echo(**changes)
    context, _ = instance._context(original, object_class, KEY, policy or Policy())
    return rebuild(original, context)


def left(keyword: str, text: object, **changes: object) -> str:
    value = rebuilt(**{keyword: text}, **changes).get(keyword)
    return "\\".join(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else str(value or "")


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("SeriesDescription", "4CH CINE"),
        ("SeriesDescription", "cine SAX 12"),
        ("SeriesDescription", "TTE 25 fps"),
        ("SeriesDescription", "CINE 1.5T 8mm"),
        ("ProtocolName", "stage 2 of stress"),
        ("ProtocolName", "T1 mapping 5"),
        ("ManufacturerModelName", "LOGIQ 700"),
        ("ManufacturerModelName", "Vivid E95"),
        ("ManufacturerModelName", "OS-3 Cardio"),
        ("SoftwareVersions", "51.80.108.010"),
        ("SoftwareVersions", "V3.51*P25"),
        ("TransducerData", "C5-1"),
        ("ManufacturerModelName", "UGEO HM70A"),
        ("ManufacturerModelName", "F75"),
        ("ManufacturerModelName", "Vivid E95 BT20"),
        ("OutputPower", "-3 dB"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "TEE", "0011"]),
    ],
)
def test_a_number_with_a_role_stays(keyword: str, text: object) -> None:
    assert left(keyword, text) == (text if isinstance(text, str) else "\\".join(text))


@pytest.mark.parametrize(
    ("keyword", "text", "after"),
    [
        ("SeriesDescription", "TTE 042", "TTE"),
        ("SeriesDescription", "2a stress", "stress"),
        ("SeriesDescription", "TTE 9 4", "TTE"),
        ("SeriesDescription", "TTE 78", "TTE"),
        ("SeriesDescription", "TTE 1200 mm", "TTE mm"),
        ("SeriesDescription", "SAX 120", "SAX"),
        ("StageName", "042", ""),
        ("OutputPower", "0192", ""),
        ("ManufacturerModelName", "0213", ""),
        ("ManufacturerModelName", "EPIQ 0213", "EPIQ"),
        ("ManufacturerModelName", "Stn. A65", ""),
        ("ManufacturerModelName", "EPIQ 7C, Zimmer B12", "EPIQ 7C"),
        ("TransducerData", "Bett F3", ""),
        ("SoftwareVersions", "17.03.48", ""),
        ("SoftwareVersions", "214", ""),
        ("TransducerData", "55360", ""),
        ("ImageType", ["ORIGINAL", "PRIMARY", "0011", ""], r"ORIGINAL\PRIMARY\\"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "", "0F77"], "ORIGINAL\\PRIMARY\\\\"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "7"], "ORIGINAL\\PRIMARY\\"),
    ],
)
def test_a_number_without_a_role_goes(keyword: str, text: object, after: str) -> None:
    assert left(keyword, text) == after


@pytest.mark.parametrize(
    ("keyword", "text", "after"),
    [
        ("SeriesDescription", "stage 17 view 3", "stage view"),
        ("TransducerData", "F93", ""),
        ("ManufacturerModelName", "MR 123", ""),
    ],
)
def test_numbers_with_a_role_that_are_a_day_an_age_or_an_id_go(keyword: str, text: str, after: str) -> None:
    assert left(keyword, text, PatientID="MR123") == after


def test_the_number_of_samples_of_a_long_waveform_stays() -> None:
    original = echo(NumberOfWaveformSamples=600_123)
    context, _ = instance._context(original, "ecg", KEY, Policy())
    assert rebuild(original, context).NumberOfWaveformSamples == 600_123


@pytest.mark.parametrize("piece", ["711", "4711", "077"])
def test_a_piece_of_an_identifier_goes_even_as_a_measurement(piece: str) -> None:
    assert left("SeriesDescription", f"TTE {piece} ms") == "TTE ms"


@pytest.mark.parametrize("text", ["OS", "O S", "s o"])
def test_the_initials_of_the_patient_go(text: str) -> None:
    person = {"PatientName": "Schmitt^Otto"}
    assert left("SeriesDescription", f"{text} apical", **person) == "apical"
    assert left("SeriesDescription", "LV apical", **person) == "LV apical"
    assert left("SeriesDescription", "OTT apical", PatientName="Schmitt-Thal^Otto") == "apical"


def test_initials_go_from_an_image_type_but_terms_and_machines_stay() -> None:
    built = rebuilt(PatientName="Lund^Mia", ImageType=["ORIGINAL", "PRIMARY", "M L", "M"], Manufacturer="GE")
    assert list(built.ImageType) == ["ORIGINAL", "PRIMARY", "", "M"]
    named = rebuilt(PatientName="Unger^Sven", Manufacturer="GE")
    assert named.Modality == "US"
    assert rebuilt(PatientName="Ehlers^Gerd", Manufacturer="GE").Manufacturer == "GE"


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "SeriesNumber", "InstanceNumber"])
def test_a_day_as_a_count_of_days_is_no_number_of_a_series(keyword: str) -> None:
    day = date(2024, 3, 17)
    for number in ((day - date(1899, 12, 30)).days, (day - date(1970, 1, 1)).days, 24077, 2460387, 60386):
        assert left(keyword, str(number)) == ""
    assert left(keyword, "45000") == "45000"


def test_a_whole_number_of_more_than_five_digits_goes() -> None:
    assert left("SeriesNumber", "123456") == ""
    assert left("SeriesNumber", "120000") == ""  # a count or length may end in zeros, a number of a series is neither
    assert left("SeriesNumber", "16117") == "16117"


@pytest.mark.parametrize("keyword", ["SeriesNumber", "AcquisitionNumber", "HeartRate", "TriggerTime"])
def test_an_identifier_of_four_digits_goes_from_numbers_but_for_counts_of_images(keyword: str) -> None:
    assert left(keyword, "4711", PatientID="4711") == ""
    assert left(keyword, "4711", PatientID="471100") == "4711"
    assert left("InstanceNumber", "4711", PatientID="4711") == "4711"


@pytest.mark.parametrize("text", [b". ", b"+.", b"-", b"..", b"E5"])
def test_what_is_no_number_goes_from_a_decimal_string(text: bytes) -> None:
    original = echo()
    original[0x00181060] = RawDataElement(BaseTag(0x00181060), "DS", len(text), text, 0, False, True)
    context, _ = instance._context(original, "ultrasound", KEY, Policy())
    assert not rebuild(original, context).TriggerTime


def test_a_day_over_the_values_of_a_binary_number_goes() -> None:
    birth = {"PatientBirthDate": "19571103"}
    assert "TableOfXBreakPoints" not in rebuilt(TableOfXBreakPoints=[3, 11, 1957], **birth)
    assert "TableOfXBreakPoints" not in rebuilt(TableOfXBreakPoints=[7, 1957, 11, 3], **birth)
    assert rebuilt(TableOfXBreakPoints=[3, 11, 1958], **birth).TableOfXBreakPoints == [3, 11, 1958]
    assert rebuilt(TableOfXBreakPoints=[3, 11, 57], **birth).TableOfXBreakPoints == [3, 11, 57]


@pytest.mark.parametrize("keyword", ["CodeValue", "LongCodeValue", "CodeMeaning", "CodingSchemeDesignator"])
def test_a_code_outside_an_item_goes(keyword: str) -> None:
    assert keyword not in rebuilt(**{keyword: "Smithers"})


@pytest.mark.parametrize("patient", ["4711", "MR4711", "47-11"])
def test_an_identifier_with_four_digits_goes_from_a_number_with_a_fraction_too(patient: str) -> None:
    assert left("TriggerTime", "4711.5", PatientID=patient) == ""
    assert left("TriggerTime", "4712.5", PatientID=patient) == "4712.5"


def test_an_identifier_over_the_values_of_a_binary_number_goes() -> None:
    assert "TableOfXBreakPoints" not in rebuilt(TableOfXBreakPoints=[4, 4, 7, 1, 9, 2, 0], PatientID="4471920")
    assert "TableOfXBreakPoints" in rebuilt(TableOfXBreakPoints=[4, 4, 7, 1, 9, 2, 1], PatientID="4471920")


@pytest.mark.parametrize(
    ("text", "stays"),
    [("Larkspur 3.11.1957", False), ("Larkspur 19571103", False), ("Klinik 4471920", False), ("Larkspur 12", True)],
)
def test_a_kept_institution_holds_no_day_and_no_identifier_of_the_patient(text: str, stays: bool) -> None:
    own = {"PatientBirthDate": "19571103", "PatientID": "HX4471920"}
    built = rebuilt(InstitutionName=text, policy=Policy(institution_identity=True), **own)
    assert built.InstitutionName == (text if stays else "")


@pytest.mark.parametrize("text", ["195711.03", "110319.57", "110357"])
def test_a_birth_date_as_a_time_goes(text: str) -> None:
    assert left("AcquisitionTime", text, PatientBirthDate="19571103") == ""
    assert left("AcquisitionTime", text, PatientBirthDate="19580122") == text


def test_the_body_mass_index_is_a_characteristic_of_the_patient() -> None:
    assert left("PatientBodyMassIndex", "21.5") == "21.5"
    assert "PatientBodyMassIndex" not in rebuilt(
        PatientBodyMassIndex="21.5", policy=Policy(patient_characteristics=False)
    )


def test_a_word_with_a_dotless_i_is_kept_in_letters_of_ascii() -> None:
    turkish = {"SpecificCharacterSet": "ISO_IR 148"}
    assert left("SeriesDescription", "k\u0131sa eksen", **turkish) == "KISA eksen"


def test_an_item_keeps_what_it_says_beside_a_private_code() -> None:
    group = Dataset()
    group.CodeValue, group.CodeMeaning, group.NumberOfWaveformChannels = "Smithers", "Smithers", 12
    built = rebuilt(object_class="ecg", WaveformSequence=[group])
    assert list(built.WaveformSequence[0].keys()) == [0x003A0005]


def test_a_code_stays_only_if_each_of_its_values_is_one() -> None:
    code = Dataset()
    code.CodingSchemeDesignator, code.CodeValue, code.CodeMeaning = "SCT", "399214001", "Apical four chamber"
    assert len(rebuilt(ViewCodeSequence=[code]).ViewCodeSequence) == 1
    code.LongCodeValue = "Smithers W. 055-1277"
    assert len(rebuilt(ViewCodeSequence=[code]).ViewCodeSequence) == 0


@pytest.mark.parametrize(
    ("keyword", "text", "after"),
    [
        ("SoftwareVersions", "192.168.77.14", ""),
        ("SoftwareVersions", "51.80.108.010", "51.80.108.010"),
        ("ManufacturerModelName", "Vivid Unit D27", "Vivid Unit"),
        ("ManufacturerModelName", "OR12", ""),
        ("ManufacturerModelName", "Vivid E95", "Vivid E95"),
        ("SeriesDescription", "Apical ward 6S", "Apical"),
        ("SeriesDescription", "PLAX Bett 4", "PLAX"),
        ("SeriesDescription", "PLAX unit 4", "PLAX unit"),
        ("SeriesDescription", "PLAX 4", "PLAX 4"),
        ("SeriesDescription", "Dr Plane TTE", "TTE"),
        ("SeriesDescription", "Mr Valve", "Mr"),
        ("SeriesDescription", "MR Valve", "MR Valve"),
        ("BodyPartExamined", "LANGE", ""),
        ("BodyPartExamined", "HEART", "HEART"),
        ("PatientPosition", "LONG", ""),
        ("PatientPosition", "HFS", "HFS"),
    ],
)
def test_a_device_tells_no_place_and_a_coded_term_is_no_name(keyword: str, text: str, after: str) -> None:
    assert left(keyword, text) == after


def test_a_short_name_over_two_elements_goes() -> None:
    built = rebuilt(PatientName="Ito^Ren", StageName="I", ViewName="to")
    assert not built.StageName
    assert not built.ViewName
    kept = rebuilt(StageName="I", ViewName="to")
    assert (kept.StageName, kept.ViewName) == ("I", "to")
