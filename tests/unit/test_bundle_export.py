"""Export: a network becomes a sealed bundle that answers as torch does, or none at all.

The network is a small linear one behind the task's own contract; SlowFast itself is exported in the pipeline."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel
from safetensors.torch import save_file

from echoplane import bundle as bundles
from echoplane import runtimes
from echoplane.bundle import accuracy_fit
from echoplane.bundle import export as exporting
from echoplane.bundle.accuracy_model import AccuracyModel
from echoplane.bundle.export import Training, export
from echoplane.bundle.spec import ACCURACY
from echoplane.dataset.shards import Shards
from echoplane.errors import BundleError, ConfigError
from echoplane.runtimes import InferenceSettings
from echoplane.tasks import by_name

torch = pytest.importorskip("torch")
TASK = by_name("echo-view-video")
CLIPS = 60


class Size(BaseModel):
    features: int = 8


class Linear(torch.nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.features = torch.nn.Linear(16 * 16, size.features)
        self.logits = torch.nn.Linear(size.features, 12)

    def forward(self, batch: Any) -> Any:
        cells = torch.nn.functional.avg_pool3d(batch.float()[:, None] / 255, (16, 4, 4))
        embedding = torch.tanh(self.features(cells.flatten(1)))
        return self.logits(embedding), embedding


class Drifting(Linear):
    """Answers otherwise in torch than what the exporter saw, by `drift`."""

    drift = 0.01

    def forward(self, batch: Any) -> Any:
        output, embedding = super().forward(batch)
        return output + (0.0 if torch.jit.is_tracing() else self.drift), embedding


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Training:
    half = SimpleNamespace(Network=Size, network=Linear, parts=lambda samples, labels: (samples, labels))
    monkeypatch.setattr(exporting, "learning", lambda name: half)
    monkeypatch.setattr(accuracy_fit, "SEVERITIES", (0.5,))
    folder = tmp_path / "train"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(Linear(Size()).state_dict(), folder / "checkpoint.safetensors")
    stated = {"task": TASK.NAME, "network": {"features": 8}, "steps": 3, "split_id": "s", "data_digest": "1" * 64}
    (folder / "training.json").write_text(json.dumps(stated | {"history": []}))
    return Training.read(folder)


def _shards(validation: int = CLIPS) -> Shards:
    rng = np.random.default_rng(0)
    splits = np.array(["validation"] * validation + ["train"] * (CLIPS - validation))
    index = {
        "shard": np.zeros(CLIPS, int),
        "row": np.arange(CLIPS),
        "label": rng.integers(0, 12, CLIPS),
        "sample": np.array([f"s{n:03d}" for n in range(CLIPS)]),
        "patient": np.array([f"p{n // 6}" for n in range(CLIPS)]),
        "split": splits,
        "manufacturer": np.array(["Bars"] * CLIPS),
    }
    return Shards(index, (rng.integers(0, 256, (CLIPS, 16, 64, 64), dtype=np.uint8),))


def _export(training: Training, folder: Path, shards: Shards) -> exporting.Exported:
    folder.mkdir(exist_ok=True)
    code = bundles.Code(version="0", package_digest="0" * 64)
    return export(training, shards, TASK.Preprocessing(), folder, code, lambda done, total: None)


def test_an_exported_bundle_answers_as_torch_does_at_any_batch_size(training: Training, tmp_path: Path) -> None:
    done = _export(training, tmp_path / "bundle", _shards())
    bundle = bundles.read(tmp_path / "bundle")
    assert bundle.id == done.bundle_id
    assert done.parity < 1e-5
    assert AccuracyModel.model_validate_json(bundle.content(ACCURACY)).studies == CLIPS
    assert bundle.thresholds == done.calibration.thresholds
    runtime = runtimes.open(bundle, InferenceSettings(precision="f32")).runtime
    network = exporting._trained_network(training)
    for size in (1, 5):
        batch = _shards().maps[0][:size]
        with torch.inference_mode():
            expected = network(torch.from_numpy(batch))[0].numpy()
        assert np.abs(runtime.run(batch).output - expected).max() < 1e-4


def test_exporting_again_gives_the_same_id(training: Training, tmp_path: Path) -> None:
    first, again = (_export(training, tmp_path / name, _shards()).bundle_id for name in ("a", "b"))
    assert first == again


@pytest.mark.parametrize("drift", [0.01, float("inf")])
def test_a_network_that_onnx_does_not_follow_is_not_sealed(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drift: float
) -> None:
    monkeypatch.setattr(Drifting, "drift", drift)
    half = SimpleNamespace(Network=Size, network=Drifting, parts=lambda samples, labels: (samples, labels))
    monkeypatch.setattr(exporting, "learning", lambda name: half)
    with pytest.raises(BundleError, match=f"off torch's by {drift}"):
        _export(training, tmp_path / "bundle", _shards())
    assert not (tmp_path / "bundle" / "bundle.json").exists()


def test_calibration_reads_validation_clips_alone(training: Training, tmp_path: Path) -> None:
    assert _export(training, tmp_path / "bundle", _shards(validation=30)).calibration.figures["clips"] == 30


def test_weights_of_another_network_are_refused(training: Training, tmp_path: Path) -> None:
    save_file(Linear(Size(features=4)).state_dict(), training.folder / "checkpoint.safetensors")
    with pytest.raises(ConfigError, match="do not fit"):
        _export(training, tmp_path / "bundle", _shards())
