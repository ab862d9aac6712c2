"""Who is one patient: ids that look alike, placeholders, studies of two patients, and the key behind pseudonyms."""

import json
from pathlib import Path

import pytest

from echoplane.deid import Key, Policy, Report, deidentify_folder, load_key
from echoplane.errors import ConfigError
from tests.unit.test_deid_builder import KEY, echo, run, to_bytes

PHRASE = "correct horse battery staple, said the patient cardiologist"


def folder_of(tmp_path: Path, *patients: tuple[str, str]) -> Report:
    """The report of one file for each patient id and study."""
    (tmp_path / "in").mkdir()
    for number, (patient_id, study) in enumerate(patients):
        dataset = echo(PatientID=patient_id, StudyInstanceUID=f"1.2.826.0.1.999.1.{study}")
        dataset.SOPInstanceUID = f"1.2.826.0.1.999.3.{number + 1}"
        (tmp_path / "in" / f"{number}.dcm").write_bytes(to_bytes(dataset))
    return deidentify_folder(tmp_path / "in", tmp_path / "out", KEY, Policy(), workers=1)


def test_d9_a_study_of_two_patients_is_flagged_in_all_its_files(tmp_path: Path) -> None:
    report = folder_of(tmp_path, ("AB1001", "1"), ("CD2002", "1"), ("EF3003", "2"))
    flagged = ["study-of-several-patients" in outcome.flags for outcome in report.outcomes]
    assert flagged == [True, True, False]
    assert len({outcome.pseudonym for outcome in report.outcomes}) == 3


@pytest.mark.parametrize("other", ["AB1001", "ab 1001", "00ab-1001"])
def test_d10_ids_that_differ_by_case_or_spaces_are_flagged(tmp_path: Path, other: str) -> None:
    report = folder_of(tmp_path, ("ab1001", "1"), (other, "2"), ("ab1002", "3"))
    assert ["similar-patient-ids" in outcome.flags for outcome in report.outcomes] == [True, True, False]


@pytest.mark.parametrize("placeholder", ["UNKNOWN", "unknown", "N/A", "0000", "XXX", "Anonymous"])
def test_d10_a_placeholder_is_no_patient_and_is_flagged(tmp_path: Path, placeholder: str) -> None:
    report = folder_of(tmp_path, (placeholder, "1"), (placeholder, "2"))
    assert all("placeholder-patient-id" in outcome.flags for outcome in report.outcomes)
    assert len({outcome.pseudonym for outcome in report.outcomes}) == 2


def test_d8_a_pseudonym_as_the_id_of_another_scan_is_flagged(tmp_path: Path) -> None:
    pseudonym = KEY.pseudonym("MRN4711077")
    assert run(echo(PatientID=pseudonym), tmp_path).flags == ("pseudonym-as-id", *run(echo(), tmp_path).flags)


def test_d11_a_pass_phrase_is_stretched_and_the_fingerprint_is_not_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "phrase"
    path.write_text(PHRASE)
    key = load_key(path)
    assert key.pseudonym("1") != Key(PHRASE.encode()).pseudonym("1")
    path.write_text(PHRASE.encode().hex())
    assert load_key(path).pseudonym("1") == key.pseudonym("1")
    assert key.fingerprint() != key.digest(b"echoplane: which key is this")


def test_d11_a_short_pass_phrase_is_refused(tmp_path: Path) -> None:
    (tmp_path / "phrase").write_text("correct horse battery")
    with pytest.raises(ConfigError, match="random bytes"):
        load_key(tmp_path / "phrase")


def test_d11_run_json_holds_no_fast_digest_of_the_key(tmp_path: Path) -> None:
    folder_of(tmp_path, ("AB1001", "1"))
    assert json.loads((tmp_path / "out" / "run.json").read_text())["key"] == KEY.fingerprint()
