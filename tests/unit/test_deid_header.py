"""Header cases of a demanding hospital; each test carries the number of its case."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)

from echoplane.deid import Policy
from tests.unit.test_deid_builder import (
    KEY,
    OTHER_KEY,
    PATIENT_ID,
    echo,
    run,
    set_native,
    to_bytes,
    written,
    written_bytes,
)

PRIVATE = 0x00091001


def with_private(dataset: Dataset, value: str) -> Dataset:
    block = dataset.private_block(0x0009, "ACME 1.0", create=True)
    block.add_new(0x01, "LO", value)
    nested = Dataset()
    nested.PatientName = value
    block.add_new(0x02, "SQ", [nested])
    block.add_new(0x03, "UN", value.encode())
    return dataset


def leaks(raw: bytes, *values: str) -> list[str]:
    return [v for v in values for e in ("utf-8", "utf-16-le") if v.lower().encode(e) in raw.lower()]


def test_case_01_private_tags_sequences_and_un_elements_are_removed(tmp_path: Path) -> None:
    outcome = run(with_private(echo(), "Rosalinde Z"), tmp_path)
    dataset = written(outcome, tmp_path)
    assert not [element for element in dataset.iterall() if element.tag.is_private]
    assert not leaks(written_bytes(outcome, tmp_path), "Rosalinde", "ACME")


def test_case_02_a_private_tag_inside_a_public_sequence_is_removed(tmp_path: Path) -> None:
    dataset = echo()
    with_private(dataset.SequenceOfUltrasoundRegions[0], "Rosalinde")
    item = written(run(dataset, tmp_path), tmp_path).SequenceOfUltrasoundRegions[0]
    assert not [element for element in item if element.tag.is_private]
    assert item.PhysicalDeltaX == 0.05


def test_case_03_patient_name_inside_a_kept_sequence_is_removed(tmp_path: Path) -> None:
    dataset = echo()
    dataset.SequenceOfUltrasoundRegions[0].PatientName = "Zwetschgen^Rosalinde"
    dataset.ViewCodeSequence[0].PatientComments = "Rosalinde"
    outcome = run(dataset, tmp_path)
    item = written(outcome, tmp_path).SequenceOfUltrasoundRegions[0]
    assert item.get("PatientName") in (None, outcome.pseudonym)
    assert not leaks(written_bytes(outcome, tmp_path), "Rosalinde")


@pytest.mark.parametrize("depth", [30, 300, 3000])
def test_case_04_deep_nesting_is_quarantined_and_the_next_file_is_done(tmp_path: Path, depth: int) -> None:
    plain = to_bytes(echo())
    # ReferencedStudySequence and its item, both of undefined length, one inside the other
    opening = bytes.fromhex("08001011") + b"SQ\0\0\xff\xff\xff\xff" + bytes.fromhex("feff00e0ffffffff")
    closing = bytes.fromhex("feff0de000000000feffdde000000000")
    cut = plain.index(bytes.fromhex("10001000") + b"PN")
    outcome = run(plain[:cut] + opening * depth + closing * depth + plain[cut:], tmp_path)
    assert (outcome.status, outcome.reason) == ("quarantined", "too-deep")
    assert run(echo(), tmp_path, name="next.dcm").status == "written"


def test_case_05_references_resolve_after_mapping(tmp_path: Path) -> None:
    first = echo()
    second = echo(SOPInstanceUID="1.2.826.0.1.999.3.2")
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = first.SOPClassUID, first.SOPInstanceUID
    second.SourceImageSequence = [reference]
    one = run(first, tmp_path, name="1.dcm")
    two = written(run(second, tmp_path, name="2.dcm"), tmp_path)
    assert two.SourceImageSequence[0].ReferencedSOPInstanceUID == one.new_sop_uid
    assert two.SourceImageSequence[0].ReferencedSOPClassUID == first.SOPClassUID
    assert two.file_meta.MediaStorageSOPInstanceUID == two.SOPInstanceUID != second.SOPInstanceUID
    assert two.SOPInstanceUID.startswith("2.25.")
    assert two.SOPInstanceUID.is_valid


def test_case_06_a_patient_has_one_pseudonym_and_one_shift_for_each_key(tmp_path: Path) -> None:
    second_study = {"StudyInstanceUID": "1.2.826.0.1.999.1.2", "SOPInstanceUID": "1.2.826.0.1.999.3.9"}
    one = written(run(echo(), tmp_path, name="1.dcm"), tmp_path)
    two = written(run(echo(**second_study, StudyDate="20250101"), tmp_path, name="2.dcm"), tmp_path)
    assert one.PatientID == two.PatientID == one.PatientName
    days = [pydicom.valuerep.DA(d).toordinal() for d in (one.StudyDate, two.StudyDate)]
    assert days[1] - days[0] == 290  # 17 March 2024 to 1 January 2025
    other = written(run(echo(), tmp_path / "other", key=OTHER_KEY), tmp_path / "other")
    assert other.PatientID != one.PatientID
    assert other.SOPInstanceUID != one.SOPInstanceUID
    assert other.StudyDate != one.StudyDate


def test_case_06_a_study_without_patient_id_gets_a_pseudonym_of_its_own(tmp_path: Path) -> None:
    one = run(echo(PatientID=""), tmp_path, name="1.dcm")
    two = run(
        echo(PatientID="", StudyInstanceUID="1.2.826.0.1.999.1.2", SOPInstanceUID="1.2.826.0.1.999.3.8"),
        tmp_path,
        name="2.dcm",
    )
    assert one.flags == two.flags == ("no-patient-id",)
    assert one.pseudonym != two.pseudonym


@pytest.mark.parametrize(
    ("before", "after"),
    [("TTE for Maria", "TTE for"), ("TTE apical", "TTE apical"), ("Rosalinde, apical", "apical"), ("born 1948", "")],
)
def test_case_07_descriptions_keep_listed_words_alone(tmp_path: Path, before: str, after: str) -> None:
    dataset = written(run(echo(StudyDescription=before), tmp_path), tmp_path)
    assert (dataset.StudyDescription or "") == after


def test_case_07_without_the_descriptors_option_descriptions_are_removed(tmp_path: Path) -> None:
    dataset = written(run(echo(), tmp_path, policy=Policy(descriptors=False)), tmp_path)
    assert "StudyDescription" not in dataset
    assert "113105" not in [code.CodeValue for code in dataset.DeidentificationMethodCodeSequence]


@pytest.mark.parametrize(
    "keyword", ["PatientComments", "AdditionalPatientHistory", "FrameComments", "DerivationDescription", "TextValue"]
)
def test_case_08_free_text_is_removed(tmp_path: Path, keyword: str) -> None:
    assert keyword not in written(run(echo(**{keyword: "seen by Dr. Balduin"}), tmp_path), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "ROSALINDE"]},
        {"ManufacturerModelName": "EPIQ Rosalinde"},
        {"TransducerData": ["S5-1", "Zwetschgen"]},
        {"SoftwareVersions": "MRN4711077"},
        {"Manufacturer": "Klinikum Hinterwald"},
        {"StageName": "Balduin"},
        {"PatientOrientation": ["ROSALINDE", "F"]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_case_09_a_name_in_a_kept_attribute_is_cleaned_out(tmp_path: Path, changes: dict[str, object]) -> None:
    outcome = run(echo(**changes), tmp_path)
    assert outcome.status == "written"
    raw = written_bytes(outcome, tmp_path)
    assert not leaks(raw, "rosalinde", "zwetschgen", "mrn4711077", "hinterwald", "balduin")


def test_case_09_a_name_in_a_code_meaning_is_cleaned_out(tmp_path: Path) -> None:
    dataset = echo()
    dataset.ViewCodeSequence[0].CodeMeaning = "Apical four chamber of Rosalinde"
    item = written(run(dataset, tmp_path), tmp_path).ViewCodeSequence[0]
    assert item.CodeMeaning == "Apical four chamber of"
    assert item.CodeValue == "399214001"


def test_case_09_a_patient_named_like_a_listed_word_keeps_her_codes_and_loses_the_word(tmp_path: Path) -> None:
    dataset = echo(PatientName="Apical^Anna", StudyDescription="TTE Apical")
    result = written(run(dataset, tmp_path), tmp_path)
    assert result.StudyDescription == "TTE"
    assert result.ViewCodeSequence[0].CodeValue == "399214001"
    assert result.Modality == "US"


def test_case_09_a_code_of_an_unlisted_scheme_is_dropped(tmp_path: Path) -> None:
    dataset = echo()
    dataset.ViewCodeSequence[0].CodingSchemeDesignator = "99ROSA"
    assert len(written(run(dataset, tmp_path), tmp_path).ViewCodeSequence) == 0


@pytest.mark.parametrize("scheme", ["99LOCAL", "SCT"])
def test_a_code_in_another_alphabet_is_dropped_and_its_file_is_written(tmp_path: Path, scheme: str) -> None:
    dataset = echo(SpecificCharacterSet="ISO_IR 192")
    item = dataset.ViewCodeSequence[0]
    item.CodeValue, item.CodingSchemeDesignator = "心尖部四腔", scheme
    assert len(written(run(dataset, tmp_path), tmp_path).ViewCodeSequence) == 0


def test_case_11_preamble_and_file_meta_are_rebuilt(tmp_path: Path) -> None:
    dataset = echo()
    dataset.file_meta.SourceApplicationEntityTitle = "ROSALINDE"
    dataset.file_meta.PrivateInformationCreatorUID = "1.2.3"
    dataset.file_meta.PrivateInformation = b"Rosalinde"
    dataset.preamble = b"Rosalinde".ljust(128, b"!")
    outcome = run(dataset, tmp_path)
    raw = written_bytes(outcome, tmp_path)
    assert raw[:128] == bytes(128)
    assert not leaks(raw, "rosalinde")


def test_case_12_overlays_curves_and_audio_are_removed(tmp_path: Path) -> None:
    dataset = echo()
    dataset.add_new(0x60000010, "US", 8)
    dataset.add_new(0x60000022, "LO", "Rosalinde")
    dataset.add_new(0x60003000, "OW", b"Rosalinde ")
    dataset.add_new(0x50003000, "OW", b"Rosalinde ")
    dataset.add_new(0x5000200C, "OW", b"Rosalinde ")
    result = written(run(dataset, tmp_path), tmp_path)
    assert not [e.tag for e in result if e.tag.group in range(0x5000, 0x5100) or 0x6000 <= e.tag.group < 0x6100]


@pytest.mark.parametrize("keyword", ["IconImageSequence", "OriginalAttributesSequence", "DigitalSignaturesSequence"])
def test_case_13_and_25_icons_original_attributes_and_signatures_are_removed(tmp_path: Path, keyword: str) -> None:
    item = Dataset()
    item.PatientName = "Zwetschgen"
    outcome = run(echo(**{keyword: [item]}), tmp_path)
    assert keyword not in written(outcome, tmp_path)
    assert outcome.actions[f"{keyword} removed"] == 1


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müllerin^Jördis"),
        ("ISO_IR 192", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("GB18030", "Zhang^XiaoDong=张^小东"),
        ("ISO_IR 144", "Щукин^Ждан"),
    ],
)
def test_case_21_names_of_any_character_set_are_removed(tmp_path: Path, charset: str | list[str], name: str) -> None:
    dataset = echo(SpecificCharacterSet=charset)
    dataset.PatientName = name
    dataset.OperatorsName = name
    outcome = run(dataset, tmp_path)
    result, raw = written(outcome, tmp_path), written_bytes(outcome, tmp_path)
    assert result.SpecificCharacterSet == "ISO_IR 192"
    parts = [part for part in name.replace("=", "^").split("^") if not part.isascii()]
    for encoding in ("utf-8", "latin-1", "gb18030", "iso2022_jp", "iso8859-5"):
        for part in parts:
            assert part.encode(encoding, "ignore") not in raw or not part.encode(encoding, "ignore")


def test_case_21_an_unknown_character_set_does_not_stop_the_removal(tmp_path: Path) -> None:
    raw = to_bytes(echo(SpecificCharacterSet="ISO_IR 100", OperatorsName="Jördis"))
    outcome = run(raw.replace(b"ISO_IR 100", b"KLINGON_99"), tmp_path)
    if outcome.status == "written":
        assert not leaks(written_bytes(outcome, tmp_path), "jördis", "klingon")
    else:
        assert outcome.status == "quarantined"


@pytest.mark.parametrize(
    ("before", "kept_time"),
    [
        ("20240229235959.999999-0500", "235959.999999-0500"),
        ("20240317", ""),
        ("2024", None),
        ("202403", None),
        ("20240230101010", None),
    ],
)
def test_case_22_date_times_are_shifted_or_removed(tmp_path: Path, before: str, kept_time: str | None) -> None:
    dataset = written(run(echo(AcquisitionDateTime=before), tmp_path), tmp_path)
    after = dataset.AcquisitionDateTime or ""
    if kept_time is None:
        assert after == ""
        return
    shift = KEY.shift_days(PATIENT_ID)
    assert str(after)[8:] == kept_time
    moved = pydicom.valuerep.DA(str(after)[:8]).toordinal() - pydicom.valuerep.DA(before[:8]).toordinal()
    assert moved == shift


@pytest.mark.parametrize("old", ["2024.03.17", "20240317"])
def test_case_22_the_old_form_of_a_date_is_shifted_too(tmp_path: Path, old: str) -> None:
    raw = to_bytes(echo()).replace(b"DA\x08\x0020240317", b"DA" + len(old).to_bytes(2, "little") + old.encode())
    dataset = written(run(raw, tmp_path), tmp_path)
    expected = pydicom.valuerep.DA("20240317").toordinal() + KEY.shift_days(PATIENT_ID)
    assert pydicom.valuerep.DA(dataset.StudyDate).toordinal() == expected
    assert dataset.LongitudinalTemporalInformationModified == "MODIFIED"


def test_case_22_dates_can_be_removed_instead(tmp_path: Path) -> None:
    dataset = written(run(echo(), tmp_path, policy=Policy(dates="remove")), tmp_path)
    assert not dataset.StudyDate
    assert not dataset.get("AcquisitionDateTime")
    assert dataset.LongitudinalTemporalInformationModified == "REMOVED"
    assert "113107" not in [code.CodeValue for code in dataset.DeidentificationMethodCodeSequence]


@pytest.mark.parametrize(("age", "after"), [("089Y", "089Y"), ("090Y", "090Y"), ("103Y", "090Y"), ("999M", "999M")])
def test_case_23_ages_over_89_are_capped_and_the_birth_date_is_emptied(tmp_path: Path, age: str, after: str) -> None:
    dataset = written(run(echo(PatientAge=age), tmp_path), tmp_path)
    assert dataset.PatientAge == after
    assert dataset.PatientBirthDate == ""


def test_case_23_patient_characteristics_go_when_they_are_not_retained(tmp_path: Path) -> None:
    dataset = written(run(echo(), tmp_path, policy=Policy(patient_characteristics=False)), tmp_path)
    assert "PatientAge" not in dataset
    assert "PatientSize" not in dataset
    assert not dataset.PatientSex


def test_case_24_retired_and_unknown_tags_are_removed(tmp_path: Path) -> None:
    dataset = echo()
    dataset.add_new(0x00184000, "LT", "Rosalinde")  # AcquisitionComments, retired
    dataset.add_new(0x0018FFEE, "LO", "Rosalinde")  # no such attribute
    result = written(run(dataset, tmp_path), tmp_path)
    assert 0x00184000 not in result
    assert 0x0018FFEE not in result


def slopes() -> np.ndarray:
    """Frames in which nothing is like a letter."""
    return np.add.outer(np.arange(6), np.add.outer(np.arange(120), np.arange(160))).astype(np.uint16)


def mr(**changes: object) -> Dataset:
    """A short-axis MR image."""
    dataset = echo(SOPClassUID=MRImageStorage, Modality="MR", SliceThickness="8", SliceLocation="-12.5")
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [1, 2, 3.5], [1, 0, 0, 0, 1, 0]
    set_native(
        dataset,
        np.add.outer(np.arange(6), np.add.outer(np.arange(120), np.arange(160))).astype("uint16"),
        "MONOCHROME2",
    )
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=lambda s: s.name
)
def test_case_33_every_encoding_gives_the_same_result(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    expected = written_bytes(run(mr(), tmp_path / "a"), tmp_path / "a")
    dataset = mr()
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = slopes().astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    assert written_bytes(run(dataset, tmp_path / "b"), tmp_path / "b") == expected


def test_case_35_dates_in_functional_groups_are_shifted(tmp_path: Path) -> None:
    content, frame = Dataset(), Dataset()
    content.FrameAcquisitionDateTime = "20240317101601"
    content.FrameComments = "Rosalinde"
    frame.FrameContentSequence = [content]
    dataset = mr(SOPClassUID=EnhancedMRImageStorage, PerFrameFunctionalGroupsSequence=[frame] * 3)
    result = written(run(dataset, tmp_path), tmp_path)
    item = result.PerFrameFunctionalGroupsSequence[2].FrameContentSequence[0]
    assert str(item.FrameAcquisitionDateTime)[:8] == result.StudyDate
    assert "FrameComments" not in item


def test_case_36_private_3d_data_are_dropped_and_the_loss_is_counted(tmp_path: Path) -> None:
    dataset = echo()
    block = dataset.private_block(0x200D, "Philips US Imaging DD 021", create=True)
    block.add_new(0x01, "OB", b"volume data " * 10)
    dataset.private_block(0x7FE1, "GEMS_Ultrasound_MovieGroup_001", create=True).add_new(0x01, "SQ", [Dataset()])
    outcome = run(dataset, tmp_path)
    assert not [e for e in written(outcome, tmp_path) if e.tag.is_private]
    assert outcome.actions["(private) removed"] == 4


def test_the_output_says_what_was_done(tmp_path: Path) -> None:
    dataset = written(run(echo(), tmp_path), tmp_path)
    assert dataset.PatientIdentityRemoved == "YES"
    codes = [code.CodeValue for code in dataset.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113101", "113105", "113107", "113108"]
    assert dataset.BurnedInAnnotation == "NO"
    assert dataset.DeidentificationMethod[0].startswith("echoplane ")


def test_what_training_needs_stays(tmp_path: Path) -> None:
    dataset = written(run(echo(), tmp_path), tmp_path)
    assert (dataset.FrameTime, dataset.CineRate, dataset.HeartRate) == (40, 25, 66)
    assert (dataset.Manufacturer, dataset.ManufacturerModelName) == ("Philips", "EPIQ 7C")
    assert (dataset.PatientSex, dataset.PatientAge, dataset.PatientSize) == ("F", "076Y", 1.63)
    assert dataset.SequenceOfUltrasoundRegions[0].PhysicalDeltaX == 0.05
    assert dataset.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian
