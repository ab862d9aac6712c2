"""Stage `export`: turns a checkpoint into a finished bundle (model.onnx, weights, golden input, card, bundle.json)."""

from pathlib import Path
from typing import Annotated

from echoplane import __version__
from echoplane.bundle import Code
from echoplane.bundle.export import Training, export
from echoplane.dataset.description import Description
from echoplane.dataset.shards import read_shards
from echoplane.errors import ConfigError
from echoplane.stages.outputs import BundleOutput, Counts, StageResult
from echoplane.stages.progress import printed
from echoplane.stages.stage import DatasetManifest, From, Manifest, StageConfig, package_digest, run_stage
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
    dataset = Description.read(samples)
    _check_same_data(training, dataset)
    preprocessing = by_name(training.task).Preprocessing(**dataset.preprocessing)
    code = Code(version=__version__, package_digest=package_digest())
    done = export(training, read_shards(samples), preprocessing, folder, code, printed("export"))
    counts = {"bundle_id": done.bundle_id, "parity": done.parity} | _fitted(done.calibration)
    return StageResult(counts=counts, output=BundleOutput(bundle_id=done.bundle_id))


def _fitted(calibration: Calibration) -> Counts:
    return calibration.thresholds.model_dump(mode="json") | calibration.figures


def _check_same_data(training: Training, dataset: Description) -> None:
    """Raises ConfigError if training used another dataset: it may have seen that dataset's validation samples."""
    for name in ("task", "split_id", "data_digest"):
        trained_with, given = getattr(training, name), getattr(dataset, name)
        if trained_with != given:
            raise ConfigError(
                f"the checkpoint was trained with {name} {trained_with[:16]}, the dataset has {given[:16]}. "
                "Give the dataset that it was trained on."
            )
