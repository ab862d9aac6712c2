"""Pipeline echo-view through kfp.local, with real Ray and a real MLflow server: killed, gone on, found finished."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from echoplane.adapters.local_mlflow import local_server
from echoplane.adapters.registry import Registry
from echoplane.stages.stage import Manifest
from pipelines.local import manifests
from tests.interrupting import kill_once

STAGES = ["phantom", "deid", "dataset", "train", "export", "evaluate", "promote"]
STEPS = 12
PARAMETERS = [
    *("--patients", "6", "--frames", "12", "--split", '{"validation": 0.34, "test": 0.34}'),
    *("--training", json.dumps({"steps": STEPS, "epoch_steps": 6, "batch": 8})),
]
pytestmark = pytest.mark.timeout(1000)


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with local_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


class House:
    """One root and what was run in it."""

    def __init__(self, root: Path, tracking_uri: str) -> None:
        self.root, self.log = root, root / "log.txt"
        self.environment = os.environ | {"MLFLOW_TRACKING_URI": tracking_uri}

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pipelines", "run", "echo-view", "--root", str(self.root), *PARAMETERS]
        with self.log.open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=self.environment)

    def finish(self) -> None:
        """Run to the end."""
        run = self.start()
        assert run.wait(timeout=900) == 0, self.log.read_text()[-3000:]

    def kill_at(self, stage: str) -> list[psutil.Process]:
        """Run, kill -9 the runner once `stage` has begun its folder; what it had started."""
        return kill_once(self.start(), lambda: bool(list(self.root.glob(f"{stage}/*.partial"))), self.log)

    def made(self) -> dict[str, float]:
        """When each stage's manifest was written."""
        return {m.stage: (m.path / "manifest.json").stat().st_mtime for m in manifests(self.root).values()}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, tracking_uri: str) -> House:
    return House(tmp_path_factory.mktemp("work"), tracking_uri)


@pytest.fixture(scope="module")
def killed(house: House) -> tuple[list[psutil.Process], list[Manifest]]:
    """A run that was killed while it made the dataset, and what was finished then."""
    started = house.kill_at("dataset")
    finished = [Manifest.read(path) for path in house.root.glob("*/*/manifest.json") if path.parts[-3] in STAGES]
    return started, finished


@pytest.fixture(scope="module")
def done(house: House, killed: tuple[list[psutil.Process], list[Manifest]]) -> dict[str, Manifest]:
    """The manifests of a run that went on from the killed one."""
    house.finish()
    return manifests(house.root)


def test_a_killed_runner_leaves_nobody_writing(killed: tuple[list[psutil.Process], list[Manifest]]) -> None:
    started, _ = killed
    assert started
    _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == []


def test_the_next_run_goes_on_from_the_last_finished_stage(
    killed: tuple[list[psutil.Process], list[Manifest]], done: dict[str, Manifest]
) -> None:
    _, finished = killed
    assert {manifest.stage for manifest in finished} == {"phantom", "deid"}
    for manifest in finished:
        assert done[manifest.stage] == manifest


def test_every_stage_hands_on_its_manifest(done: dict[str, Manifest]) -> None:
    assert sorted(done) == sorted(STAGES)
    assert done["phantom"].counts["clips"] == 72
    assert done["deid"].counts["written"] == 72
    assert done["train"].counts["steps"] == STEPS


def test_no_patient_is_trained_on_and_tested(done: dict[str, Manifest]) -> None:
    seen = json.loads((done["train"].path / "training.json").read_text())["patients_seen"]
    assert sum(map(len, seen.values())) == 4
    assert done["evaluate"].counts["patients"] == 2


def test_a_model_of_a_dozen_steps_is_registered_but_refused(done: dict[str, Manifest], tracking_uri: str) -> None:
    assert done["promote"].counts["passed"] is False
    registry = Registry(tracking_uri)
    assert registry.version_of("echo-view-video", done["export"].counts["bundle_id"])
    assert registry.champion("echo-view-video") is None


def test_patients_stay_out_of_everything_that_travels(house: House, done: dict[str, Manifest]) -> None:
    """The invented names are in the phantoms alone."""
    import pydicom

    first = next(path for path in (done["phantom"].path / "dicom").rglob("IM*"))
    name = str(pydicom.dcmread(first, stop_before_pixels=True).PatientName.family_name).encode()
    for stage in STAGES[1:]:
        for path in done[stage].path.rglob("*"):
            assert not path.is_file() or name not in path.read_bytes(), path.name
    assert name not in house.log.read_bytes()


def test_a_second_run_finds_everything_finished(house: House, done: dict[str, Manifest]) -> None:
    before = house.made()
    house.finish()
    assert house.made() == before
    assert manifests(house.root) == done
