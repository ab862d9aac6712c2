"""Measures what real stills teach the shipped echo-view-image: labels of few patients, or pictures without labels.

python -m benchmarks.views_camus --camus FOLDER      # stills VIEW__patientNUMBER_PHASE.png; half an hour on one core

CAMUS is CC BY-NC-SA 4.0, for research alone: no weight that is made here is kept, and none may ship. Patients with odd
numbers teach, those with even numbers test. Rate and number of steps are chosen among the odd ones alone. One network
of the shipped three is tuned, and the same network learns from scratch. Axes: N picture, K label.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks import machine, results
from benchmarks.views_pictures import Pictures, camus, inputs, pictures
from benchmarks.views_scores import SHIPPED, Weights, figures, logits, softmax_at
from benchmarks.views_training import AUGMENTATION, NETWORK, USUAL_TEST, WORK
from echoplane.bundle import read
from echoplane.bundle.spec import WEIGHTS
from echoplane.dataset.shards import Shards
from echoplane.phantom import USUAL
from echoplane.tasks import learning as learning_of
from echoplane.tasks import view_image as task
from echoplane.tasks.view_image import learning
from echoplane.training.config import TrainConfig
from echoplane.training.loop import train

SIZES, SEEDS = (1, 5, 10, 25), (0, 1, 2)
"""Labelled patients, four stills each, and the seeds that draw them."""
SETTINGS = ((3e-4, 200), (1e-3, 200), (3e-3, 200))
"""Learning rates and steps that are tried."""
WANTED = 0.97


@dataclass(frozen=True)
class Stills:
    """Real stills and the number of the patient of each."""

    data: Pictures
    patient_N: np.ndarray

    def of(self, patients: np.ndarray) -> "Stills":
        rows = np.isin(self.patient_N, patients)
        return Stills(Pictures(self.data.grey_NHW[rows], self.data.label_N[rows]), self.patient_N[rows])


def shipped_member() -> tuple[Weights, learning.Network]:
    """Returns the weights and settings of the first of the shipped networks."""
    state = load_file(SHIPPED / WEIGHTS)
    start = "members.0."
    weights = {name.removeprefix(start): value.float() for name, value in state.items() if name.startswith(start)}
    return weights, NETWORK.model_copy(update={"exponent": read(SHIPPED).spec.network["exponent"]})


def shards_of(stills: Stills) -> Shards:
    """Returns stills as training data, without a validation split."""
    count = len(stills.patient_N)
    texts = {
        "sample": [str(n) for n in range(count)],
        "patient": [str(number) for number in stills.patient_N],
        "split": ["train"] * count,
        "manufacturer": ["unknown"] * count,
    }
    index = {name: np.array(values) for name, values in texts.items()}
    index |= {"shard": np.zeros(count, int), "row": np.arange(count), "label": stills.data.label_N}
    return Shards(index, (inputs(stills.data.grey_NHW),))


def tuned(
    start: Weights | None, network: learning.Network, stills: Stills, rate: float, steps: int, seed: int
) -> Weights:
    """Returns the weights after the product's training loop on real stills, from `start` or from scratch."""
    config = TrainConfig(
        steps=steps,
        epoch_steps=steps,
        learning_rate=rate,
        warmup=0.1,
        balance=0,
        loss={"outlier_weight": 0.0},
        seed=seed,
    )
    return train(
        learning_of(task.NAME), shards_of(stills), config, network=network, augmentation=AUGMENTATION, start_from=start
    ).weights


def accuracy(weights: Weights, network: learning.Network, data: Pictures) -> float:
    """Returns the share of pictures whose top answer among all 15 views is right."""
    return float((logits([weights], network, data).argmax(axis=1) == data.label_N).mean())


def chosen_setting(start: Weights | None, network: learning.Network, teachers: Stills) -> tuple[float, int]:
    """Returns the rate and the steps that read half of the teaching patients best after learning from the others."""
    patients = np.unique(teachers.patient_N)
    learnt, kept = teachers.of(patients[::2]), teachers.of(patients[1::2])
    found = [accuracy(tuned(start, network, learnt, *setting, seed=0), network, kept.data) for setting in SETTINGS]
    return SETTINGS[int(np.argmax(found))]


def drawn(teachers: Stills, size: int, seed: int) -> Stills:
    patients = np.unique(teachers.patient_N)
    return teachers.of(np.random.default_rng([seed, size]).permutation(patients)[:size])


def with_their_norms(weights: Weights, network: learning.Network, stills: Stills) -> Weights:
    """Returns weights whose batch normalisation has the means and variances of `stills`, without labels (Li et al.
    2016, arXiv 1603.04779)."""
    module = learning.network(network)
    module.load_state_dict(weights)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over all batches
    module.train()
    with torch.inference_mode():
        module(torch.from_numpy(inputs(stills.data.grey_NHW)))
    return module.state_dict()


def self_taught(weights: Weights, network: learning.Network, stills: Stills, setting: tuple[float, int]) -> Weights:
    """Returns weights tuned on the network's own top answers for the half of `stills` that it is surest of."""
    scored = logits([weights], network, stills.data)
    confidence_N = softmax_at(scored, 1.0).max(axis=1)
    sure = confidence_N >= np.median(confidence_N)
    own = Stills(Pictures(stills.data.grey_NHW[sure], scored.argmax(axis=1)[sure]), stills.patient_N[sure])
    return tuned(weights, network, own, *setting, seed=0)


def measure(folder: Path) -> None:
    torch.set_num_threads(1)
    (start, network), teachers, tested = (
        shipped_member(),
        Stills(*camus(folder, "choose")),
        Stills(*camus(folder, "report")),
    )
    usual = pictures(WORK / "usual-test", USUAL_TEST, USUAL)
    rows = [_row("as shipped (one of three networks)", [start], network, tested, usual)]
    settings = {}
    for name, first in (("tuned", start), ("from scratch", None)):
        settings[name] = chosen_setting(first, network, teachers)
        for size in SIZES:
            made = [tuned(first, network, drawn(teachers, size, seed), *settings[name], seed=seed) for seed in SEEDS]
            expected = f"at least {100 * WANTED:.0f}" if (name, size) == ("tuned", SIZES[-1]) else ""
            rows.append(_row(f"{name}, labelled patients: {size}", made, network, tested, usual, expected))
            print(rows[-1], flush=True)
    adapted = with_their_norms(start, network, teachers)
    rows.append(_row("without labels: means and variances of the odd half", [adapted], network, tested, usual))
    taught = self_taught(start, network, teachers, settings["tuned"])
    rows.append(_row("without labels: own answers on the odd half", [taught], network, tested, usual))
    chosen = "; ".join(f"{name}: rate {rate:g}, {steps} steps" for name, (rate, steps) in settings.items())
    text = (
        "Used CAMUS (research only; no weight of it is kept). Top answer among all 15 views, percent of the stills of "
        f"{len(np.unique(tested.patient_N))} patients with even numbers, mean of {len(SEEDS)} draws and range, or "
        "the 95 % interval by patient if there is one; then between A4C and A2C alone, and of synthetic usual hearts "
        f"afterwards (15 views). Chosen among the odd patients: {chosen}."
    )
    conditions = machine.conditions("python -m benchmarks.views_camus --camus FOLDER", 0)
    results.record("views-camus", "Echo views: learning from real stills", rows, conditions, text)
    results.write_page(["views-camus"])


def _row(
    name: str, made: list[Weights], network: learning.Network, tested: Stills, usual: Pictures, expected: str = ""
) -> dict[str, str]:
    found = [figures(logits([each], network, tested.data), tested.data, patients=tested.patient_N) for each in made]
    right, between = ([100 * each[what] for each in found] for what in ("accuracy", "between_shown"))
    low, high = (min(right), max(right)) if len(made) > 1 else (100 * end for end in found[0]["interval"])
    kept = 100 * float(np.mean([accuracy(each, network, usual) for each in made]))
    value = f"{np.mean(right):.1f} ({low:.1f} to {high:.1f}); {np.mean(between):.1f}; {kept:.1f}"
    return {"figure": name, "value": value, "expected": expected}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.views_camus", description=__doc__)
    parser.add_argument("--camus", type=Path, required=True, help="folder of stills VIEW__patientNUMBER_PHASE.png")
    measure(parser.parse_args().camus)


if __name__ == "__main__":
    main()
