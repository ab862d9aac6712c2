"""The command `echoplane`: help with an example, exit codes, errors of one line that name no patient."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from echoplane import cli
from echoplane.bundle import read
from echoplane.cli import predict
from echoplane.errors import StageError
from echoplane.phantom import write_patient
from tests.tiny_bundle import make_tiny_bundle
from tests.tiny_cine import beating_heart

KEY = "00112233445566778899aabbccddeefffedcba98765432100123456789abcdef"
STAGES = ("dataset", "train", "export", "evaluate", "promote")


@pytest.fixture(scope="module")
def exams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of one invented patient."""
    folder = tmp_path_factory.mktemp("exams")
    write_patient(folder, 7, views=["plax", "a4c"], frames=16)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "deid.key"
    path.write_text(KEY)
    return str(path)


def clips_of(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*") if path.is_file())


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_an_example_of_its_own_in_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(command, capsys)
    assert f"example:\n  echoplane {command} " in shown


@pytest.mark.parametrize("command", sorted(set(cli.COMMANDS) - {"phantom", "token"}))
def test_an_example_is_a_call_that_is_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is there to work on, so that it fails; but not over its options, which would end the program."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # else two of them wait 14 s for a server
    arguments = cli.COMMANDS[command].example.split()[1:]
    assert cli.main(arguments) in (1, 2)
    assert "usage" not in capsys.readouterr().err


@pytest.mark.parametrize("command", STAGES)
def test_every_field_of_a_stage_is_an_option_with_its_line_as_help(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib

    shown = " ".join(help_of(command, capsys).split())
    for name, field in importlib.import_module(f"echoplane.stages.{command}").Config.model_fields.items():
        assert f"--{name.replace('_', '-')} " in shown
        assert field.description.split()[0] in shown


def test_help_of_the_whole_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\nfrom echoplane.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'numpy', 'pydantic', 'torch', 'mlflow', 'kfp', 'pydicom'} & set(sys.modules)))"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert time.monotonic() - start < 5


def test_a_command_that_is_not_there_is_a_wrong_call() -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["guess"])
    assert ended.value.code == 2


def test_a_setting_out_of_range_is_named_by_its_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dataset", "--root", str(tmp_path), "--studies", "m.json", "--workers", "0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("echoplane dataset: --workers: ")
    assert error.count("\n") == 1


def test_a_failed_stage_ends_with_one_and_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_name: str, _arguments: list[str]) -> int:
        raise StageError("training failed 3 times and was given up.")

    monkeypatch.setitem(cli.COMMANDS, "train", cli.Command("t", "e", fail))
    assert cli.main(["train"]) == 1
    assert capsys.readouterr().err == "echoplane train: training failed 3 times and was given up.\n"


def test_what_nobody_expected_is_told_without_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_name: str, _arguments: list[str]) -> int:
        raise ValueError("can't parse DOE^JANE")

    monkeypatch.delenv("ECHOPLANE_DEBUG", raising=False)
    monkeypatch.setitem(cli.COMMANDS, "deid", cli.Command("t", "e", fail))
    assert cli.main(["deid"]) == 1
    error = capsys.readouterr().err
    assert "ValueError at test_cli.py:" in error
    assert "DOE" not in error
    assert "Traceback" not in error


def test_a_full_disk_is_named_and_the_file_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(_name: str, _arguments: list[str]) -> int:
        return Path("/dev/full").write_text("DOE^JANE")

    monkeypatch.delenv("ECHOPLANE_DEBUG", raising=False)
    monkeypatch.setitem(cli.COMMANDS, "train", cli.Command("t", "e", fill))
    assert cli.main(["train"]) == 1
    error = capsys.readouterr().err
    assert "disk full" in error
    assert "/dev/full" not in error


PLACES = {
    "a manifest that is none": ["dataset", "--root", "{root}", "--studies", "{root}/DOE_JANE.json"],
    "two manifests that are none": ["export", "--root", "{root}", "--samples", "DOE_JANE", "--checkpoint", "DOE_JANE"],
    "samples that are none": ["train", "echo-view-video", "--root", "{root}", "--samples", "DOE_JANE"],
    "phantoms into a file": ["phantom", "echo", "{root}/DOE_JANE/file/x", "--patients", "1"],
    "phantoms where nobody can write": ["phantom", "echo", "/proc/DOE_JANE", "--patients", "1"],
    "results into a file": ["deid", "{root}/DOE_JANE", "{root}/DOE_JANE/file", "--key-file", "{key}"],
    "results where nobody can write": ["deid", "{root}/DOE_JANE", "/proc/DOE_JANE", "--key-file", "{key}"],
    "measures where nobody can write": ["measure", "{root}/sa.nii", "--out", "/proc/DOE_JANE"],
    "a folder of no run": ["deid", "accept", "0", "{root}/DOE_JANE", "--person", "R", "--key-file", "{key}"],
    "a root that is none": ["dataset", "find-patient", "P-DOE_JANE", "--root", "{root}/none"],
}


@pytest.mark.parametrize("name", PLACES)
def test_a_wrong_place_is_a_wrong_call_in_one_line_that_names_no_path(
    name: str, tmp_path: Path, key_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "DOE_JANE").mkdir()
    (tmp_path / "DOE_JANE" / "file").touch()
    nibabel.save(nibabel.Nifti1Image(beating_heart(phases=3)[0].transpose(3, 2, 1, 0), np.eye(4)), tmp_path / "sa.nii")
    call = [part.format(root=tmp_path, key=key_file) for part in PLACES[name]]
    assert cli.main(call) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "DOE" not in said.err
    assert "unexpectedly" not in said.err


@pytest.mark.parametrize(("command", "expected"), [("deid", "goes on"), ("phantom", "begins anew")])
def test_ctrl_c_ends_with_130_and_says_what_the_same_call_does_next(
    command: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(_name: str, _arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, command, dataclasses.replace(cli.COMMANDS[command], run=stopped))
    assert cli.main([command]) == cli.INTERRUPTED
    assert expected in capsys.readouterr().err


def test_phantom_writes_a_patient_and_ends_with_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["phantom", "echo", str(tmp_path / "made"), "--patients", "1", "--frames", "8", "--json"]
    assert cli.main(call) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["counts"].items() >= {"patients": 1, "clips": 12}.items()
    assert "phantom 1/1" in err
    assert len(clips_of(tmp_path / "made")) == 12


def test_deid_of_a_clean_folder_ends_with_zero(tmp_path: Path, exams: Path, key_file: str) -> None:
    done = tmp_path / "done"
    assert cli.main(["deid", str(exams), str(done), "--key-file", key_file, "--workers", "1"]) == 0
    assert len(list((done / "dicom").rglob("*.dcm"))) == 2
    assert (done / "report.json").exists()
    assert (done / "report.html").exists()
    assert (done / "manifest.json").exists()


def test_deid_ends_with_three_where_a_file_is_refused(tmp_path: Path, key_file: str) -> None:
    source = tmp_path / "mixed"
    write_patient(source, 7, views=["plax"], frames=8)
    (source / "notes.txt").write_text("not DICOM")
    assert cli.main(["deid", str(source), str(tmp_path / "done"), "--key-file", key_file, "--workers", "1"]) == 3


def test_deid_may_be_called_again_but_never_writes_into_a_strangers_folder(
    tmp_path: Path, exams: Path, key_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["deid", str(exams), str(tmp_path / "done"), "--key-file", key_file, "--workers", "1"]
    assert [cli.main(call), cli.main(call)] == [0, 0]
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.doc").touch()
    assert cli.main([*call[:2], str(other), *call[3:]]) == 2
    assert "new folder" in capsys.readouterr().err


def test_deid_without_a_key_is_a_wrong_call_that_says_how_to_make_one(
    tmp_path: Path, exams: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ECHOPLANE_DEID_KEY", raising=False)
    assert cli.main(["deid", str(exams), str(tmp_path / "done")]) == 2
    assert "openssl rand -hex 32" in capsys.readouterr().err


def test_predict_prints_a_line_a_file(bundle: Path, exams: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = clips_of(exams)[0]
    assert cli.main(["predict", clip, "--bundle", str(bundle), "--precision", "f32"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert "echo-view-video" in line
    assert line.endswith(" ms")


def test_predict_goes_on_after_a_bad_file_and_ends_with_three(
    tmp_path: Path, bundle: Path, exams: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "DOE^JANE.dcm"
    bad.write_text("no image")
    call = ["predict", str(bad), *clips_of(exams), "--bundle", str(bundle), "--json"]
    assert cli.main(call) == 3
    out, err = capsys.readouterr()
    answers = [json.loads(line) for line in out.splitlines()]
    assert ["error" in answer for answer in answers] == [True, False, False]
    assert sum(answers[1]["probabilities"].values()) == pytest.approx(1)
    assert "file 1 of 3" in err
    assert "DOE" not in err


def test_predict_answers_at_the_precision_that_was_evaluated(
    bundle: Path, exams: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated = {"runtime": "onnxruntime", "precision": "f32", "threads": "1"}
    monkeypatch.setattr(predict, "_champion", lambda _task, _folder: (read(bundle), evaluated))
    for call, runtime in ((["--bundle", str(bundle)], "openvino"), ([], "onnxruntime")):
        assert cli.main(["predict", clips_of(exams)[0], "--json", *call]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["runtime"], answer["precision"]) == (runtime, "f32")


def test_predict_sends_folders_to_the_commands_that_read_them(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["predict", str(tmp_path), "--bundle", str(bundle)]) == 3
    assert "`echoplane batch`" in capsys.readouterr().err


def test_empty_label_shares_are_refused(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", str(tmp_path), "--bundle", str(bundle), "--label-shares", ""]) == 2
    assert "expected JSON" in capsys.readouterr().err


def test_predict_without_a_model_is_a_wrong_call(
    exams: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert cli.main(["predict", clips_of(exams)[0]]) == 2
    assert "--bundle" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_traceback(bundle: Path, exams: Path) -> None:
    command = [sys.executable, "-m", "echoplane.cli", "predict", *clips_of(exams) * 40, "--bundle", str(bundle)]
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | head -1 > /dev/null', "-", *command],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        check=False,
    )
    assert "Traceback" not in done.stderr
