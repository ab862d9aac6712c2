"""Faults planted in what writes the header, one by one: the verifier reads for itself, and holds the file."""

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from echoplane.deid import Key, Policy, clean_text, dates, header, suspects, values, verify
from echoplane.deid.values import OwnValues
from tests.unit.test_deid_builder import KEY, echo, run, written

EVERYTHING = (clean_text, "clean", lambda values, *_, **__: values)
NOTHING_OWN = ("echoplane.deid.values.collect", lambda *_: OwnValues())


@pytest.mark.parametrize(
    "text",
    [
        "TTE Rosalinde", "TTE Schoolmate", "TTE 17/3", "TTE 17.03.2024", "TTE 170324", "TTE 24-03-17", "TTE 93Y F",
        "TTE 101 YO", "TTE MRN 471 1077", "TTE M-R-N-4711077",
    ],
)  # fmt: skip
def test_free_text_that_nobody_cleaned_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(*EVERYTHING)
    assert run(echo(StudyDescription=text), tmp_path).reason == "verify-header"


def test_a_clinical_text_that_nobody_cleaned_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*EVERYTHING)
    assert run(echo(StudyDescription="TTE 25, 3 of 4, long axis"), tmp_path).reason is None


@pytest.mark.parametrize(
    ("owner", "name", "fault", "changes"),
    [
        (header, "_number", lambda text, *_: text, {"InstanceNumber": "240317"}),
        (Key, "uid", lambda _, uid: uid, {}),
        (dates, "shift_date", lambda text, _: text, {}),
        (dates, "capped_age", lambda text: text, {"PatientAge": "093Y"}),
    ],
)
def test_a_rule_of_the_header_that_fails_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, fault: object, changes: dict[str, str]
) -> None:
    monkeypatch.setattr(owner, name, fault)
    assert run(echo(**changes), tmp_path).reason == "verify-header"


def test_a_patient_called_like_a_term_is_known_to_the_verifier_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*NOTHING_OWN)
    outcome = run(echo(PatientName="Apical^Petra", StudyDescription="TTE apical"), tmp_path)
    assert outcome.reason == "verify-header"


def test_what_verifies_shares_no_module_with_what_writes() -> None:
    writers = ("header", "values", "numbers", "dates", "pieces", "clean_text", "telling", "codes", "structure")
    for module in (verify, suspects):
        source = Path(str(module.__file__)).read_text()
        assert not [name for name in writers if f"deid.{name} import" in source or f"import {name}" in source]


@pytest.mark.parametrize(
    ("scheme", "value"),
    [
        ("SRT", "T-D3000"),
        ("SRT", "T-D4000"),
        ("SRT", "T-D9200"),
        ("SRT", "G-03E05"),
        ("SRT", "R-408C3"),
        ("SRT", "F-01E21"),
        ("SNM3", "T-D3000"),
        ("LN", "LA4489-6"),
    ],
)
@pytest.mark.parametrize("keyword", ["AnatomicRegionSequence", "ViewCodeSequence"])
def test_d17_a_code_of_an_anatomic_region_or_a_view_is_no_secret(
    tmp_path: Path, keyword: str, scheme: str, value: str
) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, "Apical four chamber"
    dataset = echo(**{keyword: [code]})
    found, own = suspects.collect(dataset, frozenset()), values.collect(dataset, KEY, Policy())
    pieces = {value, value.replace("-", ""), *value.split("-")}
    assert not pieces & (found.words | found.identifiers | own.joined)
    assert not {piece.lower() for piece in pieces} & (own.names | own.identifiers)
    assert written(run(dataset, tmp_path), tmp_path)[keyword].value[0].CodeValue == value
