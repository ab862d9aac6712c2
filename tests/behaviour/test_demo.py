"""The demo as a user meets it, small: killed in the middle, started again, its report, nothing left behind."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.interrupting import kill_once

PARAMETERS = {
    "patients": "6",
    "frames": "12",
    "split": '{"validation": 0.34, "test": 0.34}',
    "training": '{"steps": 12, "epoch_steps": 6, "batch": 8}',
}
ANYTHING_PASSES = """
schema: 1
min_patients: 1
floors_low: {accuracy: 0.0}
margins: {}
min_shared: 0.1
label_floors: {}
subgroup_floors: {}
min_group_patients: 1
ceilings: {}
latency_p95_ms: 60000
"""
MIB = 1 << 20
pytestmark = pytest.mark.timeout(1000)


class Demo:
    """A small demo in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder / "build", folder / "log.txt"
        policy = folder / "policy.yaml"
        policy.write_text(ANYTHING_PASSES)
        parameters = PARAMETERS | {"gate_policy": str(policy)}
        self.program = (
            "from pathlib import Path\nfrom demo.run import run, summary\n"
            f"print('\\n'.join(summary(run(Path({str(self.folder)!r}), {parameters!r}))))"
        )

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            return subprocess.Popen([sys.executable, "-c", self.program], stdout=log, stderr=subprocess.STDOUT)

    def kill_at(self, stage: str) -> list[psutil.Process]:
        """Run, kill -9 once `stage` has begun; what it had started."""
        return kill_once(self.start(), lambda: bool(list(self.folder.glob(f"work/{stage}/*.partial"))), self.log)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return Demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def killed(demo: Demo) -> list[psutil.Process]:
    return demo.kill_at("train")


@pytest.fixture(scope="module")
def report(demo: Demo, killed: list[psutil.Process]) -> dict[str, Any]:
    """Returns the report of the run after the killed one."""
    run = demo.start()
    assert run.wait(timeout=900) == 0, demo.log.read_text()[-3000:]
    found: dict[str, Any] = json.loads((demo.folder / "report.json").read_text())
    return found


def test_a_killed_demo_takes_its_servers_and_steps_with_it(killed: list[psutil.Process]) -> None:
    assert len(killed) > 4
    _, alive = psutil.wait_procs(killed, timeout=20)
    assert alive == []


def test_started_again_it_goes_on_from_the_last_finished_stage(report: dict[str, Any]) -> None:
    resumed = {stage["name"]: stage["resumed"] for stage in report["stages"]}
    assert [name for name, again in resumed.items() if again] == ["phantom", "deid", "dataset"]


def test_the_report_for_programs_has_what_they_read(report: dict[str, Any]) -> None:
    promised = "accuracy accuracy_low n_test_patients seconds stages gate http_ms data_digest split_id steps skew_max"
    assert set(promised.split()) <= set(report)
    assert report["steps"] == 12
    assert report["n_test_patients"] == 2
    assert report["gate"]["passed"] is True
    assert report["http_ms"]["requests"] == 24


def test_the_service_gives_evaluations_own_probabilities(report: dict[str, Any]) -> None:
    assert report["skew_max"] <= 1e-6


def test_e11_progress_comes_in_lines_and_never_stops_for_long(demo: Demo, report: dict[str, Any]) -> None:
    told = [int(second) for second in re.findall(r"^\[ *(\d+) s, \d/9\]", demo.log.read_text(), re.MULTILINE)]
    assert told[0] == 0
    assert max(later - sooner for sooner, later in itertools.pairwise(told)) <= 40


def test_the_page_needs_nothing_from_anywhere_and_is_small(demo: Demo, report: dict[str, Any]) -> None:
    page = (demo.folder / "report.html").read_text()
    assert len(page) < 8 * MIB
    assert not re.search(r"<script|\b(src|href)=\"(?!data:)|url\((?!data:)|@import", page)
    assert page.count("data:image/webp;base64,") == 14
    assert f"{100 * report['accuracy']:.1f}%" in page


def test_the_run_leaves_no_process_behind(demo: Demo, report: dict[str, Any]) -> None:
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(demo.folder) in " ".join(p.info["cmdline"] or ())]
    assert left == []


def heard() -> None:
    """A shell that runs the tests behind it has its children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_ends_with_a_sentence(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    run = subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=heard,
    )
    assert run.stdout is not None
    run.stdout.readline()
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=120)[0].decode()
    assert run.returncode == 130
    assert "goes on from the last finished stage" in said
    assert "Traceback" not in said
