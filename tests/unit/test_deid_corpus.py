"""A corpus of planted identifiers, and mutated files: nothing of a patient comes out, and nothing stops the worker."""

import random
import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from tests.unit.test_deid_builder import echo, run, set_frames, to_bytes, written_bytes

# one string for each place, so that a leak names its place
TEXT_KEYWORDS = """
    PatientComments AdditionalPatientHistory PatientBirthName PatientMotherBirthName OtherPatientNames
    OtherPatientIDs IssuerOfPatientID PatientAddress PatientTelephoneNumbers Occupation EthnicGroup
    PatientReligiousPreference MilitaryRank CountryOfResidence RegionOfResidence Allergies
    AccessionNumber StudyID ReferringPhysicianName ReferringPhysicianAddress PerformingPhysicianName
    NameOfPhysiciansReadingStudy OperatorsName PhysiciansOfRecord RequestingPhysician InstitutionName
    InstitutionAddress InstitutionalDepartmentName StationName DeviceSerialNumber StudyDescription
    SeriesDescription ProtocolName PerformedProcedureStepDescription RequestedProcedureDescription
    ImageComments FrameComments DerivationDescription AcquisitionComments AdmissionID
    CurrentPatientLocation VisitComments StudyComments ManufacturerModelName SoftwareVersions
    TransducerData StageName ViewName TextValue DocumentTitle
"""


def place(number: int) -> str:
    """A name that no word list holds."""
    letters = "bcdfghklmnprstvwz"
    return f"Quo{letters[number % 17]}e{letters[number // 17 % 17]}ix"


def corpus() -> tuple[bytes, list[str]]:
    """One file with 57 strings in 57 places."""
    planted = [place(number) for number in range(57)]
    rest = iter(planted)
    dataset = echo(**{keyword: next(rest) for keyword in TEXT_KEYWORDS.split()})
    dataset.PatientName, dataset.PatientID = next(rest), next(rest)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", next(rest).upper()]
    dataset.ViewCodeSequence[0].CodeMeaning = f"Apical {next(rest)}"
    dataset.private_block(0x0009, "ACME", create=True).add_new(1, "LO", next(rest))
    dataset.add_new(0x60000022, "LO", next(rest))
    nested = Dataset()
    nested.PatientName = next(rest)
    dataset.SequenceOfUltrasoundRegions[0].ReferencedStudySequence = [nested]
    dataset.file_meta.SourceApplicationEntityTitle = "SCANNER"
    frames = list(generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames))
    name = next(rest, "Quotail").encode()
    set_frames(dataset, [f[:2] + b"\xff\xfe" + (len(name) + 2).to_bytes(2, "big") + name + f[2:] for f in frames])
    dataset.preamble = name.ljust(128, b"\0")
    return to_bytes(dataset), planted


def test_of_57_planted_strings_none_is_in_the_output(tmp_path: Path) -> None:
    content, planted = corpus()
    assert len(set(planted)) == 57
    assert all(string.lower().encode() in content.lower() for string in planted)
    outcome = run(content, tmp_path)
    raw = written_bytes(outcome, tmp_path).lower()
    forms = [(s, s.lower().encode(encoding)) for s in planted for encoding in ("ascii", "utf-16-le", "utf-16-be")]
    assert [string for string, form in forms if form in raw] == []


def mutate(content: bytes, seed: int) -> bytes:
    """Bit flips, cuts, doubled pieces and lies about lengths."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(128, min(len(data), 4000) if rng.random() < 0.8 else len(data))
        kind = rng.choice(("flip", "cut", "double", "length", "noise"))
        if kind == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del data[at : at + rng.randint(1, 64)]
        elif kind == "double":
            data[at:at] = data[at : at + rng.randint(1, 64)]
        elif kind == "length":
            data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\xfe\xff\0\xe0"))
        else:
            data[at : at + 16] = rng.randbytes(16)
    return bytes(data)


@pytest.mark.parametrize("part", range(6))
def test_300_mutated_files_are_answered_without_a_leak(tmp_path: Path, part: int) -> None:
    content, planted = corpus()
    for seed in range(part * 50, part * 50 + 50):
        start = time.perf_counter()
        outcome = run(mutate(content, seed), tmp_path / str(seed))
        assert time.perf_counter() - start < 5
        assert outcome.reason != "internal", seed
        if outcome.status == "written":
            raw = written_bytes(outcome, tmp_path / str(seed)).lower()
            # a mutation may change a string; what is still whole must be gone
            assert [string for string in planted if string.lower().encode() in raw] == [], seed
