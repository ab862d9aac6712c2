"""echo-view-video from phantoms alone: render, train, score on real pictures, ship.

python -m benchmarks.views_video train                  # an hour of one core; goes on where it was stopped
python -m benchmarks.views_video score --camus FOLDER   # what was chosen on
python -m benchmarks.views_video ship --camus FOLDER    # seal the bundle, score all sets

Real pictures are only ever scored; no weight learns from them."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import torch
from safetensors.torch import save_file

from benchmarks import views_video_scores as scores
from benchmarks.training import fit
from benchmarks.views_clips import FREQUENT, INPUT, TESTS, TRAIN, Clips, dataset, test_set
from benchmarks.views_scores import raised, raised_shares
from echoplane import __version__
from echoplane.bundle import Code
from echoplane.bundle.export import Exported, Training, export
from echoplane.dataset.shards import read_shards
from echoplane.stages.progress import printed
from echoplane.stages.stage import package_digest
from echoplane.tasks import learning as learning_of
from echoplane.tasks import view_video as task
from echoplane.tasks.view_video.learning import Augmentation, Network
from echoplane.training.config import TrainConfig

WORK = Path(__file__).resolve().parents[1] / "build" / "papers" / "views-video"
NETWORK = Network(width=16, dropout=0.2)
AUGMENTATION = Augmentation(
    rotation_degrees=3,
    shift=0.04,
    zoom=0.06,
    stretch=0.08,
    margin=0.35,
    gain=0.35,
    gamma=0.4,
    noise=15,
    field=0.25,
    blur=0.15,
    speed=0,
    erase=0.2,
)
"""Near to that of the stills (`views_training.AUGMENTATION`): framing tells the view, so the sector is hardly moved."""
CONFIG = TrainConfig(
    steps=2000, epoch_steps=100, learning_rate=3e-3, warmup=0.1, balance=0, loss={"outlier_weight": 0.1}
)
ADJUSTED = {"a4c": 1.0, "a2c": 0.5}
"""Added to these logits after training, as for stills (`views_training.ADJUSTED`)."""


def trained() -> Training:
    """Returns the output of the training, as the stage `train` leaves it, its logits raised by ADJUSTED; rendered and
    trained unless it is there."""
    samples, folder = WORK / "samples", WORK / "training"
    digest = dataset(samples)
    state = fit(learning_of(task.NAME), folder, read_shards(samples), CONFIG, NETWORK, AUGMENTATION)
    weights = raised(state.weights, ADJUSTED, task.names())
    save_file({name: each.contiguous() for name, each in weights.items()}, folder / "checkpoint.safetensors")
    described = {"task": task.NAME, "network": NETWORK.model_dump(mode="json"), "steps": state.steps}
    described |= {"data_digest": digest, "split_id": digest[:16], "history": state.history}
    (folder / "training.json").write_text(json.dumps(described, indent=1))
    return Training.read(folder)


def exported(training: Training) -> tuple[Path, Exported]:
    """Returns the bundle as the stage `export` makes it, in a folder of its own."""
    folder = WORK / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    code = Code(version=__version__, package_digest=package_digest())
    return folder, export(training, read_shards(WORK / "samples"), INPUT, folder, code, printed("export"))


def made(training: Training, done: Exported) -> dict[str, Any]:
    """Returns what went into the model, for its card."""
    index = read_shards(WORK / "samples").index
    train = index["split"] == "train"
    return {
        "clips": int((train & (index["label"] >= 0)).sum()),
        "outliers": int((train & (index["label"] < 0)).sum()),
        "frequent": " and ".join(name.upper() for name in FREQUENT),
        "adjusted": ADJUSTED,
        "trained_shares": trained_shares(),
        "steps": training.steps,
        "batch": CONFIG.batch,
        "minutes": round(float((WORK / "training" / "cpu_s.txt").read_text()) / 60),
        "seeds": f"{TRAIN.groups.start} to {TRAIN.groups.stop - 1}",
        "calibration": done.calibration.sentence,
    }


def trained_shares() -> dict[str, float]:
    shards = read_shards(WORK / "samples")
    return raised_shares(shards.truths[shards.rows_of("train")], ADJUSTED, task.names())


def test_sets() -> dict[str, scores.Scored]:
    return {name: scores.Scored(*_rendered(name, clips)) for name, clips in TESTS.items()}


def _rendered(name: str, clips: Clips) -> Any:
    return test_set(WORK / name.replace(", ", "-").replace(" ", "-"), clips)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.views_video", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["train", "score", "ship"])
    parser.add_argument("--camus", type=Path, help="folder of stills VIEW__patientNUMBER_PHASE.png")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    training = trained()
    if args.what == "train":
        return
    if args.camus is None:
        parser.error("--camus is needed to score and to ship")
    folder, done = exported(training)
    if args.what == "score":
        print(
            json.dumps(
                scores.chosen_on(folder, made(training, done), args.camus, read_shards(WORK / "samples")), indent=1
            )
        )
        return
    scores.ship(folder, made(training, done), test_sets(), args.camus, read_shards(WORK / "samples"), WORK)


if __name__ == "__main__":
    main()
