"""Pipeline cmr through kfp.local, with real Ray and a real MLflow server: from synthetic hearts to an answer over HTTP.

The network takes six steps: these tests are of the path, not of the model."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from echoplane.adapters.local_mlflow import local_server
from echoplane.adapters.registry import Registry
from echoplane.signing import TRUSTED_KEYS
from echoplane.stages.stage import Manifest
from pipelines.local import manifests
from tests.serving_process import serve

TASK = "cmr-segmentation"
POLICY = """
schema: 1
min_patients: 1
floors_low: {dice/lv-cavity: 0.0}
margins: {}
min_shared: 0.1
label_floors: {}
subgroup_floors: {}
min_group_patients: 1
ceilings: {flagged: 1.0}
latency_p95_ms: 600000
"""
PARAMETERS = [
    *("--patients", "6", "--frames", "8", "--split", '{"validation": 0.34, "test": 0.34}'),
    *("--network", '{"width": 8}', "--augmentation", '{"crop": 64}'),
    *("--training", '{"steps": 6, "epoch_steps": 3, "batch": 8}'),
]
pytestmark = pytest.mark.timeout(1000)


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with local_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tracking_uri: str) -> dict[str, Manifest]:
    """The manifests of a run, by stage."""
    root = tmp_path_factory.mktemp("work")
    (root / "policy.yaml").write_text(POLICY)
    given = ["--root", str(root), "--gate-policy", str(root / "policy.yaml")]
    run = subprocess.run(
        [sys.executable, "-m", "pipelines", "run", "cmr", *given, *PARAMETERS],
        env=os.environ | {"MLFLOW_TRACKING_URI": tracking_uri},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
    return manifests(root)


def test_masks_go_through_every_stage(done: dict[str, Manifest]) -> None:
    assert set(done) >= {"phantom", "dataset", "train", "export", "evaluate", "promote"}
    assert done["phantom"].counts == {"patients": 6, "cines": 18}
    assert done["train"].counts["steps"] == 6
    assert done["export"].counts["studies"] == 2
    assert done["evaluate"].counts["patients"] == 2


def test_no_patient_is_trained_on_and_tested(done: dict[str, Manifest]) -> None:
    seen = json.loads((done["train"].path / "training.json").read_text())["patients_seen"]
    scores = pq.read_table(done["evaluate"].path / "scores.parquet")
    assert not {p for patients in seen.values() for p in patients} & set(scores["patient"].to_pylist())


def test_the_evaluation_has_overlaps_agreement_and_failures_by_name(done: dict[str, Manifest]) -> None:
    found = json.loads((done["evaluate"].path / "evaluation.json").read_text())
    assert found["figures"].keys() >= {"dice/lv-cavity/ed", "dice/rv-cavity/es", "dice/left-atrium/2-chamber/max"}
    assert found["agreement"]["lvedv_ml"].keys() >= {"bias", "low", "high", "mae", "n"}
    assert len(found["failures"]) == 2, "six steps teach nothing"
    page = (done["evaluate"].path / "report.html").read_text()
    assert "Bai et al. 2018" in page
    assert page.count("data:image/png;base64,") == 1


def test_the_champion_answers_at_the_service(done: dict[str, Manifest], tracking_uri: str, tmp_path: Path) -> None:
    champion = Registry(tracking_uri).champion(TASK)
    assert champion
    assert champion.bundle_id == done["export"].counts["bundle_id"]
    row = pq.read_table(done["evaluate"].path / "scores.parquet").to_pylist()[0]
    study = done["phantom"].path / "studies" / row["patient"] / "sa.nii.gz"
    trusted = Path(os.environ["XDG_CONFIG_HOME"]) / "echoplane" / TRUSTED_KEYS  # of the key that the run made
    settings = {"MLFLOW_TRACKING_URI": tracking_uri, "ECHOPLANE_TASKS": TASK, "ECHOPLANE_TRUSTED_KEYS": str(trusted)}
    with serve(tmp_path, settings) as running, running.client() as client:
        response = client.post(f"/v1/{TASK}", files={"file": study.read_bytes()})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["model"]["bundle"] == champion.bundle_id
    assert answer["model"]["version"] == champion.number
    assert answer["confidence"] == pytest.approx(row["confidence"], abs=1e-6)
    found = answer["details"]["measures"]
    assert (found["lvef_percent"] or 0.0) == pytest.approx(row["measured/lvef_percent"], abs=0.001)
