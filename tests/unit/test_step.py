"""A stage as a pipeline's step: what it leaves for the last one, and what that one says."""

import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kfp import dsl

from components.readme import component
from echoplane.errors import ConfigError, StageError
from echoplane.markdown import inline
from echoplane.stages import ended, phantom
from echoplane.stages.outputs import Promotion
from echoplane.stages.stage import Manifest
from echoplane.stages.step import RUN_VARIABLE, records, step
from echoplane.stages.workers import GIB, default_workers

RUN = "echo-view-x7k2p"


@pytest.fixture(autouse=True)
def pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    monkeypatch.delenv("ECHOPLANE_DEBUG", raising=False)
    monkeypatch.setenv("KFP_POD_NAME", f"{RUN}-system-container-impl-1")


def manifest(output: Promotion | None, **counts: object) -> Manifest:
    return Manifest(stage="promote", key="0", digest="0", folder="/w", counts=counts, output=output, duration_s=1)


def report(root: Path, state: str) -> str:
    return ended.run(ended.Config(root=str(root), run=RUN, state=state))[1]


def outcome(root: Path, state: str) -> str:
    return ended.run(ended.Config(root=str(root), run=RUN, state=state))[0]


def test_a_step_that_ended_well_leaves_what_it_counted(tmp_path: Path) -> None:
    with step("promote", str(tmp_path)) as publish_manifest:
        refused = Promotion(passed=False, refused_by=("accuracy is 0.3, 0.8 is needed",))
        made = manifest(refused, passed=False, patients={"train": 24, "test": 22})
        publish_manifest(made, str(tmp_path / "artifact"))
    assert Manifest.read(tmp_path / "artifact").stage == "promote"
    said = report(tmp_path, "COMPLETE")
    assert f"# {RUN}: REFUSED: the model does not serve" in said, "K11: a refusal must not look like a success"
    assert outcome(tmp_path, "COMPLETE") == "refused"
    assert "| promote | 0 | passed no, patients train 24, patients test 22 |" in said
    assert "- accuracy is 0.3, 0.8 is needed" in said


def test_an_error_of_ours_is_one_sentence_and_the_last_step_repeats_it(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="echoplane train: the data are gone"), step("train", str(tmp_path)):
        raise StageError("the data are gone")
    said = report(tmp_path, "FAILED")
    assert f"# {RUN}: FAILED" in said
    assert outcome(tmp_path, "FAILED") == "failed"
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
    assert f"# {RUN}: FAILED" in said
    assert f"workflow={RUN}" in said


def test_a_promoted_model_is_named_in_the_headline(tmp_path: Path) -> None:
    with step("promote", str(tmp_path)) as publish_manifest:
        publish_manifest(manifest(Promotion(passed=True, refused_by=())), str(tmp_path / "artifact"))
    assert outcome(tmp_path, "SUCCEEDED") == "promoted"
    assert f"# {RUN}: promoted: the model serves" in report(tmp_path, "SUCCEEDED")


def test_a_model_that_waits_as_challenger_is_not_said_to_serve(tmp_path: Path) -> None:
    with step("promote", str(tmp_path)) as publish_manifest:
        publish_manifest(manifest(Promotion(passed=True, refused_by=(), waits=True)), str(tmp_path / "artifact"))
    assert outcome(tmp_path, "SUCCEEDED") == "challenger"
    assert "the model serves" not in report(tmp_path, "SUCCEEDED")


def test_a_decision_is_read_from_the_output_never_from_the_counts(tmp_path: Path) -> None:
    with step("promote", str(tmp_path)) as publish_manifest:
        publish_manifest(manifest(None, passed=True), str(tmp_path / "artifact"))
    with pytest.raises(ConfigError, match=r"manifest of `promote` does not state what is needed here \(Promotion\)"):
        outcome(tmp_path, "SUCCEEDED")


TERMINATED_STEP = """
import signal, sys, time
from echoplane.stages.step import step
with step("train", sys.argv[1]):
    try:
        print("started", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
"""


@pytest.mark.parametrize(
    ("ending", "status", "words"),
    [(signal.SIGTERM, 143, "was terminated (SIGTERM)"), (signal.SIGKILL, -9, "was killed (memory, time limit, node)")],
)
def test_k4_a_step_that_is_ended_from_outside_is_in_the_summary_with_the_reason(
    tmp_path: Path, ending: signal.Signals, status: int, words: str
) -> None:
    command = [sys.executable, "-c", TERMINATED_STEP, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "started\n"
    process.send_signal(ending)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == status
    assert ("cleaned up" in output) is (ending == signal.SIGTERM), "a RayJob is deleted on the way out"
    page = report(tmp_path, "RUNNING")
    assert f"# {RUN}: FAILED" in page
    assert words in page
    assert "| train |" in page


def test_k4_a_forked_child_that_is_terminated_does_not_speak_for_its_step(tmp_path: Path) -> None:
    with step("deid", str(tmp_path)), multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1
        pool.terminate()
    assert not records(tmp_path, RUN)[0].reason


def test_k3_names_with_underscores_stay_whole_in_markdown(tmp_path: Path) -> None:
    with step("promote", str(tmp_path)) as publish_manifest:
        refused_by = ("patients_in_two_splits is 1 | 0 is needed", "latency_p50_ms is 200 *ms*")
        refused = Promotion(passed=False, refused_by=refused_by)
        publish_manifest(manifest(refused, patients_in_two_splits=1), str(tmp_path / "artifact"))
    page = report(tmp_path, "COMPLETE")
    assert "`patients_in_two_splits` 1" in page
    assert "- `patients_in_two_splits` is 1 \\| 0 is needed" in page
    assert "- `latency_p50_ms` is 200 \\*ms\\*" in page
    assert inline("already `as_code` and not_yet") == "already `as_code` and `not_yet`"


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
    assert component("ended").python_func(root=str(tmp_path), report=page, status=status) == "succeeded"
    assert f"# {RUN}: succeeded" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(("limit", "most"), [(f"{3 * GIB}", 3), ("104857600", 1), ("max", 10_000)])
def test_a_stage_starts_no_more_processes_than_memory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    (tmp_path / "memory.max").write_text(limit + "\n")
    assert default_workers((str(tmp_path / "none"), str(tmp_path / "memory.max"))) == min(64, most)
