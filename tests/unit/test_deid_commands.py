"""The commands around de-identification: accept, pseudonym, find-patient."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from echoplane import cli
from echoplane.stages import find_patient
from tests.unit.test_deid_builder import KEY, PATIENT_ID, echo, frozen, region, run, to_bytes

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
