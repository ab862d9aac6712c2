"""Two controls that must fail to find anything: labels shuffled, and pictures with the sector blanked.

A model trained on shuffled labels that beats chance has seen its test patients; a model that reads the view from what
lies outside the sector (layout, text, ECG) has learnt the machine and not the heart.

Chance is one in twelve on average. A network sees that clips of one view are alike, whatever they are called, so that
one training on shuffled labels is right or wrong on a whole view at a time, and patients resampled say nothing of
that: its chance is what the same predictions get when the names of the views are exchanged at random."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.results import record
from echoplane import runtimes
from echoplane.evaluation.intervals import bootstrap
from echoplane.evaluation.scores import as_rows, read_scores
from echoplane.phantom import make_patient, scan_echo, write_clip
from echoplane.runtimes import InferenceSettings
from echoplane.stages import evaluate, export, train
from echoplane.stages.stage import Manifest
from echoplane.study.dicom import read_dicom
from echoplane.study.views import VIDEO_VIEWS
from echoplane.tasks import by_name
from echoplane.training.config import TrainConfig

SHUFFLE_SEED = 1
FRESH_PATIENTS = 20
FRESH_SEED = 50_000
"""Far from the demo's own patients."""
CHANCE = 1 / len(VIDEO_VIEWS)
EXCHANGES = 20_000


def measure(root: Path, steps: dict[str, Manifest]) -> None:
    """Both controls with the demo's data and champion; `steps` are the demo's manifests."""
    shuffled, predictions = shuffled_labels(root, steps)
    low, high = chance_of(*predictions)
    blanked = outside_the_sector(steps["export"].path)
    record(
        "leakage",
        "Controls that must be at chance",
        [
            _figure(
                "a model trained on shuffled labels", shuffled, f"{low:.3f} to {high:.3f}", low <= shuffled[0] <= high
            ),
            _figure(
                "the champion, sector blanked",
                blanked,
                f"interval holds {CHANCE:.3f}",
                blanked[1] <= CHANCE <= blanked[2],
            ),
        ],
        machine.conditions("make bench", SHUFFLE_SEED),
        f"Accuracy on unseen phantom patients with its 95 % interval, patients resampled. Chance is {CHANCE:.3f} on "
        "average; for the shuffled labels its interval is that of the same predictions with the views' names exchanged "
        f"at random ({EXCHANGES} times).",
    )


def _figure(name: str, interval: tuple[float, float, float], expected: str, holds: bool) -> dict[str, Any]:
    value, low, high = interval
    return {
        "figure": name,
        "value": f"{value:.3f} ({low:.3f} to {high:.3f})",
        "expected": f"{expected}: {'holds' if holds else 'DOES NOT HOLD'}",
        "holds": holds,
    }


def chance_of(truth_N: np.ndarray, predicted_N: np.ndarray) -> tuple[float, float]:
    """95 % interval of the accuracy of predictions whose labels are exchanged for one another at random."""
    views = np.arange(len(VIDEO_VIEWS))
    confusion = np.zeros((len(views), len(views)))
    np.add.at(confusion, (truth_N, predicted_N), 1 / len(truth_N))
    rng = np.random.default_rng(SHUFFLE_SEED)
    low, high = np.quantile([confusion[views, rng.permutation(views)].sum() for _ in range(EXCHANGES)], (0.025, 0.975))
    return float(low), float(high)


def shuffled_labels(
    root: Path, steps: dict[str, Manifest]
) -> tuple[tuple[float, float, float], tuple[np.ndarray, np.ndarray]]:
    """Train, export and evaluate as the demo does, the training labels permuted: accuracy; truth and predictions."""
    deid, dataset = (str(steps[name].path / "manifest.json") for name in ("deid", "dataset"))
    training = TrainConfig(shuffle_labels_seed=SHUFFLE_SEED)
    trained = train.run(train.Config(root=str(root), samples=dataset, training=training))
    sealed = export.run(export.Config(root=str(root), samples=dataset, checkpoint=str(trained.path / "manifest.json")))
    scored = evaluate.run(
        evaluate.Config(root=str(root), studies=deid, samples=dataset, bundle=str(sealed.path / "manifest.json"))
    )
    rows = as_rows(read_scores(scored.path / "scores.parquet"))
    accuracy = evaluate.read_record(scored).figures["accuracy"]
    return (accuracy.value, accuracy.low, accuracy.high), (rows["truth"], rows["probabilities"].argmax(axis=1))


def outside_the_sector(bundle_folder: Path) -> tuple[float, float, float]:
    """Fresh patients' screens with the sector blanked, through the path that serves."""
    model = runtimes.open(bundle_folder, InferenceSettings(precision="f32"))
    names = [view.name for view in VIDEO_VIEWS]
    rows: dict[str, list[Any]] = {"patient": [], "truth": [], "probabilities": [], "abstained": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(FRESH_SEED, FRESH_SEED + FRESH_PATIENTS):
            patient = make_patient(seed)
            # As in a study: the number of an acquisition says nothing of its view.
            for number, index in enumerate(np.random.default_rng(seed).permutation(len(names)), 1):
                clip = scan_echo(patient, names[index], number, number=number)
                blank = np.where(clip.sector_mask[None, :, :, None], 0, clip.rgb).astype(np.uint8)
                path = Path(folder) / "clip.dcm"
                write_clip(replace(clip, rgb=blank), patient, path)
                said = runtimes.answer(read_dicom(path), model).result
                rows["patient"].append(str(seed))
                rows["truth"].append(int(index))
                rows["probabilities"].append(list(said.probabilities.values()))
                rows["abstained"].append(said.label is None)
    return _accuracy({name: np.array(column) for name, column in rows.items()})


def _accuracy(rows: dict[str, np.ndarray]) -> tuple[float, float, float]:
    summary = by_name("echo-view-video").summary
    low, high = bootstrap(rows, summary)["accuracy"]
    return summary(rows)["accuracy"], low, high
