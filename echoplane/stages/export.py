"""Stage `export`: turns a checkpoint into a finished bundle (model.onnx, weights, golden input, card, bundle.json)."""

import json
from pathlib import Path
from typing import Annotated, Any

from echoplane import __version__
from echoplane.bundle import Code
from echoplane.bundle.export import Training, export
from echoplane.dataset.shards import read_shards
from echoplane.errors import ConfigError
from echoplane.stages.outputs import BundleOutput, StageResult
from echoplane.stages.progress import printed
from echoplane.stages.stage import Counts, DatasetManifest, From, Manifest, StageConfig, package_digest, run_stage
from echoplane.tasks import Calibration, by_name


class Config(StageConfig):
    """Exports a trained network, calibrates it on validation samples and finalises it as a bundle."""

    samples: DatasetManifest
    """Manifest of the `dataset` stage that the network was trained on."""
    checkpoint: Annotated[str, From(("train",))]
    """Manifest of the `train` stage."""


def run(config: Config) -> Manifest:
    """Makes the bundle of `config`, or finds it finished."""
    return run_stage("export", config, lambda folder: _work(config, folder))


def _work(config: Config, folder: Path) -> StageResult:
    samples = config.input("samples").path
    training = Training.read(config.input("checkpoint").path)
    dataset = json.loads((samples / "dataset.json").read_text())
    _check_same_data(training, dataset)
    preprocessing = by_name(training.task).Preprocessing(**dataset["preprocessing"])
    code = Code(version=__version__, package_digest=package_digest())
    done = export(training, read_shards(samples), preprocessing, folder, code, printed("export"))
    counts = {"bundle_id": done.bundle_id, "parity": done.parity} | _fitted(done.calibration)
    return StageResult(counts=counts, output=BundleOutput(bundle_id=done.bundle_id))


def _fitted(calibration: Calibration) -> Counts:
    return calibration.thresholds.model_dump(mode="json") | calibration.figures


def _check_same_data(training: Training, dataset: dict[str, Any]) -> None:
    """Raises ConfigError if training used another dataset: it may have seen that dataset's validation samples."""
    for name in ("task", "split_id", "data_digest"):
        if getattr(training, name) != dataset[name]:
            raise ConfigError(
                f"the checkpoint was trained with {name} {getattr(training, name)[:16]}, "
                f"the dataset has {dataset[name][:16]}. Give the dataset that it was trained on."
            )
