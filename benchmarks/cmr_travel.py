"""A stand-in for other hospitals: what a cine MR bundle loses on degraded real patients and on unseen synthetic
scanners. `python -m benchmarks.cmr_travel --bundle DIR`.

Nobody else's patients are at hand, so the 30 Sunnybrook patients are shown as other scanners might show them
(`degraded`), and synthetic hearts on scanners that no training drew. Only differences say something: a model that has
learnt from these patients scores too high on all of them, and the page says so. `--fold K` takes the patients that
fold K left out, for a model of that fold."""

import argparse
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import machine, results, sunnybrook
from benchmarks.cmr_bundle import sealed
from benchmarks.cmr_scores import Row, score, score_made
from benchmarks.degraded import DEGRADATIONS, around
from benchmarks.sunnybrook import Patient
from echoplane import runtimes
from echoplane.evaluation.intervals import bootstrap
from echoplane.phantom.mr_patient import UNSEEN_FIELD, MrPatient, make_mr_patient
from echoplane.phantom.mr_ranges import UNSEEN_VENDORS, VARIED_MR
from echoplane.runtimes import InferenceSettings, OpenModel
from echoplane.stages.measure import SHIPPED
from echoplane.tasks.cmr_segmentation import learning
from echoplane.training.checkpoint import read_state

AS_THEY_ARE = "as they are"


@dataclass(frozen=True)
class Made:
    """Synthetic patients by seed, and the set of the same hearts that they are compared with (None: with no other)."""

    make: Callable[[int], MrPatient]
    reference: str | None = None


SEEN, VARIED = "usual scanners", "varied hearts and scanners"
SYNTHETIC = {
    SEEN: Made(make_mr_patient),
    f"scanner {UNSEEN_FIELD}, never trained on": Made(partial(make_mr_patient, field=UNSEEN_FIELD), SEEN),
    VARIED: Made(partial(make_mr_patient, ranges=VARIED_MR)),
} | {
    f"{name} scanners, never trained on": Made(partial(make_mr_patient, ranges=ranges), VARIED)
    for name, ranges in UNSEEN_VENDORS.items()
}
SEEDS = range(6000, 6004)
"""No training, test or comparison elsewhere uses these."""
STRUCTURES = ("lv", "myocardium", "rv")
PATIENTS = 8
"""Real patients measured unless more are asked for: all of them take nearly four times as long."""
ALL_LEARNT = (
    "The shipped model has learnt from 29 of the 30 patients: its own figures on them are no test figures, and even "
    "what it loses may be too little."
)


@dataclass(frozen=True)
class Loss:
    """Mean Dice lost against the reference, and its 95 % interval with patients resampled."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def travel(model: OpenModel, patients: Iterable[Patient]) -> dict[str, list[Row]]:
    """Returns the rows of the patients as they are and under each degradation, in the same order."""
    changes = {AS_THEY_ARE: around} | DEGRADATIONS
    given = list(patients)
    return {name: [score(change(patient), model) for patient in given] for name, change in changes.items()}


def travel_synthetic(model: OpenModel, seeds: Iterable[int] = SEEDS) -> dict[str, list[dict[str, float]]]:
    """Returns the rows of synthetic patients, a set each, in the same order."""
    given = list(seeds)
    return {name: [score_made(each.make(seed), model) for seed in given] for name, each in SYNTHETIC.items()}


def loss(reference_N: Iterable[float], found_N: Iterable[float]) -> Loss:
    """Returns what the same patients lost, one value of each per patient."""
    lost_N = np.array(list(reference_N)) - np.array(list(found_N))
    rows = {"patient": np.arange(len(lost_N)), "lost": lost_N}
    low, high = bootstrap(rows, lambda drawn: {"lost": float(drawn["lost"].mean())})["lost"]
    return Loss(float(lost_N.mean()), low, high)


def real_figures(found: dict[str, list[Row]]) -> list[dict[str, Any]]:
    """Returns one figure per degradation: Dice at both phases, error of the ejection fraction, what was lost."""
    usual = [row.dice for row in found.get(AS_THEY_ARE, [])]
    figures = []
    for name, rows in found.items():
        ed, es = (float(np.mean([getattr(row, phase) for row in rows])) for phase in ("dice_ed", "dice_es"))
        ef = float(np.mean([abs(row.ef_percent - row.ef_truth_percent) for row in rows]))
        lost = "" if name == AS_THEY_ARE else f"; {loss(usual, [row.dice for row in rows])}"
        figures.append({"figure": f"real, {name}", "value": f"{ed:.3f}, {es:.3f}; {ef:.1f}{lost}"})
    return figures


def synthetic_figures(found: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Returns one figure per set: Dice of each structure at both phases, and the mean lost against its reference."""
    figures = []
    for name, rows in found.items():
        dices = (
            ", ".join(f"{np.mean([row[f'dice/{k}/{phase}'] for row in rows]):.3f}" for phase in ("ed", "es"))
            for k in STRUCTURES
        )
        reference = SYNTHETIC[name].reference
        lost = f"; {loss(_means(found[reference]), _means(rows))}" if reference else ""
        figures.append({"figure": f"synthetic, {name}", "value": "; ".join(dices) + lost})
    return figures


def _means(rows: list[dict[str, float]]) -> list[float]:
    return [float(np.mean([row[f"dice/{k}/{phase}"] for k in STRUCTURES for phase in ("ed", "es")])) for row in rows]


def chosen(fold: int | None, count: int) -> list[Patient]:
    """Returns the patients to measure, at most `count` of all or of those that a fold left out, spread over the names.

    Patients whose contours lie beside the heart are left out.
    """
    found = sunnybrook.patients()
    if fold is not None:
        left_out = sunnybrook.folds([patient.name for patient in found])[fold]
        found = [patient for patient in found if patient.name in left_out]
    found = [patient for patient in found if patient.name not in sunnybrook.MISDRAWN]
    return found[:: -(-len(found) // count)]


def opened(bundle: Path, state: Path | None) -> OpenModel:
    """Returns the model of a bundle, or of the training whose folder is `state`; on one thread, in 32 bits."""
    settings = InferenceSettings(precision="f32", threads=1)
    if state is None:
        return runtimes.open(bundle, settings)
    with tempfile.TemporaryDirectory() as folder:
        text = "A training's model: for testing alone.\n"
        network = learning.Network()
        sealed(read_state(state), network, Path(folder), card=text, data_digest="0" * 64, abstain_below=0.0)
        return runtimes.open(Path(folder), settings)


def record(real: dict[str, list[Row]], synthetic: dict[str, list[dict[str, float]]], fold: int | None) -> None:
    """Records the section of docs/results.md. Only a model that has not seen its patients has test figures."""
    who = ALL_LEARNT if fold is None else f"The model is of fold {fold}, which had left out the patients measured here."
    text = (
        f"{len(real[AS_THEY_ARE])} Sunnybrook patients in a window of 160 pixels around the heart, degraded as other "
        "scanners might show them, and synthetic patients on scanners never trained on; it stands in for pictures of "
        f"other hospitals, of which there are none here. {who} Real: Dice of the LV cavity at end diastole, at end "
        "systole; mean absolute error of the ejection fraction, points; mean Dice lost against the same patients as "
        "they are (95 % interval, patients resampled). Synthetic: Dice at both phases of the LV cavity; of the "
        "myocardium; of the RV; mean Dice lost against the same hearts on usual or on varied scanners."
    )
    command = "python -m benchmarks cmr-travel" if fold is None else f"python -m benchmarks.cmr_travel --fold {fold}"
    figures = [*real_figures(real), *synthetic_figures(synthetic)]
    results.record("cmr-travel", "Cine MR of other scanners", figures, machine.conditions(command, SEEDS[0]), text)


def measure() -> None:
    """Records the figures of the shipped bundle; without the real set, the page's section stays as it is."""
    try:
        patients = chosen(None, PATIENTS)
    except FileNotFoundError as error:
        print(f"cmr-travel was not measured: {error}")
        return
    model = opened(SHIPPED, None)
    record(travel(model, patients), travel_synthetic(model), None)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.cmr_travel", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help="the model; by default the shipped one")
    parser.add_argument("--state", type=Path, help="folder of a training, whose model is taken instead of a bundle")
    parser.add_argument("--fold", type=int, choices=range(sunnybrook.FOLDS), help="only patients that it left out")
    parser.add_argument("--patients", type=int, default=PATIENTS, help="at most so many real patients; 0 for none")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="synthetic patients of each set")
    asked = parser.parse_args()
    sunnybrook.require()
    cv2.setNumThreads(1)
    model = opened(asked.bundle, asked.state)
    real = travel(model, chosen(asked.fold, asked.patients)) if asked.patients else {}
    synthetic = travel_synthetic(model, range(SEEDS[0], SEEDS[0] + asked.seeds))
    if asked.fold is None:
        print(ALL_LEARNT if asked.state is None and asked.bundle == SHIPPED else "Did it learn from these patients?")
    print(", ".join(row.patient for row in real.get(AS_THEY_ARE, [])))
    for figure in [*real_figures(real), *synthetic_figures(synthetic)]:
        print(f"{figure['figure']:52} {figure['value']}")


if __name__ == "__main__":
    main()
