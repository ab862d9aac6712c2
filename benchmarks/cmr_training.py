"""Cine MR, trained and tested: `python -m benchmarks.cmr_training`. Hours on two cores; every step goes on where it
was stopped.

A network learns the synthetic patients once, is then tuned on real ones together with them, five times with other
patients left out, and at last on all. Differs from the paper (Bai et al., arXiv 1710.09289): 12,000 and 3,600 batches
of 12 crops instead of 50,000 of 20 slices, AdamW on a cosine instead of Adam at a constant rate, Dice beside cross
entropy, bf16, and wider augmentation.

`--adapt BUNDLE` makes what ships: a third training, on varied synthetic patients and the greys of other scanners, and
the mean of the weights before and after it (docs/cmr.md). Axes: T phase, Z slice, H row, W column."""

import argparse
import hashlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import update_bn

from benchmarks import sunnybrook
from benchmarks.cmr_results import FINAL, RUNS, Made, measure, seal_adapted
from benchmarks.training import fit
from echoplane.bundle import read
from echoplane.bundle.spec import WEIGHTS
from echoplane.dataset.segmentations import Slice, joined, write_slices
from echoplane.dataset.shards import Shards
from echoplane.phantom.cine import scan_mr
from echoplane.phantom.mr_patient import make_mr_patient
from echoplane.phantom.mr_ranges import USUAL_MR, VARIED_MR, MrRanges
from echoplane.stages.progress import printed
from echoplane.study.masks import Masks
from echoplane.study.study import Study
from echoplane.tasks import cmr_segmentation as task
from echoplane.tasks import learning as learning_of
from echoplane.tasks.cmr_segmentation import learning
from echoplane.tasks.cmr_segmentation.drawn import samples as samples_of
from echoplane.tasks.cmr_segmentation.structures import unknown_of
from echoplane.training.checkpoint import State
from echoplane.training.config import TrainConfig
from echoplane.training.data import training_batches

WORK = Path(__file__).resolve().parents[1] / "build" / "papers" / "cmr"
PHANTOMS = range(1000, 1300)
ADAPT_RANGES = {range(1000, 1120): USUAL_MR, range(20_000, 20_300): VARIED_MR}
"""Seeds and ranges of the synthetic patients of the third training. Varied ones have what other hospitals and vendors
show (`echoplane.phantom.mr_ranges`); of the usual ones there are some, so that they are not forgotten."""
SIDE = 208
"""Rows and columns of a sample of the third training around the heart: varied pictures have many sizes."""
STRATA_OF_RANGES = 3
"""Synthetic short axis slices at end diastole, at end systole, and long axis ones, per ranges. They come after those of
real slices, and all strata weigh the same: a third of each batch is synthetic, half of it in a third training, so
that myocardium, RV and atria are not forgotten."""
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
ADAPT = TUNE.model_copy(update={"steps": 2400, "learning_rate": 1e-3})
COUNTED_BATCHES = 200
"""Batches over which the statistics of batch normalisation of a mean model are counted."""
OTHER_SCANNERS = NEARER.model_copy(
    update={
        "quarter_turns": 0.2,
        "regreyed": 0.6,
        "noise": 15,
        "curved": 0.3,
        "recontrasted": 0.15,
        "shading": 0.2,
        "coarse": 0.25,
        "sharp": 0.1,
        "ghost": 0.1,
        "rician": 0.5,
        "cut": 0.1,
    }
)
"""Of the third training."""


def phantom_slices(seed: int, ranges: MrRanges = USUAL_MR, first_stratum: int = sunnybrook.STRATA) -> list[Slice]:
    """Both ends of systole of one synthetic patient, prepared as every cine is: short axis, 2 and 4 chambers."""
    patient = make_mr_patient(seed, ranges=ranges)
    spacing_mm = float(np.random.default_rng([seed, 98]).uniform(8, 11))
    scans = scan_mr(patient, np.array([0, patient.heart.systole_share]), spacing_mm)
    study = Study((), tuple(scan.cine for scan in scans))
    prepared = task.preprocess(study, task.Preprocessing())
    masks = Masks({scan.cine.plane: scan.labels_TZNM for scan in scans})
    rows = prepared.place["rows"][: -prepared.place["mirrored"]]
    made = []
    for (number, t, z), sample in zip(rows, samples_of(study, prepared, masks).samples, strict=True):
        stratum = first_stratum + (STRATA_OF_RANGES - 1 if number else t)
        name = f"{seed}-{study.cines[number].plane}-{t}-{z}"
        made.append(Slice(sample, stratum, name, f"phantom-{seed}", patient.field))
    return made


def rendered(folder: Path, slices_of: Callable[[int], list[Slice]], seeds: Sequence[int]) -> Path:
    """Returns `folder` with the slices of synthetic patients, rendered once, side by side."""
    if not (folder / "index.parquet").exists():
        show, made = printed(f"cmr {folder.name}"), []
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
            for k, slices in enumerate(pool.map(slices_of, seeds), 1):
                made += slices
                show(k, len(seeds))
        write_slices(made, folder)
    return folder


def real_samples() -> Path:
    """Folder of the real slices, made once."""
    folder = WORK / "sunnybrook"
    if not (folder / "index.parquet").exists():
        write_slices(sunnybrook.slices(sunnybrook.patients()), folder)
    return folder


def samples() -> tuple[Path, Path]:
    """Folders of the synthetic slices of the first two trainings and of the real ones, made once."""
    return rendered(WORK / "phantom", phantom_slices, PHANTOMS), real_samples()


def adapting_slices(seed: int) -> list[Slice]:
    """Slices of one synthetic patient of the third training, framed."""
    ((first_stratum, ranges),) = (
        (sunnybrook.STRATA + STRATA_OF_RANGES * k, ranges)
        for k, (seeds, ranges) in enumerate(ADAPT_RANGES.items())
        if seed in seeds
    )
    return [replace(each, sample=framed(*each.sample)) for each in phantom_slices(seed, ranges, first_stratum)]


def framed(slice_HW: np.ndarray, target_HW: np.ndarray) -> np.ndarray:
    """Returns image and target (2, SIDE, SIDE) around the annotated structures, or around the middle without any.
    Beyond the picture's edge the image is black and the target unknown."""
    drawn = np.argwhere(learning.DRAWN[target_HW] > 0)
    middle = drawn.mean(axis=0) if len(drawn) else np.array(target_HW.shape) / 2
    down, right = (SIDE / 2 - middle).round()
    shift = np.array([[1, 0, right], [0, 1, down]], np.float32)
    unknown, size = unknown_of(target_HW), (SIDE, SIDE)
    image = cv2.warpAffine(slice_HW, shift, size, flags=cv2.INTER_NEAREST)
    return np.stack([image, cv2.warpAffine(target_HW, shift, size, flags=cv2.INTER_NEAREST, borderValue=unknown)])


def varied_samples() -> Path:
    """Folder of the synthetic slices of the third training, made once."""
    return rendered(WORK / "varied", adapting_slices, [seed for seeds in ADAPT_RANGES for seed in seeds])


def adapting_shards() -> Shards:
    """Returns what the third training learns from: synthetic slices, and those of all real patients."""
    return joined([varied_samples(), real_samples()], left_out=sunnybrook.MISDRAWN)


def pretrained(network: learning.Network) -> State:
    phantom, _ = samples()
    folder = WORK / f"pretrain-{network.kind}"
    return fit(learning_of(task.NAME), folder, joined([phantom]), PRETRAIN, network, learning.Augmentation())


def tuned(network: learning.Network, run: str) -> State:
    """Tuned on the real patients of run `final` or `fold-K`."""
    start = pretrained(network)
    shards = joined(samples(), left_out=left_out(run) | sunnybrook.MISDRAWN)
    return fit(learning_of(task.NAME), WORK / f"{run}-{network.kind}", shards, TUNE, network, NEARER, start)


def adapted(network: learning.Network, start: State) -> State:
    """The network after a third training, which begins from `start` and learns all real patients."""
    folder = WORK / f"adapt-{network.kind}"
    return fit(learning_of(task.NAME), folder, adapting_shards(), ADAPT, network, OTHER_SCANNERS, start)


def between(network: learning.Network, start: State, end: State) -> State:
    """Returns the mean of both models' weights, which keeps more of what `start` knew than `end` does (Wortsman et al.,
    CVPR 2022). The statistics of batch normalisation are counted anew over batches of the third training: those of the
    mean model are no mean of the two."""
    module = learning.network(network)
    mean = {name: torch.lerp(start.weights[name].float(), end.weights[name].float(), 0.5) for name in end.weights}
    module.load_state_dict(mean)
    batches = training_batches(
        adapting_shards(),
        lambda sample, rng: learning.augment(sample, rng, OTHER_SCANNERS),
        ADAPT,
        epoch=ADAPT.epochs,
        steps=COUNTED_BATCHES,
    )
    update_bn((torch.from_numpy(learning.parts(*batch)[0]) for batch in batches), module)
    return State(weights=module.state_dict())


def data_digest(folders: Iterable[Path]) -> str:
    """SHA-256 of the indexes of what was trained on."""
    return hashlib.sha256(b"".join((folder / "index.parquet").read_bytes() for folder in folders)).hexdigest()


def made(network: learning.Network, bundle: Path | None = None) -> Made:
    """Returns the origin of the models, for the card and the results; from `bundle` on, if that is where it began."""
    used = sum(float(path.read_text()) for path in WORK.glob(f"*-{network.kind}/cpu_s.txt"))
    lines = (
        f"- network {network.model_dump()}, {TUNE.steps} steps of {TUNE.batch} crops on real and synthetic slices",
        f"- {len(PHANTOMS)} synthetic patients (seeds {PHANTOMS[0]} to {PHANTOMS[-1]}), {PRETRAIN.steps} steps alone",
        f"- the Sunnybrook cine MR set (CC0): {30 - len(sunnybrook.MISDRAWN)} of its 30 patients, LV cavity drawn at",
        f"  both ends of systole; left out for contours that lie beside the heart: {', '.join(sunnybrook.MISDRAWN)}",
        f"- seed {TUNE.seed}; command `make papers`",
    )
    if bundle is None:
        return Made(lines, data_digest(samples()), TUNE.seed, used)
    varied = " and ".join(f"{len(seeds)} ({seeds[0]} to {seeds[-1]})" for seeds in ADAPT_RANGES)
    third = (
        f"- the first two trainings are those of bundle {read(bundle).id[:12]}, whose kernels have 16 bits",
        f"- then {ADAPT.steps} steps on the same real patients and on synthetic ones of usual and of varied ranges,",
        f"  {varied}, with the greys of other scanners; the weights are the mean of those before and after",
    )
    return Made((*lines, *third), data_digest([varied_samples(), real_samples()]), TUNE.seed, used)


def left_out(run: str) -> frozenset[str]:
    """The real patients that run `final`, or `fold-K`, must not see."""
    if run == FINAL:
        return frozenset()
    names = sorted(patient.name for patient in sunnybrook.patients())
    return sunnybrook.folds(names)[int(run.removeprefix("fold-"))]


def adapt_bundle(bundle: Path, network: learning.Network, threads: int) -> Path:
    """Makes the third training alone, from a bundle of the first two, and returns the new bundle's folder. Nobody can
    measure it on real patients: the bundle has seen all."""
    weights = {name: tensor.float() for name, tensor in load_file(bundle / WEIGHTS).items()}
    start = State(weights=weights)
    state = between(network, start, adapted(network, start))
    return seal_adapted(state, network, WORK, made(network, bundle), bundle, threads)


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
    parser.add_argument("--adapt", type=Path, metavar="BUNDLE", help="make the third training alone, from this bundle")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="trainings side by side")
    asked = parser.parse_args()
    sunnybrook.require()
    torch.set_num_threads(1)
    network = learning.Network(kind=asked.kind, width=32 if asked.kind == "unet" else 16)
    if asked.adapt:
        print(adapt_bundle(asked.adapt, network, asked.workers))
        return
    if asked.only:
        tuned(network, asked.only)
        return
    pretrained(network)
    side_by_side([run for run in RUNS if asked.final or run != FINAL], asked.kind, asked.workers)
    states = {run: tuned(network, run) for run in RUNS if asked.final or run != FINAL}
    measure(states, network, WORK, made(network), asked.workers, ship=asked.ship)


if __name__ == "__main__":
    main()
