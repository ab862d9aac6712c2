"""A stage as a pipeline's step: what it leaves for the last one, and what that one says."""

from pathlib import Path

import pytest
from kfp import dsl

from components.readme import component
from echoplane.errors import StageError
from echoplane.stages import ended, phantom
from echoplane.stages.stage import Manifest
from echoplane.stages.step import RUN_VARIABLE, records, step
from echoplane.stages.workers import GIB, default_workers

RUN = "echo-view-x7k2p"


@pytest.fixture(autouse=True)
def pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    monkeypatch.delenv("ECHOPLANE_DEBUG", raising=False)
    monkeypatch.setenv("KFP_POD_NAME", f"{RUN}-system-container-impl-1")


def manifest(**counts: object) -> Manifest:
    return Manifest(stage="promote", key="0", digest="0", folder="/w", counts=counts, duration_s=1)


def report(root: Path, state: str) -> str:
    return ended.run(ended.Config(root=str(root), run=RUN, state=state))


def test_a_step_that_ended_well_leaves_what_it_counted(tmp_path: Path) -> None:
    with step("promote", str(tmp_path)) as hand_on:
        made = manifest(passed=False, refused_by=["accuracy is 0.3, 0.8 is needed"], patients={"train": 24, "test": 22})
        hand_on(made, str(tmp_path / "artifact"))
    assert Manifest.read(tmp_path / "artifact").stage == "promote"
    said = report(tmp_path, "COMPLETE")
    assert f"# {RUN}: ended well" in said
    assert "| promote | 0 | passed no, patients train 24, patients test 22 |" in said
    assert "- accuracy is 0.3, 0.8 is needed" in said


def test_an_error_of_ours_is_one_sentence_and_the_last_step_repeats_it(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="echoplane train: the data are gone"), step("train", str(tmp_path)):
        raise StageError("the data are gone")
    said = report(tmp_path, "FAILED")
    assert f"# {RUN}: failed" in said
    assert "**train**: the data are gone" in said


def test_what_nobody_expected_is_told_without_its_text(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ending, step("deid", str(tmp_path)):
        raise ValueError("can't parse DOE^JANE")
    assert "ValueError at test_step.py" in str(ending.value)
    assert "DOE" not in str(ending.value) + report(tmp_path, "FAILED")


def test_a_wrong_parameter_is_named_without_its_value(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ending:
        component("phantom").python_func(root=str(tmp_path), patients=-7, seed=1, frames=24, source="", studies=None)
    assert "`patients`" in str(ending.value)
    assert "greater than or equal to 0" in report(tmp_path, "FAILED")
    assert "-7" not in report(tmp_path, "FAILED")


def test_a_run_whose_step_was_killed_says_where_to_look(tmp_path: Path) -> None:
    with step("phantom", str(tmp_path)):
        pass
    said = report(tmp_path, "RUNNING")
    assert f"# {RUN}: failed" in said
    assert f"workflow={RUN}" in said


def test_a_run_is_not_told_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_POD_NAME", "echo-view-zzzzz-system-container-impl-2")
    with pytest.raises(SystemExit), step("train", str(tmp_path)):
        raise StageError("of another run")
    assert records(tmp_path, RUN) == []
    assert "another run" not in report(tmp_path, "FAILED")


def test_outside_of_pipelines_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KFP_POD_NAME")
    with step("phantom", str(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_not_there_hides_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="`root` can't be written"), step("phantom", str(tmp_path / "file")):
        phantom.run(phantom.Config(root=str(tmp_path / "file"), patients=0))


def test_the_component_is_given_kubeflows_word(tmp_path: Path) -> None:
    with step("phantom", str(tmp_path)):
        pass
    page = dsl.Markdown(uri=str(tmp_path / "report.md"))
    status = dsl.PipelineTaskFinalStatus("COMPLETE", RUN, "steps", None, None)
    component("ended").python_func(root=str(tmp_path), report=page, status=status)
    assert f"# {RUN}: ended well" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(("limit", "most"), [(f"{3 * GIB}", 3), ("104857600", 1), ("max", 10_000)])
def test_a_stage_starts_no_more_processes_than_memory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    (tmp_path / "memory.max").write_text(limit + "\n")
    assert default_workers((str(tmp_path / "none"), str(tmp_path / "memory.max"))) == min(64, most)
