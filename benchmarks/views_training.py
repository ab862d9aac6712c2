"""echo-view-image from phantoms alone: render, train, score on real pictures, ship.

python -m benchmarks.views_training train --seed 0                      # one network; goes on where it was stopped
python -m benchmarks.views_training score --camus FOLDER                # trained networks, on the half for choosing
python -m benchmarks.views_training ship --camus FOLDER --seeds 0 1 2   # seal them as one bundle, score the other half

Real pictures are only ever scored; no weight learns from them. Axes: N picture, K label."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.training import fit
from benchmarks.views_pictures import FIELD, Pictures, pictures, unseen_machines
from benchmarks.views_scores import Weights, measure, raised, raised_shares, ship
from benchmarks.views_stills import Clips, clips, dataset
from echoplane.dataset.shards import Shards, read_shards
from echoplane.phantom import USUAL
from echoplane.tasks import learning as learning_of
from echoplane.tasks import view_image as task
from echoplane.tasks.view_image.learning import Augmentation, Network
from echoplane.training.config import TrainConfig

WORK = Path(__file__).resolve().parents[1] / "build" / "papers" / "views"
VALIDATION, UNSEEN, USUAL_TEST, USUAL_UNSEEN = (range(start, start + 50) for start in (9000, 9100, 9200, 9300))
"""Groups of a picture per view of hearts that no network has seen."""
CLIPS = {"usual clips": range(9400, 9420), "usual-field clips": range(9500, 9520)}
"""Patients of a clip per view, who were not seen either."""
NETWORK = Network()
AUGMENTATION = Augmentation(
    rotation_degrees=3,
    shift=0.04,
    zoom=0.06,
    stretch=0.08,
    margin=0.3,
    background=0.15,
    erase=0.2,
    gamma=0.5,
    gain=0.45,
    field=0.25,
    speckle=0.12,
    blur=0.15,
)
"""Framing tells the view, so the sector is hardly moved."""
CONFIG = TrainConfig(
    steps=2500, epoch_steps=250, learning_rate=3e-3, warmup=0.1, balance=0, loss={"outlier_weight": 0.1}
)
ADJUSTED = {"a4c": 2.5, "a2c": 2.0}
"""Added to these logits after training (Menon et al. 2021, arXiv 2007.07314), as if their views had been shown more
often: the networks take real A4C and A2C, which laboratories record most often, for A5C and A3C."""


def samples() -> Shards:
    """Returns the training and validation pictures, rendered unless they are there."""
    folder = WORK / "stills"
    if not (folder / "index.parquet").exists():
        dataset(folder)
    return read_shards(folder)


def trained(seed: int) -> Weights:
    """Returns the weights of network `seed`, trained unless it is there."""
    config = CONFIG.model_copy(update={"seed": seed})
    return fit(learning_of(task.NAME), WORK / f"training-{seed}", samples(), config, NETWORK, AUGMENTATION).weights


def adjusted(weights: Weights) -> Weights:
    """Returns weights of a network whose logits are higher by ADJUSTED."""
    return raised(weights, ADJUSTED, task.names())


def trained_shares(shards: Shards) -> dict[str, float]:
    """Returns the share of each label among the training pictures, with ADJUSTED."""
    return raised_shares(shards.index["label"][shards.rows_of("train")], ADJUSTED, task.names())


def spent_s(seed: int) -> float:
    """Returns the seconds of processor time that the training of network `seed` took."""
    return float((WORK / f"training-{seed}" / "cpu_s.txt").read_text())


def synthetic() -> Mapping[str, Pictures]:
    """Returns pictures of hearts that no network has seen, also of machines never seen."""
    return {
        "usual": pictures(WORK / "usual-test", USUAL_TEST, USUAL),
        "usual-field": pictures(WORK / "usual-field", USUAL_UNSEEN, unseen_machines(USUAL)),
        "phantom": pictures(WORK / "clinic-validation", VALIDATION),
        "field": pictures(WORK / "clinic-field", UNSEEN, FIELD),
    }


def validation(shards: Shards) -> Pictures:
    """Returns the validation pictures that show a view."""
    rows = shards.rows_of("validation")
    rows = rows[shards.index["label"][rows] >= 0]
    small_NHW = np.stack([shards.sample(row) for row in rows])
    return Pictures(small_NHW.repeat(2, axis=1).repeat(2, axis=2), shards.index["label"][rows])


def synthetic_clips() -> Mapping[str, Clips]:
    """Returns clips of usual patients, also of machines never seen."""
    used = dict(zip(CLIPS, (USUAL, unseen_machines(USUAL)), strict=True))
    return {name: clips(WORK / f"{name.replace(' ', '-')}.npz", CLIPS[name], ranges) for name, ranges in used.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.views_training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=["train", "score", "ship"])
    parser.add_argument("--seed", type=int, default=0, help="of the network that is trained")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the networks that are scored")
    parser.add_argument("--exponent", type=float, default=0.6, help="of the grey curve of what is scored and shipped")
    parser.add_argument("--camus", type=Path, help="folder of stills VIEW__patientNUMBER_PHASE.png")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if args.what == "train":
        trained(args.seed)
        return
    if args.camus is None:
        parser.error("--camus is needed to score and to ship")
    weights = [adjusted(trained(seed)) for seed in args.seeds]
    network = NETWORK.model_copy(update={"exponent": args.exponent})
    if args.what == "score":
        print(json.dumps(measure(weights, network, synthetic(), args.camus), indent=1))
        return
    index = samples().index
    made = {
        "seeds": args.seeds,
        "minutes": round(sum(map(spent_s, args.seeds)) / 60, 1),
        "steps": CONFIG.steps,
        "batch": CONFIG.batch,
        "pictures": int(((index["split"] == "train") & (index["label"] >= 0)).sum()),
        "outliers": int(((index["split"] == "train") & (index["label"] < 0)).sum()),
        "exponent": args.exponent,
        "adjusted": ADJUSTED,
        "trained_shares": trained_shares(samples()),
    }
    ship(weights, network, made, validation(samples()), synthetic(), synthetic_clips(), args.camus, WORK)


if __name__ == "__main__":
    main()
