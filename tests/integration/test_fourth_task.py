"""A task that measures, from a package of its own: nothing of echoplane knows it but by its entry point.

Ejection fraction from an apical clip of the phantom goes through dataset, train, export, evaluate, promote and serve.
"""

import asyncio
import csv
import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from echoplane import tasks
from echoplane.adapters.local_mlflow import local_server
from echoplane.adapters.registry import Registry
from echoplane.errors import ConfigError
from echoplane.phantom import make_patient, scan_echo, write_clip
from echoplane.promotion import read_policy
from echoplane.settings import ServingSettings
from echoplane.stages import dataset, evaluate, export, promote, stage, train
from echoplane.stages.outputs import Promotion, Studies
from echoplane.stages.stage import Manifest
from echoplane.study.dicom import read_dicom
from echoplane.training.config import TrainConfig
from serving.api.http import app
from serving.api.models.slots import Slot
from serving.api.models.sources import FolderSource, RegistrySource
from tests.tiny_bundle import make_tiny_bundle
from tests.trusting import ANYONE

PATIENTS, FRAMES = 10, 8
ENTRY_POINT = "[echoplane.tasks]\necho-ef = ef_task\n"

NUMPY_HALF = '''
"""Ejection fraction of the left ventricle from one apical clip."""

from typing import Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict

from echoplane.study.study import Instance, Pixels, Study
from echoplane.tasks import task

NAME = "echo-ef"
MODALITY = "US"
STUDY: Literal["file"] = "file"
TRUTH: Literal["value"] = "value"
TRUTH_COLUMN = "lvef_percent"
HEADLINE = ("mae", "bias")


class Preprocessing(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    frames: int = 4
    size: int = 32


class Thresholds(task.Thresholds):
    offset_percent: float


def labels():
    return (task.Label("lvef_percent", "LV ejection fraction", "10230-1", "LN", "Left ventricular ejection fraction"),)


def accepts(study):
    return len(study.instances) == 1 and study.instances[0].modality == "US" and study.instances[0].frame_count > 3


def preprocess(study, config):
    clip = study.only
    indices = [k * clip.frame_count // config.frames for k in range(config.frames)]
    frames_THW = clip.frames.grey(indices)
    small = [cv2.resize(frame, (config.size, config.size), interpolation=cv2.INTER_AREA) for frame in frames_THW]
    return task.Prepared(np.stack(small)[None])


def infer(run, prepared):
    return run(prepared.batch)


def interpret(outputs, study, place, thresholds):
    value = float(outputs[0, 0]) + thresholds.offset_percent
    return task.Measurement(label="lvef_percent", value=value, unit="%")


def samples(study, prepared, truth):
    return task.Samples(prepared.batch, (0,), (truth,))


def calibrate(batches):
    errors = np.concatenate([targets - outputs[:, 0] for outputs, targets, _ in batches])
    offset = float(errors.mean())
    return task.Calibration(Thresholds(offset_percent=offset), {"clips": len(errors)}, f"Offset {offset:.1f} points.")


def about(thresholds):
    return "The ejection fraction in percent."


def score(result, study, truth):
    return {"truth": truth, "value": result.value, "error": result.value - truth}


def summary(rows):
    return {"mae": float(np.abs(rows["error"]).mean()), "bias": float(rows["error"].mean())}


def showing(rows):
    return {"lvef_percent": np.arange(len(rows["error"]))}


def details(rows):
    return {}


def example(seed):
    frames = np.random.default_rng(seed).integers(0, 255, (8, 64, 64), np.uint8)
    return Study((Instance("example", "US", 8, 64, 64, Pixels(frames), frame_time_ms=40.0),))
'''
TORCH_HALF = """
import numpy as np
from pydantic import BaseModel
from torch import nn

from ef_task import Preprocessing


class Network(BaseModel):
    width: int = 8


class Augmentation(BaseModel):
    pass


class Small(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.look, self.answer = nn.Conv2d(Preprocessing().frames, width, 8, 8), nn.Linear(width, 1)

    def forward(self, clip_BTHW):
        embedding = self.look(clip_BTHW.float() / 255).relu().mean(dim=(2, 3))
        return 55 + 15 * self.answer(embedding), embedding


def network(config):
    return Small(config.width)


def parts(samples, truths):
    return samples, truths.astype(np.float32)


def loss(output, target):
    return ((output[:, 0] - target) ** 2).mean()


def score(output, target):
    return 1 / (1 + (output[:, 0] - target).abs())


def augment(sample, rng, config):
    return sample
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package on the path of this process and of all that it starts."""
    site = tmp_path / "site"
    for path, text in {
        "ef_task/__init__.py": NUMPY_HALF,
        "ef_task/learning.py": TORCH_HALF,
        "ef_task-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: ef-task\nVersion: 1\n",
        "ef_task-1.dist-info/entry_points.txt": ENTRY_POINT,
    }.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    _forget_tasks()
    yield
    _forget_tasks()


def _forget_tasks() -> None:
    importlib.invalidate_caches()
    tasks._others.cache_clear()
    stage.package_digest.cache_clear()
    for name in ("ef_task", "ef_task.learning"):
        sys.modules.pop(name, None)


def write_studies(folder: Path) -> str:
    """One apical clip per synthetic patient, with its ejection fraction in labels.csv; the manifest's path."""
    (folder / "dicom").mkdir(parents=True)
    rows = [("instance", "lvef_percent")]
    for seed in range(PATIENTS):
        patient, path = make_patient(seed), folder / "dicom" / f"{seed}.dcm"
        write_clip(scan_echo(patient, "a4c", 1, frames=FRAMES), patient, path)
        instance = read_dicom(path).only.identity.instance_uid  # type: ignore[union-attr]
        rows.append((instance, f"{100 * patient.heart.ef:.1f}"))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    output = Studies(unit="file", count=PATIENTS, identity="unknown")
    stated = {"stage": "phantom", "key": "0", "digest": "0", "folder": str(folder), "counts": {}, "duration_s": 0}
    Manifest(**stated, output=output).write(folder / "manifest.json")
    return str(folder / "manifest.json")


def lenient_policy(path: Path) -> str:
    policy = read_policy(tasks.BUILT_IN[0]).model_dump(by_alias=True)
    emptied = {name: {} for name, value in policy.items() if isinstance(value, dict)}
    fewest = next(name for name in policy if name.endswith("_patients") and "group" not in name)
    path.write_text(json.dumps(policy | emptied | {fewest: 1, "ceilings": {"mae": 40.0}, "latency_p95_ms": 60_000}))
    return str(path)


def post(slots: dict[str, Slot], path: str, content: bytes) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app.build(app.Service(slots, ServingSettings())))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.post(path, content=content, headers={"content-type": "application/dicom"})

    return asyncio.run(send())


def test_without_its_entry_point_nobody_knows_the_task() -> None:
    with pytest.raises(ConfigError, match="there is no task 'echo-ef'"):
        tasks.by_name("echo-ef")


def test_a_regression_goes_from_data_to_answers_without_a_change_of_echoplane(installed: None, tmp_path: Path) -> None:
    root, studies = str(tmp_path / "work"), write_studies(tmp_path / "studies")
    split = {"validation": 0.2, "test": 0.4}
    made = dataset.run(
        dataset.Config(root=root, studies=studies, task="echo-ef", public="phantoms", split=split, workers=1)
    )
    rows = pq.read_table(made.path / "catalogue.parquet").to_pylist()
    assert sorted(row["value"] for row in rows) == sorted(
        round(100 * make_patient(seed).heart.ef, 1) for seed in range(PATIENTS)
    )
    assert {(row["label"], row["mask_uri"]) for row in rows} == {(None, None)}
    samples = f"{made.folder}/manifest.json"
    training = TrainConfig(steps=20, epoch_steps=10, batch=4, learning_rate=1e-2)
    trained = train.run(train.Config(root=root, samples=samples, training=training, workers=1))
    exported = export.run(export.Config(root=root, samples=samples, checkpoint=f"{trained.folder}/manifest.json"))
    described = json.loads((exported.path / "bundle.json").read_text())
    assert set(described["thresholds"]) == {"abstain_below", "offset_percent"}
    bundle = f"{exported.folder}/manifest.json"
    evaluated = evaluate.run(evaluate.Config(root=root, studies=studies, samples=samples, bundle=bundle, resamples=100))
    found = json.loads((evaluated.path / "evaluation.json").read_text())
    assert 0 < found["figures"]["mae"]["low"] <= found["figures"]["mae"]["value"] < 40
    with local_server(tmp_path / "mlflow") as uri:
        decided = promote.run(
            promote.Config(
                root=root,
                bundle=bundle,
                evaluation=f"{evaluated.folder}/manifest.json",
                tracking_uri=uri,
                policy=lenient_policy(tmp_path / "policy.yaml"),
            )
        )
        assert decided.stated(Promotion).passed
        view = make_tiny_bundle(tmp_path / "view")
        slots = {
            "echo-view-video": Slot("echo-view-video", FolderSource(view), {}),
            "echo-ef": Slot("echo-ef", RegistrySource("echo-ef", lambda: Registry(uri), trust=ANYONE), {}),
        }
        for slot in slots.values():
            slot.refresh()
            assert slot.problem is None
    clip = (tmp_path / "studies" / "dicom" / "0.dcm").read_bytes()
    alone = post(slots, "/v1/echo-ef", clip).json()
    assert (alone["label"], alone["title"], alone["code"]["value"]) == (
        "lvef_percent",
        "LV ejection fraction",
        "10230-1",
    )
    assert (alone["confidence"], alone["threshold"], alone["probabilities"]) == (None, None, {})
    assert 0 < alone["details"]["measures"]["lvef_percent"] < 100
    both = post(slots, "/v1/study", clip).json()["files"]
    assert [(file["index"], file["answer"]["task"]) for file in both] == [(0, "echo-view-video"), (0, "echo-ef")]
    assert both[1]["answer"]["details"] == alone["details"]
    for slot in slots.values():
        slot.close()
