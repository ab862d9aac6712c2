"""The commands around de-identification: accept, pseudonym, find-patient."""

import hashlib
import html
import inspect
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from echoplane import cli
from echoplane.deid import instance, outcome, reasons
from echoplane.stages import find_patient
from tests.unit.test_deid_builder import BOX, KEY, PATIENT_ID, clip, echo, frozen, region, run, to_bytes

SECRET = bytes(range(1, 65)).hex()


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "deid.key"
    path.write_text(SECRET)
    return str(path)


def held(folder: Path, key_file: str, content: Dataset | bytes, policy: str = "{}") -> str:
    """The digest of a file that the command has quarantined in `folder`/out."""
    (folder / "in").mkdir()
    (folder / "in" / "a.dcm").write_bytes(content if isinstance(content, bytes) else to_bytes(content))
    call = ["deid", str(folder / "in"), str(folder / "out"), "--key-file", key_file, "--policy", policy]
    assert cli.main(call) == 3
    (original,) = (folder / "out" / "quarantine").glob("*.dcm")
    return original.stem


def test_accept_releases_the_file_under_the_policy_of_the_run_and_names_the_person(
    tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = held(tmp_path, key_file, frozen(), '{"dates": "remove"}')
    call = ["deid", "accept", digest, str(tmp_path / "out"), "--key-file", key_file]
    assert cli.main([*call, "--person", "R. Reviewer"]) == 0
    (released,) = (tmp_path / "out" / "dicom").rglob("*.dcm")
    assert dcmread(released).StudyDate == ""
    assert json.loads((tmp_path / "out" / "audit.jsonl").read_text())["person"] == "R. Reviewer"
    assert "accepted: " in capsys.readouterr().out


def test_a_folder_goes_on_after_a_person_has_accepted(tmp_path: Path, key_file: str) -> None:
    source, folder = tmp_path / "in", tmp_path / "out"
    digest = held(tmp_path, key_file, frozen())
    accept = ["deid", "accept", digest, str(folder), "--key-file", key_file, "--person", "R. Reviewer"]
    assert cli.main(accept) == 0
    assert cli.main(["deid", str(source), str(folder), "--key-file", key_file]) == 0
    assert not list((folder / "quarantine").iterdir())
    (file,) = json.loads((folder / "report.json").read_text())["outcomes"]
    assert (folder / file["output"]).exists(), "a data set takes it"


def test_accept_takes_the_digits_that_the_report_shows(tmp_path: Path, key_file: str) -> None:
    digest = held(tmp_path, key_file, frozen())
    shown = digest[:24]
    assert f"<code>{shown}</code>" in (tmp_path / "out" / "report.html").read_text()
    call = ["--person", "R. Reviewer", "--key-file", key_file]
    assert cli.main(["deid", "accept", shown, str(tmp_path / "out"), *call]) == 0
    assert shown in (tmp_path / "out" / "audit.jsonl").read_text()


@pytest.mark.parametrize(
    ("digits", "said"),
    [("a" * 11, "first 12"), ("../quarantine", "first 12"), ("0" * 12, "begins so"), ("a" * 12, "2 quarantined files")],
)
def test_accept_of_digits_that_name_no_one_file_is_a_wrong_call(
    tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str], digits: str, said: str
) -> None:
    held(tmp_path, key_file, frozen())
    for last in "01":
        (tmp_path / "out" / "quarantine" / f"{'a' * 63}{last}.dcm").write_bytes(b"")
    call = ["deid", "accept", digits, str(tmp_path / "out"), "--key-file", key_file, "--person", "R"]
    assert cli.main(call) == 2
    assert said in capsys.readouterr().err


def test_the_screen_and_the_report_count_the_files_that_claim_clean_pixels(
    tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, folder = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    still = clip(frames=1)
    still[0, BOX[0] : BOX[2], BOX[1] : BOX[3]] = np.linspace(40, 200, BOX[3] - BOX[1])[None, :, None]
    (source / "a.dcm").write_bytes(to_bytes(echo()))
    (source / "b.dcm").write_bytes(to_bytes(echo(still, SOPInstanceUID="1.2.826.0.1.999.3.2")))
    for _ in range(2):  # the second time from the ledger
        assert cli.main(["deid", str(source), str(folder), "--key-file", key_file, "--workers", "1"]) == 0
        said = capsys.readouterr().out
        assert "clean pixels claimed 1, clean pixels not claimed 1" in said
        assert said.splitlines()[-1] == str(folder / "report.html")
        report = json.loads((folder / "report.json").read_text())
        claims = [each["claims_clean_pixels"] for each in report["outcomes"]]
        assert sorted(claims) == [False, True]
        headers = [dcmread(folder / each["output"]).get("BurnedInAnnotation") for each in report["outcomes"]]
        assert [header == "NO" for header in headers] == claims
        page = (folder / "report.html").read_text()
        assert "<b>1</b> claim that no text" in page
        assert reasons.FLAGS["does-not-move"] in html.unescape(page)


def test_every_flag_is_explained() -> None:
    functions = (instance._pixel_flags, instance._identity_flags, outcome.flag_identities)
    raised = {flag for each in functions for flag in re.findall(r'"([a-z]+(?:-[a-z]+)+)"', inspect.getsource(each))}
    assert raised | {"accepted", "own-output"} == set(reasons.FLAGS)


def test_an_empty_or_missing_source_leaves_no_output_folder(
    tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    for source, said in (("empty", "no file in the source"), ("none", "does not exist"), ("deid.key", "is a file")):
        assert cli.main(["deid", str(tmp_path / source), str(tmp_path / "out"), "--key-file", key_file]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_accept_of_what_nobody_can_see_is_a_wrong_call(tmp_path: Path, key_file: str) -> None:
    digest = held(tmp_path, key_file, to_bytes(echo(SequenceOfUltrasoundRegions=[region()]))[:-500])
    call = ["deid", "accept", digest, str(tmp_path / "out"), "--key-file", key_file, "--person", "R"]
    assert cli.main(call) == 2
    assert not (tmp_path / "out" / "dicom").exists()


def test_accept_of_a_folder_that_no_run_has_made_is_a_wrong_call(
    tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["deid", "accept", "0" * 64, str(tmp_path), "--key-file", key_file, "--person", "R"]) == 2
    assert "policy" in capsys.readouterr().err


def test_a_call_whose_report_was_being_written_when_it_was_killed_is_repeated(tmp_path: Path, key_file: str) -> None:
    digest = held(tmp_path, key_file, frozen())
    for name in (".writing-report.json", ".manifest.json.4711"):
        (tmp_path / "out" / name).touch()
    assert cli.main(["deid", str(tmp_path / "in"), str(tmp_path / "out"), "--key-file", key_file]) == 3
    assert (tmp_path / "out" / "quarantine" / f"{digest}.dcm").exists()


def test_what_is_moved_out_of_the_report_is_counted_and_in_no_manifest(
    tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, folder = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "a.dcm").write_bytes(to_bytes(echo()))
    call = ["deid", str(source), str(folder), "--key-file", key_file]
    digests = []
    for unlisted in (False, True):
        assert cli.main(call) == 0
        assert ("unlisted 1" in capsys.readouterr().out) == unlisted
        digests.append(json.loads((folder / "manifest.json").read_text())["digest"])
        (folder / "dicom" / "beside.dcm").write_bytes(b"not of this run")
    assert digests[0] == digests[1]


def test_the_pseudonym_of_an_id_is_that_of_the_files_and_the_id_is_never_an_argument(
    tmp_path: Path, key_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PATIENT_ID}\n"))
    assert cli.main(["deid", "pseudonym", "--key-file", key_file]) == 0
    assert capsys.readouterr().out.strip() == run(echo(), tmp_path).pseudonym == KEY.pseudonym(PATIENT_ID)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["deid", "pseudonym", PATIENT_ID, "--key-file", key_file])
    assert stopped.value.code == 2


def test_values_of_a_file_stay_off_the_terminal_also_where_pydicom_warns_of_them(tmp_path: Path, key_file: str) -> None:
    source = tmp_path / "in" / "ROSALINDE" / "a.dcm"
    source.parent.mkdir(parents=True)
    source.write_bytes(to_bytes(echo(SpecificCharacterSet="ISO_IR 192")).replace(b"ISO_IR 192", b"ROSALINDE "))
    call = [sys.executable, "-m", "echoplane.cli", "deid", str(tmp_path / "in"), str(tmp_path / "out")]
    done = subprocess.run([*call, "--key-file", key_file], capture_output=True, text=True)
    assert done.returncode in (0, 3)
    assert "deid: written" in done.stdout
    assert "ROSALINDE" not in (done.stdout + done.stderr).upper()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two datasets with a model each: P-A trained the first and tests the second."""
    for name, splits in (("one", ("train", "test")), ("two", ("test", "train"))):
        dataset = tmp_path / "dataset" / name
        dataset.mkdir(parents=True)
        table = pa.table({"patient": ["P-A", "P-B"], "split": list(splits)})
        pq.write_table(table, dataset / "catalogue.parquet")
        digest = hashlib.sha256((dataset / "catalogue.parquet").read_bytes()).hexdigest()
        for stage, file, content in (
            ("train", "training.json", {"patients_seen": {"train": ["P-A" if name == "one" else "P-B"], "val": []}}),
            ("export", "bundle.json", {"data_digest": digest}),
        ):
            (tmp_path / stage / name).mkdir(parents=True)
            (tmp_path / stage / name / file).write_text(json.dumps(content))
    return tmp_path


def test_find_patient_lists_what_learned_from_the_patient_and_not_what_was_only_tested_on_her(root: Path) -> None:
    found = find_patient.run(root, "P-A")
    assert found.datasets == ["dataset/one", "dataset/two"]
    assert found.trainings == ["train/one"]
    assert found.bundles == ["export/one"]


def test_find_patient_follows_bundles_that_started_from_one_that_learned_from_the_patient(root: Path) -> None:
    start = hashlib.sha256((root / "export" / "one" / "bundle.json").read_bytes()).hexdigest()
    for name in ("child", "grandchild"):
        for stage, file, content in (
            ("train", "training.json", {"patients_seen": {"train": ["P-D"]}}),
            ("export", "bundle.json", {"data_digest": "0" * 64}),
        ):
            (root / stage / name).mkdir()
            (root / stage / name / file).write_text(json.dumps(content | {"started_from": start}))
        start = hashlib.sha256((root / "export" / name / "bundle.json").read_bytes()).hexdigest()
    shutil.copytree(root / "export" / "one", root / "export" / "copy")
    found = find_patient.run(root, "P-A")
    assert found.trainings == ["train/child", "train/grandchild", "train/one"]
    assert found.bundles == ["export/child", "export/copy", "export/grandchild", "export/one"]
    assert "export/child" not in find_patient.run(root, "P-B").bundles


def test_find_patient_prints_one_line_each_and_says_so_where_there_is_none(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["dataset", "find-patient", "P-B", "--root", str(root)]) == 0
    assert "bundle: export/two\n" in capsys.readouterr().out
    assert cli.main(["dataset", "forget", "P-C", "--root", str(root)]) == 0
    assert "nothing" in capsys.readouterr().out


def test_find_patient_answers_beside_an_interrupted_dataset_and_names_what_it_can_not_read(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted, cut_off = (root / "dataset" / f"{name}.partial" for name in ("three", "four"))
    interrupted.mkdir()
    shutil.copy(root / "dataset" / "one" / "catalogue.parquet", interrupted)
    cut_off.mkdir()
    (cut_off / "catalogue.parquet").write_bytes((interrupted / "catalogue.parquet").read_bytes()[:-9])
    (root / "train" / "two" / "training.json").write_text('{"patients_seen": ')
    (root / "export" / "two" / "bundle.json").write_text("")
    found = find_patient.run(root, "P-A")
    assert found.datasets == ["dataset/one", "dataset/three.partial", "dataset/two"]
    assert (found.trainings, found.bundles) == (["train/one"], ["export/one"])
    assert found.unreadables == [
        "dataset/four.partial/catalogue.parquet",
        "train/two/training.json",
        "export/two/bundle.json",
    ]
    assert cli.main(["dataset", "find-patient", "P-A", "--root", str(root)]) == 0
    assert "unreadable: dataset/four.partial/catalogue.parquet\n" in capsys.readouterr().out
