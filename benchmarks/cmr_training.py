"""Cine MR, trained and tested: `python -m benchmarks.cmr_training`. Hours on two cores; every step goes on where it
was stopped.

A network learns the synthetic patients once, is then tuned on real ones together with them, five times with other
patients left out, and at last on all. Differs from the paper (Bai et al., arXiv 1710.09289): 1,000 and 1,400 batches of
16 crops instead of 50,000 of 20 slices, AdamW on a cosine instead of Adam at a constant rate, Dice beside cross
entropy, bf16, and wider augmentation. Axes: T phase, Z slice, H row, W column."""

import argparse
import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file

from benchmarks import sunnybrook
from benchmarks.cmr_scores import Row, score, summary
from echoplane import __version__, runtimes
from echoplane.bundle import Code, Contents, Golden, InputShape, read, seal, write_golden
from echoplane.bundle.bundle import GOLDEN_SEED
from echoplane.bundle.export import check_parity, to_onnx
from echoplane.bundle.spec import CARD, MODEL, WEIGHTS, labels_of
from echoplane.dataset.segmentations import Slice, joined, write_slices
from echoplane.dataset.shards import Shards
from echoplane.phantom.mr import Grid, long_axis_plane, make_mr_patient, scan_plane, short_axis_planes
from echoplane.stages.progress import printed
from echoplane.stages.stage import package_digest
from echoplane.tasks import cmr_segmentation as task
from echoplane.tasks.cmr_segmentation import learning
from echoplane.tasks.cmr_segmentation.structures import PLANES, target_of
from echoplane.training.checkpoint import State, read_state, write_state
from echoplane.training.config import TrainConfig
from echoplane.training.loop import train

WORK = Path(__file__).resolve().parents[1] / "build" / "papers" / "cmr"
PHANTOMS = range(1000, 1170)
PHANTOM_STRATUM = 3
ABSTAIN_BELOW = 0.85
"""Expected Dice of the LV cavity under which an answer is flagged."""
PRETRAIN = TrainConfig(
    steps=1000, epoch_steps=25, batch=16, learning_rate=3e-3, weight_decay=0.02, warmup=0.1, precision="bf16"
)
TUNE = PRETRAIN.model_copy(update={"steps": 1400, "learning_rate": 2e-3})
"""Strata weigh the same: a quarter of each batch is synthetic, so that myocardium, RV and atria are not forgotten."""


def phantom_slices(seed: int) -> list[Slice]:
    """End diastole and end systole of one synthetic patient: the short axis stack, 2 and 4 chambers."""
    patient, rng = make_mr_patient(seed), np.random.default_rng([seed, 99])
    grid = Grid(176, 176, float(rng.uniform(1.15, 1.9)), float(rng.uniform(5, 9)))
    phases = np.array([0, patient.heart.systole_share])
    planes = [short_axis_planes(patient, float(rng.uniform(8, 11)))]
    planes += [[long_axis_plane(patient, plane)] for plane in PLANES[1:]]
    made = []
    for series in planes:
        scans = [scan_plane(patient, plane, grid, phases) for plane in series]
        signal = np.concatenate([signal for signal, _ in scans])
        low, high = np.percentile(signal, [1, 99])
        grey = np.clip((signal - low) / (high - low) * 255 + 0.5, 0, 255).astype(np.uint8)
        labels = np.concatenate([labels for _, labels in scans])
        made += [
            Slice(
                np.stack([grey[k], target_of(labels[k], series[0].kind)]),
                PHANTOM_STRATUM,
                f"{seed}-{series[0].kind}-{k}",
                f"phantom-{seed}",
                patient.field,
            )
            for k in range(len(grey))
        ]
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


def fit(name: str, shards: Shards, config: TrainConfig, network: learning.Network, start: State | None) -> State:
    """The state of run `name`, finished, gone on with, or begun."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    resumed = read_state(folder) if (folder / "state.pt").exists() else None
    if resumed and resumed.steps >= config.steps:
        return resumed
    show = printed(f"cmr {name}", every_s=20)
    return train(
        learning,  # type: ignore[arg-type]
        shards,
        config,
        network=network,
        augmentation=learning.Augmentation(),
        resume_from=resumed,
        start_from=start.weights if start else None,
        on_progress=lambda done, total, loss: show(done, total),
        on_epoch=lambda state: write_state(state, folder),
    )


def pretrained(network: learning.Network) -> State:
    phantom, _ = samples()
    return fit(f"pretrain-{network.kind}", joined([phantom]), PRETRAIN, network, None)


def tuned(network: learning.Network, left_out: frozenset[str], name: str) -> State:
    """Tuned on every real patient but those `left_out`."""
    start = pretrained(network)
    shards = joined(samples(), left_out=left_out | sunnybrook.MISDRAWN)
    return fit(f"{name}-{network.kind}", shards, TUNE, network, start)


def sealed(state: State, network: learning.Network, folder: Path, card: str) -> Path:
    """A bundle of the state's weights in `folder`, ONNX checked against torch."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    module = learning.network(network).eval()
    module.load_state_dict(state.weights)
    preprocessing = task.Preprocessing()
    batch = task.preprocess(task.example(GOLDEN_SEED), preprocessing).batch
    with torch.inference_mode():
        golden = Golden(batch, *(tensor.numpy() for tensor in module(torch.from_numpy(batch))))
    other = np.pad(batch, ((0, 0), (0, 32), (0, 16)))  # not the sides that the graph was traced with
    (folder / MODEL).write_bytes(to_onnx(module, batch, free_sides=True))
    check_parity(
        module, onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"]), [batch, other]
    )
    save_file({name: tensor.contiguous() for name, tensor in state.weights.items()}, folder / WEIGHTS)
    write_golden(folder, golden)
    (folder / CARD).write_text(card)
    seal(
        folder,
        Contents(
            task=task.NAME,
            labels=labels_of(task.NAME),
            preprocessing=preprocessing.model_dump(mode="json"),
            network=network.model_dump(mode="json"),
            input=InputShape(shape=batch.shape[1:]),
            temperature=1.0,
            abstain_below=ABSTAIN_BELOW,
            data_digest=data_digest(),
            split_id=hashlib.sha256(sunnybrook.SALT.encode()).hexdigest()[:16],
            code=Code(version=__version__, package_digest=package_digest()),
        ),
    )
    return folder


def data_digest() -> str:
    """SHA-256 of the indexes of what was trained on."""
    return hashlib.sha256(b"".join((folder / "index.parquet").read_bytes() for folder in samples())).hexdigest()


def tested(folder: Path, tests: frozenset[str], threads: int) -> list[Row]:
    """The rows of the patients that a bundle's training left out."""
    bundle = read(folder)
    runtime = runtimes.load(bundle, precision="f32", threads=threads)
    return [score(patient, bundle, runtime) for patient in sunnybrook.patients() if patient.name in tests]


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.cmr_training", description=__doc__)
    parser.add_argument("--kind", choices=["unet", "fcn"], default="unet", help="network; fcn is the paper's")
    parser.add_argument("--folds", default="0,1,2,3,4", help="which folds; empty for none")
    parser.add_argument("--final", action="store_true", help="train on all patients too")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="cores")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    network = learning.Network(kind=asked.kind, width=32 if asked.kind == "unet" else 16)
    names = sorted(patient.name for patient in sunnybrook.patients())
    tests = sunnybrook.folds(names)
    rows: list[Row] = []
    for fold in [int(k) for k in asked.folds.split(",") if k]:
        state = tuned(network, tests[fold], f"fold-{fold}")
        folder = sealed(state, network, WORK / f"bundle-{fold}-{network.kind}", "A fold's model: for testing alone.\n")
        rows += tested(folder, tests[fold], asked.threads)
        result = {"rows": [asdict(row) for row in rows], "summary": summary(rows)}
        (WORK / f"sunnybrook-{network.kind}.json").write_text(json.dumps(result, indent=1) + "\n")
    if asked.final:
        tuned(network, frozenset(), "final")


if __name__ == "__main__":
    main()
