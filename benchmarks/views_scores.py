"""Scores of trained echo-view-image networks on phantom and real pictures, and the shipped bundle.

A network's answer is its top label among all 15. Real stills are asked by themselves: no patient is averaged over his
four. Axes: N picture, K label, M member."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file
from torch.nn import functional

from benchmarks.cmr_bundle import in_halves
from benchmarks.views_pictures import Pictures, camus
from echoplane import __version__
from echoplane.bundle import Code, Contents, Golden, InputShape, seal, write_golden
from echoplane.bundle.bundle import GOLDEN_SEED
from echoplane.bundle.export import check_parity, to_onnx
from echoplane.bundle.spec import CARD, MODEL, WEIGHTS, labels_of
from echoplane.evaluation.intervals import bootstrap
from echoplane.stages.stage import package_digest
from echoplane.tasks import view_image as task
from echoplane.tasks.calibration import UNFAMILIAR_SHARE, fit_temperature
from echoplane.tasks.classify import energy
from echoplane.tasks.view_image import learning

SHIPPED = Path(__file__).resolve().parents[1] / "models" / task.NAME
MAX_WRONG = 0.10
"""Share of real stills that may get a wrong label: the abstention threshold is chosen for it."""
Weights = dict[str, torch.Tensor]


def logits(members: Sequence[Weights], kind: str, data: Pictures) -> np.ndarray:
    """Returns the logits (N, K) of one network or of an ensemble."""
    module = ensemble(members, kind)
    small_NHW = functional.avg_pool2d(torch.from_numpy(data.grey_NHW)[:, None].float(), 2)[:, 0].floor()
    with torch.inference_mode():
        return torch.cat([module(part)[0] for part in small_NHW.split(100)]).numpy()


def ensemble(members: Sequence[Weights], kind: str) -> torch.nn.Module:
    module = learning.network(learning.Network(kind=kind, members=len(members)))
    several = {f"members.{m}.{name}": value for m, weights in enumerate(members) for name, value in weights.items()}
    module.load_state_dict(several if len(members) > 1 else members[0])
    return module.eval()


def measure(members: Sequence[Weights], kind: str, validation: Pictures, folder: Path, half: str) -> dict[str, Any]:
    """Returns accuracies of each network and of all together, on unseen phantoms and on one half of CAMUS."""
    real, patients = camus(folder, half)
    each = [right(logits([weights], kind, real), real).mean() for weights in members]
    scored = logits(members, kind, real)
    return {
        "phantom": round(float(right(logits(members, kind, validation), validation).mean()), 3),
        "each": [round(float(share), 3) for share in each],
        "ensemble": figures(scored, real, patients),
    }


def right(logits_NK: np.ndarray, data: Pictures) -> np.ndarray:
    return logits_NK.argmax(axis=1) == data.label_N


def figures(logits_NK: np.ndarray, data: Pictures, patients: np.ndarray) -> dict[str, Any]:
    """Returns the accuracy with its interval by patient, recall per view, the labels given, and the choice between the
    two views alone."""
    correct_N = right(logits_NK, data)
    names, given_N = task.names(), logits_NK.argmax(axis=1)
    shown = np.unique(data.label_N)
    between_N = shown[logits_NK[:, shown].argmax(axis=1)] == data.label_N
    rows = {"patient": patients, "correct": correct_N}
    low, high = bootstrap(rows, lambda drawn: {"accuracy": float(drawn["correct"].mean())})["accuracy"]
    return {
        "stills": len(correct_N),
        "patients": len(np.unique(patients)),
        "accuracy": round(float(correct_N.mean()), 3),
        "interval": [round(low, 3), round(high, 3)],
        "recall": {names[k]: round(float(correct_N[data.label_N == k].mean()), 3) for k in shown},
        "given": {names[k]: int(count) for k, count in enumerate(np.bincount(given_N, minlength=15)) if count},
        "between_two": round(float(between_N.mean()), 3),
    }


def threshold(confidence_N: np.ndarray, correct_N: np.ndarray) -> float:
    """Returns the lowest confidence from which at most MAX_WRONG of all pictures get a wrong label."""
    candidates = np.unique(np.round(confidence_N, 3))
    wrong = [float(((confidence_N >= c) & ~correct_N).mean()) for c in candidates]
    return float(next((c for c, share in zip(candidates, wrong, strict=True) if share <= MAX_WRONG), 1.0))


def answered(logits_NK: np.ndarray, data: Pictures, thresholds: task.Thresholds) -> dict[str, float]:
    """Returns the shares that are right, wrong, and without a label."""
    confidence_N = softmax_at(logits_NK, thresholds.temperature).max(axis=1)
    label_N, correct_N = confidence_N >= thresholds.abstain_below, right(logits_NK, data)
    label_N &= energy(logits_NK) >= (thresholds.min_energy or -np.inf)
    shares = {"right": label_N & correct_N, "wrong": label_N & ~correct_N, "no label": ~label_N}
    return {name: round(float(share.mean()), 3) for name, share in shares.items()}


def softmax_at(logits_NK: np.ndarray, temperature: float) -> np.ndarray:
    return torch.from_numpy(logits_NK / temperature).softmax(dim=1).numpy()


def ship(members: list[Weights], kind: str, seeds: list[int], validation: Pictures, folder: Path, work: Path) -> None:
    """Seals the ensemble, its threshold chosen on one half of CAMUS, and scores the other half, once."""
    halves = [{k: v.half().float() if v.ndim > 1 else v for k, v in weights.items()} for weights in members]
    real, _ = camus(folder, "choose")
    synthetic = logits(halves, kind, validation)
    temperature = fit_temperature(synthetic, validation.label_N)
    chosen = logits(halves, kind, real)
    abstain_below = threshold(softmax_at(chosen, temperature).max(axis=1), right(chosen, real))
    thresholds = task.Thresholds(
        temperature=round(temperature, 4),
        abstain_below=round(abstain_below, 3),
        min_energy=round(float(np.quantile(energy(synthetic), UNFAMILIAR_SHARE)), 3),
    )
    other, patients = camus(folder, "report")
    scored = logits(halves, kind, other)
    report = {
        "seeds": seeds,
        "phantom": round(float(right(synthetic, validation).mean()), 3),
        "choose": answered(chosen, real, thresholds) | {"accuracy": round(float(right(chosen, real).mean()), 3)},
        "report": figures(scored, other, patients) | answered(scored, other, thresholds),
        "thresholds": thresholds.model_dump(),
    }
    (work / "shipped.json").write_text(json.dumps(report, indent=1))
    seal_bundle(halves, kind, thresholds, card(report))
    print(json.dumps(report, indent=1))


def seal_bundle(members: list[Weights], kind: str, thresholds: task.Thresholds, text: str) -> None:
    """Writes the bundle in the place of the shipped one: kernels in 16 bits, ONNX checked against torch."""
    shutil.rmtree(SHIPPED, ignore_errors=True)
    SHIPPED.mkdir(parents=True)
    module, preprocessing = ensemble(members, kind), task.Preprocessing()
    batch = task.preprocess(task.example(GOLDEN_SEED), preprocessing).batch
    with torch.inference_mode():
        golden = Golden(batch, *(tensor.numpy() for tensor in module(torch.from_numpy(batch))))
    (SHIPPED / MODEL).write_bytes(in_halves(to_onnx(module, batch, norms_apart=True)))
    session = onnxruntime.InferenceSession(SHIPPED / MODEL, providers=["CPUExecutionProvider"])
    check_parity(module, session, [batch, np.repeat(batch, 3, axis=0)])
    state = {k: v.half() if v.ndim > 1 else v for k, v in module.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, SHIPPED / WEIGHTS)
    write_golden(SHIPPED, golden)
    (SHIPPED / CARD).write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    contents = Contents(
        task=task.NAME,
        labels=labels_of(task.NAME),
        preprocessing=preprocessing.model_dump(mode="json"),
        network=learning.Network(kind=kind, members=len(members)).model_dump(mode="json"),
        input=InputShape(shape=batch.shape[1:]),
        thresholds=thresholds.model_dump(mode="json"),
        data_digest=digest,
        split_id=digest[:16],
        code=Code(version=__version__, package_digest=package_digest()),
    )
    seal(SHIPPED, contents)


def card(report: dict[str, Any]) -> str:
    """The model card; it holds no date, so that the same model has the same bundle id."""
    real, chosen = report["report"], report["choose"]
    low, high = real["interval"]
    recall = ", ".join(f"{name} {share:.2f}" for name, share in real["recall"].items())
    shares = "{right:.3f} right, {wrong:.3f} wrong with a label, {none:.3f} without a label"
    held, fitted = (shares.format(none=found["no label"], **found) for found in (real, chosen))
    return f"""# echo-view-image

Research use, not a medical device: no answer of this model may guide care.

View of an echo picture, one of 15 (Madani et al. 2018, arXiv 1706.08658), from stills or frames of clips.

## What it was made from

- {len(report["seeds"])} small residual networks (seeds {report["seeds"]}) whose logits are averaged
- synthetic patients of the phantom's wide ranges alone: no real picture was learnt from
- real pictures were used to choose: the ranges were designed while looking at CAMUS stills, and the abstention
  threshold was chosen on the 50 CAMUS patients with odd numbers. CAMUS (Leclerc et al. 2019) is CC BY-NC-SA 4.0.
- command: `python -m benchmarks.views_training`

## Figures

Unseen synthetic patients, 15 views: {report["phantom"]:.3f} right.

{real["stills"]} real stills of the {real["patients"]} CAMUS patients with even numbers (A4C and A2C, one vendor),
top answer among 15: {real["accuracy"]:.3f} right (95 % interval by patient {low:.3f} to {high:.3f}); {recall}.
With the threshold: {held}.
On the half that chose the threshold: {chosen["accuracy"]:.3f} right; with the threshold {fitted}.

## Limits

The other ten views of a moving heart were never measured on real pictures; apical views are confused with one
another. Transoesophageal, stress, contrast and congenital studies, children and machines with unusual layouts are
unknown to it. It knows adult hearts in the usual orientation; pictures that are mirrored or upside down get no
useful answer.
"""
