"""Cine MR, trained and tested: `python -m benchmarks.cmr_training`. Hours on two cores; every step goes on where it
was stopped.

A network learns the synthetic patients once, is then tuned on real ones together with them, five times with other
patients left out, and at last on all. Differs from the paper (Bai et al., arXiv 1710.09289): 12,000 and 3,600 batches
of 12 crops instead of 50,000 of 20 slices, AdamW on a cosine instead of Adam at a constant rate, Dice beside cross
entropy, bf16, and wider augmentation. Axes: T phase, Z slice, H row, W column."""

import argparse
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks import sunnybrook
from benchmarks.cmr_results import FINAL, RUNS, Made, measure
from benchmarks.training import fit
from echoplane.dataset.segmentations import Slice, joined, write_slices
from echoplane.phantom.cine import scan_mr
from echoplane.phantom.mr_patient import make_mr_patient
from echoplane.stages.progress import printed
from echoplane.study.cine import display_turn, turned
from echoplane.study.study import Study
from echoplane.tasks import cmr_segmentation as task
from echoplane.tasks import learning as learning_of
from echoplane.tasks.cmr_segmentation import learning
from echoplane.tasks.cmr_segmentation.structures import target_of
from echoplane.training.checkpoint import State
from echoplane.training.config import TrainConfig

WORK = Path(__file__).resolve().parents[1] / "build" / "papers" / "cmr"
PHANTOMS = range(1000, 1300)
STRATA = sunnybrook.STRATA + 3
"""Those of real slices, then synthetic short axis ones at end diastole, at end systole, and long axis ones. All weigh
the same: a third of each batch is synthetic, so that myocardium, RV and atria are not forgotten."""
PRETRAIN = TrainConfig(
    steps=12000, epoch_steps=50, batch=12, learning_rate=3e-3, weight_decay=0.02, warmup=0.05, precision="bf16"
)
TUNE = PRETRAIN.model_copy(update={"steps": 3600, "learning_rate": 2e-3, "loss": {"dice": 0.1}})
"""Cross entropy leads: a soft Dice alone prefers structures that are too large (Bertels et al., arXiv 1911.02278)."""
NEARER = learning.Augmentation(
    shift=12,
    elsewhere=0.1,
    quarter_turns=0.1,
    stretch=0.06,
    bend=2,
    regreyed=0.3,
    gamma=0.25,
    gain=0.2,
    bias=0.25,
    noise=5,
    blur=0.8,
)
"""Of the second training: nearer to what scanners give than the first, which learns from nothing but phantoms."""


def phantom_slices(seed: int) -> list[Slice]:
    """Both ends of systole of one synthetic patient, prepared as every cine is: short axis, 2 and 4 chambers."""
    patient = make_mr_patient(seed)
    spacing_mm = float(np.random.default_rng([seed, 98]).uniform(8, 11))
    scans = scan_mr(patient, np.array([0, patient.heart.systole_share]), spacing_mm)
    cines = tuple(scan.cine for scan in scans)
    prepared = task.preprocess(Study((), cines), task.Preprocessing())
    made = []
    for k, (number, t, z) in enumerate(prepared.place["rows"][: -prepared.place["mirrored"]]):
        cine, labels_HW = cines[number], scans[number].labels_TZNM[t, z]
        target_HW = target_of(turned(labels_HW, display_turn(cine.affine, cine.plane)), cine.plane)
        stratum = STRATA - 1 if number else sunnybrook.STRATA + t
        sample = np.stack([prepared.batch[k], target_HW])
        made.append(Slice(sample, stratum, f"{seed}-{cine.plane}-{t}-{z}", f"phantom-{seed}", patient.field))
    return made


def samples() -> tuple[Path, Path]:
    """Folders of synthetic and of real slices, made once."""
    phantom, real = WORK / "phantom", WORK / "sunnybrook"
    show = printed("cmr phantom")
    for folder, make in (
        (
            phantom,
            lambda: [
                s for k, seed in enumerate(PHANTOMS, 1) for s in (phantom_slices(seed), show(k, len(PHANTOMS)))[0]
            ],
        ),
        (real, lambda: sunnybrook.slices(sunnybrook.patients())),
    ):
        if not (folder / "index.parquet").exists():
            write_slices(make(), folder)
    return phantom, real


def pretrained(network: learning.Network) -> State:
    phantom, _ = samples()
    folder = WORK / f"pretrain-{network.kind}"
    return fit(learning_of(task.NAME), folder, joined([phantom]), PRETRAIN, network, learning.Augmentation())


def tuned(network: learning.Network, run: str) -> State:
    """Tuned on the real patients of run `final` or `fold-K`."""
    start = pretrained(network)
    shards = joined(samples(), left_out=left_out(run) | sunnybrook.MISDRAWN)
    return fit(learning_of(task.NAME), WORK / f"{run}-{network.kind}", shards, TUNE, network, NEARER, start)


def data_digest() -> str:
    """SHA-256 of the indexes of what was trained on."""
    return hashlib.sha256(b"".join((folder / "index.parquet").read_bytes() for folder in samples())).hexdigest()


def made(network: learning.Network) -> Made:
    """What went into the models, for the card and the results."""
    used = sum(float(path.read_text()) for path in WORK.glob(f"*-{network.kind}/cpu_s.txt"))
    lines = (
        f"- network {network.model_dump()}, {TUNE.steps} steps of {TUNE.batch} crops on real and synthetic slices",
        f"- {len(PHANTOMS)} synthetic patients (seeds {PHANTOMS[0]} to {PHANTOMS[-1]}), {PRETRAIN.steps} steps alone",
        f"- the Sunnybrook cine MR set (CC0): {30 - len(sunnybrook.MISDRAWN)} of its 30 patients, LV cavity drawn at",
        f"  both ends of systole; left out for contours that lie beside the heart: {', '.join(sunnybrook.MISDRAWN)}",
        f"- seed {TUNE.seed}; command `make papers`",
    )
    return Made(lines, data_digest(), TUNE.seed, used)


def left_out(run: str) -> frozenset[str]:
    """The real patients that run `final`, or `fold-K`, must not see."""
    if run == FINAL:
        return frozenset()
    names = sorted(patient.name for patient in sunnybrook.patients())
    return sunnybrook.folds(names)[int(run.removeprefix("fold-"))]


def side_by_side(runs: list[str], kind: str, workers: int) -> None:
    """Train `runs`, each a process with one thread: two threads on one small batch mostly wait for each other."""
    command = [sys.executable, "-m", "benchmarks.cmr_training", "--kind", kind, "--only"]
    with ThreadPoolExecutor(workers) as pool:
        for done in pool.map(lambda run: subprocess.run([*command, run], check=False), runs):
            done.check_returncode()


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.cmr_training", description=__doc__)
    parser.add_argument("--kind", choices=["unet", "fcn"], default="unet", help="network; fcn is the paper's")
    parser.add_argument("--only", choices=RUNS, help="train this one alone, and measure nothing")
    parser.add_argument("--final", action="store_true", help="train on all patients too")
    parser.add_argument("--ship", action="store_true", help="put the final model in the place of the shipped one")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="trainings side by side")
    asked = parser.parse_args()
    sunnybrook.require()
    torch.set_num_threads(1)
    network = learning.Network(kind=asked.kind, width=32 if asked.kind == "unet" else 16)
    if asked.only:
        tuned(network, asked.only)
        return
    pretrained(network)
    side_by_side([run for run in RUNS if asked.final or run != FINAL], asked.kind, asked.workers)
    states = {run: tuned(network, run) for run in RUNS if asked.final or run != FINAL}
    measure(states, network, WORK, made(network), asked.workers, ship=asked.ship)


if __name__ == "__main__":
    main()
