"""Training in a real local Ray: a worker killed with signal 9, and what the finished stage leaves."""

import json
import shutil
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from echoplane.adapters import ray_training
from echoplane.bundle import read, seal
from echoplane.bundle.export import Training
from echoplane.bundle.spec import WEIGHTS, Contents
from echoplane.errors import StageError
from echoplane.stages import dataset, train
from echoplane.stages.stage import Manifest
from echoplane.stages.start import Start
from echoplane.tasks.view_video import learning
from echoplane.training.config import TrainConfig
from tests.tiny_bundle import make_tiny_bundle
from tests.tiny_cohort import write_cohort

TRAINING = TrainConfig(steps=100, epoch_steps=10, batch=8)
DOCUMENTED = {"checkpoint.safetensors", "training.json", "manifest.json", "files.json"}


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Manifest:
    root = tmp_path_factory.mktemp("root")
    studies = write_cohort(root / "deid", patients=10, views=3)
    small = {"frames": 8, "size": 32}
    return dataset.run(dataset.Config(root=str(root), studies=str(studies), preprocessing=small, workers=1))


def config(samples: Manifest) -> train.Config:
    return train.Config(
        root=str(samples.path.parents[1]),
        samples=str(samples.path / "manifest.json"),
        network={"width": 8, "beta": 4},
        training=TRAINING,
    )


def kill_a_worker_after_the_first_checkpoint(settings: train.Config, killed: list[int]) -> None:
    """Adds the number of the killed process to `killed`."""
    stage, deadline = Path(settings.root) / "train", time.monotonic() + 250
    while time.monotonic() < deadline and not killed:
        if list(stage.glob("*.partial/ray/checkpoints/*/state.pt")):
            workers = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in _title(p)]
            workers[-1].kill()
            killed.append(workers[-1].pid)
        time.sleep(0.05)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_a_killed_worker_resumes_from_the_last_checkpoint_and_the_steps_are_the_same(samples, capfd):
    settings, killed = config(samples), []
    killer = threading.Thread(target=kill_a_worker_after_the_first_checkpoint, args=(settings, killed), daemon=True)
    killer.start()
    manifest = train.run(settings)
    killer.join(timeout=5)
    assert killed, "no worker was killed: the test proves nothing"

    described = json.loads((manifest.path / "training.json").read_text())
    assert described["steps"] == manifest.counts["steps"] == TRAINING.steps
    assert [row["epoch"] for row in described["history"]] == list(range(1, TRAINING.epochs + 1))
    assert {path.name for path in manifest.path.iterdir()} == DOCUMENTED
    assert described["split_id"] == samples.counts["split_id"]
    assert set(described["patients_seen"]["train"]).isdisjoint(described["patients_seen"]["validation"])

    module = learning.network(learning.Network(**described["network"]))
    module.load_state_dict(load_file(manifest.path / "checkpoint.safetensors"))

    out, err = capfd.readouterr()
    lines = out.strip().splitlines()
    assert lines[0].startswith("train 0/100 0 s")
    assert lines[-1].startswith("train 100/100 ")
    assert "loss" in lines[-1]
    assert "Traceback" not in err

    assert train.run(settings) == manifest, "a finished stage answers from its folder"


def bundle_of(training: Manifest, folder: Path) -> Path:
    """A bundle with the weights and the network of a training; training reads nothing of its model.onnx."""
    described = Training.read(training.path)
    spec = read(make_tiny_bundle(folder, split_id=described.split_id)).spec
    shutil.copyfile(training.path / "checkpoint.safetensors", folder / WEIGHTS)
    stated = {name: getattr(spec, name) for name in Contents.model_fields} | {"network": described.network}
    seal(folder, Contents(**stated))
    return folder


def test_training_starts_from_a_bundle_on_data_prepared_as_its_own(samples, tmp_path):
    root, still = samples.path.parents[1], TrainConfig(steps=2, epoch_steps=2, batch=8, learning_rate=1e-9)
    first = train.run(config(samples))
    bundle = bundle_of(first, tmp_path / "bundle")
    studies = str(root / "deid" / "manifest.json")
    prepared = dataset.run(dataset.Config(root=str(root), studies=studies, workers=1, start=Start(bundle=str(bundle))))
    settings = train.Config(
        root=str(root),
        samples=str(prepared.path / "manifest.json"),
        start=Start(bundle=str(bundle)),
        training=still,
        workers=1,
    )
    second = train.run(settings)
    learnt, kept = (load_file(each.path / "checkpoint.safetensors") for each in (first, second))
    for name in (name for name, tensor in learnt.items() if tensor.ndim > 1):
        torch.testing.assert_close(kept[name], learnt[name], rtol=0, atol=1e-6)
    described = Training.read(second.path)
    assert described.network == Training.read(first.path).network
    assert described.started_from == read(bundle).id
    assert Training.read(first.path).started_from is None


def test_training_makes_do_with_fewer_workers_than_asked(samples, tmp_path, monkeypatch):
    small = ray_training.ray_cluster
    monkeypatch.setattr(ray_training, "ray_cluster", lambda ray, workers: small(ray, 1))  # a Ray of one core
    short = TrainConfig(steps=4, epoch_steps=2, batch=8)
    state = ray_training.fit(job_of(samples, short), tmp_path / "ray", workers=3, fewest=1, on_progress=lambda *_: None)
    assert state.steps == short.steps


def test_a_training_that_diverges_is_not_tried_again(samples, tmp_path):
    hot = TrainConfig(steps=8, epoch_steps=2, batch=8, learning_rate=1e30, warmup=0)
    with pytest.raises(StageError, match="training diverged"):
        ray_training.fit(job_of(samples, hot), tmp_path / "ray", workers=1, on_progress=lambda *_: None)


def job_of(samples: Manifest, training: TrainConfig) -> ray_training.Job:
    return ray_training.Job(
        task="echo-view-video",
        samples=str(samples.path),
        network=learning.Network(width=8, beta=4).model_dump(mode="json"),
        augmentation=learning.Augmentation().model_dump(mode="json"),
        training=training,
    )
