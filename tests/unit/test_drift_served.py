"""From answers over HTTP to an alarm: the service's log against the studies that the model was accepted on."""

import asyncio
import json
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.types import ASGIApp

from echoplane import runtimes
from echoplane.bundle import read
from echoplane.cli import main
from echoplane.errors import ConfigError
from echoplane.evaluation.scores import SCHEMA, input_columns
from echoplane.files import digest_of
from echoplane.runtimes import InferenceSettings
from echoplane.settings import ServingSettings
from echoplane.stages import drift
from echoplane.stages.outputs import Evaluation
from echoplane.stages.stage import Manifest, file_digests
from echoplane.study.reading import read_study
from serving.api.http import app
from serving.api.models.slots import Slot
from serving.api.models.sources import FolderSource
from tests import dicom_files as dicom
from tests.tiny_bundle import TASK, make_tiny_bundle
from tests.tiny_evaluation import draw_scores, make_record

ACCEPTED, BEFORE, AFTER = 240, 60, 120
GROUPS = ["manufacturer not stated", "model not stated", "site none"]


def clip(rng: np.random.Generator, gain: float = 1.0) -> bytes:
    frames_THW = dicom.moving_disc() * rng.normal(0.6, 0.05) * gain
    return dicom.jpeg_clip(np.clip(frames_THW, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> str:
    """The manifest of an evaluation whose scores come from the very function that serves."""
    folder, rng = tmp_path_factory.mktemp("evaluation"), np.random.default_rng(1)
    model = runtimes.open(read(bundle), InferenceSettings())
    rows = [scored(model, clip(rng), number) for number in range(ACCEPTED)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "scores.parquet")
    (folder / "evaluation.json").write_text(json.dumps(make_record(draw_scores())))
    digest = digest_of(file_digests(folder))
    output = Evaluation(bundle_id=read(bundle).id)
    Manifest(
        stage="evaluate", key="0", digest=digest, folder=str(folder), counts={}, output=output, duration_s=0
    ).write(folder / "manifest.json")
    return str(folder / "manifest.json")


def scored(model, content: bytes, number: int) -> dict:
    given = runtimes.answer(read_study(content), model)
    common = {field.name: 0.0 if pa.types.is_floating(field.type) else f"{number}" for field in SCHEMA}
    known = {"label": given.result.label, "confidence": given.result.confidence, "abstained": False}
    return common | known | input_columns(given)


async def statuses(service: ASGIApp, clips: list[bytes]) -> set[int]:
    """The statuses of the answers to `clips`, asked one after the other without a server."""
    headers = {"content-type": "application/dicom"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service), base_url="http://127.0.0.1") as client:
        return {(await client.post(f"/v1/{TASK}", content=one, headers=headers)).status_code for one in clips}


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    """The log of a service that answered BEFORE studies as accepted, then AFTER with another gain."""
    folder, rng = tmp_path_factory.mktemp("log"), np.random.default_rng(2)
    slot = Slot(TASK, FolderSource(bundle), {})
    slot.refresh()
    service = app.Service({TASK: slot}, ServingSettings(prediction_log=str(folder)))
    clips = [clip(rng, 1.0 if number < BEFORE else 1.5) for number in range(BEFORE + AFTER)]
    assert asyncio.run(statuses(app.build(service), clips)) == {200}
    service.close()
    slot.close()
    return folder


def test_another_gain_is_found_named_and_dated(evaluation: str, logged: Path, tmp_path: Path) -> None:
    page = tmp_path / "drift.html"
    found = drift.run(drift.Config(evaluation=evaluation, predictions=str(logged), out=str(page)))
    assert found["studies"] == BEFORE + AFTER
    assert found["drifts"]
    assert found["alarm"]["stream"] in ("brightness", "contrast", "sharpness", "embedding distance", "motion", "dark")
    assert found["alarm"]["studies"] <= AFTER
    assert [group["group"] for group in found["groups"]] == GROUPS
    assert "Studies have changed" in page.read_text()


def test_studies_as_accepted_are_no_drift(evaluation: str, logged: Path, tmp_path: Path) -> None:
    lines = [line for path in sorted(logged.glob("*.jsonl")) for line in path.read_text().splitlines()]
    (tmp_path / "predictions.jsonl").write_text("".join(f"{line}\n" for line in lines[:BEFORE]))
    found = drift.run(drift.Config(evaluation=evaluation, predictions=str(tmp_path)))
    assert (found["studies"], found["drifts"], found["alarm"]) == (BEFORE, False, None)


def test_the_log_names_no_patient(logged: Path) -> None:
    text = "".join(path.read_text() for path in logged.glob("*.jsonl"))
    assert len(text.splitlines()) == BEFORE + AFTER
    for secret in (dicom.PATIENT, dicom.PATIENT_ID, "1.2."):
        assert secret not in text


def test_the_command_says_it_in_lines_and_as_json(evaluation: str, logged: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["drift", "--evaluation", evaluation, "--predictions", str(logged)]
    assert main(arguments) == 0
    assert "drift: " in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["drifts"] is True


def test_a_log_of_another_bundle_and_a_small_reference_are_refused(
    evaluation: str, logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="no prediction log"):
        drift.run(drift.Config(evaluation=evaluation, predictions=str(tmp_path)))
    (tmp_path / "other.jsonl").write_text(
        next(logged.glob("*.jsonl")).read_text().replace(Manifest.read(evaluation).output.bundle_id, "0" * 64)
    )
    with pytest.raises(ConfigError, match="no study that bundle"):
        drift.run(drift.Config(evaluation=evaluation, predictions=str(tmp_path)))
    monkeypatch.setattr(drift, "MIN_REFERENCE", ACCEPTED + 1)
    with pytest.raises(ConfigError, match="needs a reference of 241"):
        drift.run(drift.Config(evaluation=evaluation, predictions=str(logged)))
