"""Cine MR, trained and tested: `python -m benchmarks.cmr_training`. Hours on two cores; every step goes on where it
was stopped.

A network learns the synthetic patients once, is then tuned on real ones together with them, five times with other
patients left out, and at last on all. Differs from the paper (Bai et al., arXiv 1710.09289): 1,600 and 1,300 batches of
16 crops instead of 50,000 of 20 slices, AdamW on a cosine instead of Adam at a constant rate, Dice beside cross
entropy, bf16, and wider augmentation. Axes: T phase, Z slice, H row, W column."""

import argparse
import hashlib
import json
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file

from benchmarks import sunnybrook
from benchmarks.cmr_scores import Row, score, score_phantom, summary, summary_phantom
from echoplane import __version__, runtimes
from echoplane.bundle import Code, Contents, Golden, InputShape, read, seal, write_golden
from echoplane.bundle.bundle import GOLDEN_SEED
from echoplane.bundle.export import check_parity, to_onnx
from echoplane.bundle.spec import CARD, MODEL, WEIGHTS, labels_of
from echoplane.dataset.segmentations import Slice, joined, write_slices
from echoplane.dataset.shards import Shards
from echoplane.phantom.cine import scan_mr
from echoplane.phantom.mr import UNSEEN_FIELD, make_mr_patient
from echoplane.stages.measure import SHIPPED
from echoplane.stages.progress import printed
from echoplane.stages.stage import package_digest
from echoplane.study.cine import display_turn, turned
from echoplane.study.study import Study
from echoplane.tasks import cmr_segmentation as task
from echoplane.tasks.cmr_segmentation import learning
from echoplane.tasks.cmr_segmentation.structures import target_of
from echoplane.training.checkpoint import State, read_state, write_state
from echoplane.training.config import TrainConfig
from echoplane.training.loop import train

WORK = Path(__file__).resolve().parents[1] / "build" / "papers" / "cmr"
PHANTOMS = range(1000, 1170)
UNSEEN_PHANTOMS = range(5000, 5020)
PHANTOM_STRATUM = 3
"""Of synthetic short axis slices; long axis ones have the next."""
ABSTAIN_BELOW = 0.85
"""Expected Dice of the LV cavity under which an answer is flagged."""
PRETRAIN = TrainConfig(
    steps=1600, epoch_steps=50, batch=16, learning_rate=3e-3, weight_decay=0.02, warmup=0.1, precision="bf16"
)
TUNE = PRETRAIN.model_copy(update={"steps": 1300, "learning_rate": 2e-3})
"""Strata weigh the same: two fifths of each batch are synthetic, so that myocardium, RV and atria are not forgotten."""


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
        stratum = PHANTOM_STRATUM + (number > 0)
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


def fit(name: str, shards: Shards, config: TrainConfig, network: learning.Network, start: State | None) -> State:
    """The state of run `name`, finished, gone on with, or begun."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    resumed = read_state(folder) if (folder / "state.pt").exists() else None
    if resumed and resumed.steps >= config.steps:
        return resumed
    show, used = printed(f"cmr {name}", every_s=20), _Used(folder / "cpu_s.txt")

    def keep(state: State) -> None:
        write_state(state, folder)
        used.write()

    return train(
        learning,  # type: ignore[arg-type]
        shards,
        config,
        network=network,
        augmentation=learning.Augmentation(),
        resume_from=resumed,
        start_from=start.weights if start else None,
        on_progress=lambda done, total, loss: show(done, total),
        on_epoch=keep,
    )


class _Used:
    """Seconds of processor time that a run has used, all its starts together, in a file beside its state."""

    def __init__(self, path: Path) -> None:
        self._path, self._before = path, float(path.read_text()) if path.exists() else 0.0
        self._start = time.process_time()

    def write(self) -> None:
        self._path.write_text(f"{self._before + time.process_time() - self._start:.1f}\n")


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


def ship(state: State, network: learning.Network, threads: int) -> None:
    """Seal the model of all patients into `models/`, with the figures of its folds and of unseen phantoms."""
    folds = WORK / f"sunnybrook-{network.kind}.json"
    real = json.loads(folds.read_text())["summary"] if folds.exists() else None
    folder = sealed(state, network, WORK / "bundle-final", "written again below\n")
    bundle = read(folder)
    runtime = runtimes.load(bundle, threads=threads)
    phantoms = {
        name: summary_phantom([score_phantom(seed, field, bundle, runtime) for seed in UNSEEN_PHANTOMS])
        for name, field in (("seen fields", None), ("unseen field", UNSEEN_FIELD))
    }
    (WORK / "phantoms.json").write_text(json.dumps(phantoms, indent=1) + "\n")
    sealed(state, network, SHIPPED, card(made_from(state, network), real, phantoms))


def made_from(state: State, network: learning.Network) -> list[str]:
    """Of the model that `make papers` trains on every patient."""
    return [
        f"- network {network.model_dump()}, {state.steps} steps of tuning, last loss {state.history[-1]['loss']:.3f}",
        f"- {len(PHANTOMS)} synthetic patients (seeds {PHANTOMS[0]} to {PHANTOMS[-1]}), {PRETRAIN.steps} steps alone",
        "- the Sunnybrook cine MR set (CC0): 29 of its 30 patients, LV cavity drawn at both ends of systole;",
        f"  left out for contours that lie beside the heart: {', '.join(sorted(sunnybrook.MISDRAWN))}",
        f"- seed {TUNE.seed}; command `make papers`",
    ]


def card(made: list[str], real: dict[str, Any] | None, phantoms: dict[str, Any]) -> str:
    """The model card. It holds no date, so that the same model has the same bundle id."""
    lines = [
        "# cmr-segmentation",
        "",
        "Research use, not a medical device: no answer of this model may guide care.",
        "",
        "Masks of the ventricles on short axis cine MR, and of the atria on long axis cines, after Bai et al.",
        "(arXiv 1710.09289).",
        "",
        "## What it was made from",
        "",
        *made,
        "",
        "## Figures",
        "",
        *_figures(real, phantoms),
        "",
        "## Limits",
        "",
        "Real patients taught it the LV cavity alone: myocardium, right ventricle and atria were learnt from synthetic",
        "hearts and were never measured on real ones. Thick hearts with a small systolic cavity are its weakest point.",
        "Where the right atrium's Dice above is low, its volume is of no use; such answers carry flags.",
        "Late enhancement, perfusion, congenital disease and children are unknown to it.",
        "",
    ]
    return "\n".join(lines)


def _figures(real: dict[str, Any] | None, phantoms: dict[str, Any]) -> list[str]:
    lines = ["Unseen real patients were not measured for this card."]
    if real:
        lines = [
            f"{real['patients']} real patients, unseen by what answered: Dice of the LV cavity "
            f"{real['dice_ed']:.3f} at end diastole,",
            f"{real['dice_es']:.3f} at end systole; ejection fraction off by {real['ef_percent']['mae']:.1f} points.",
        ]
    for name, found in phantoms.items():
        overlaps = ", ".join(f"{key[5:]} {value:.3f}" for key, value in found.items() if key.startswith("dice/"))
        lines.append(f"{found['patients']} unseen synthetic patients, {name}: Dice {overlaps};")
        lines.append(
            f"mean absolute error LVEDV {found['error/lvedv_ml']['mae']:.1f} mL, "
            f"LVEF {found['error/lvef_percent']['mae']:.1f} points, mass {found['error/lvm_g']['mae']:.1f} g."
        )
    return lines


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
        ship(tuned(network, frozenset(), "final"), network, asked.threads)


if __name__ == "__main__":
    main()
