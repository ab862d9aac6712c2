"""Scores of trained echo-view-image networks on phantom and real pictures, and the shipped bundle.

A network's answer is its top label among all 15. Real stills are asked by themselves: no patient is averaged over his
four. Axes: N picture, K label, M member."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file

from benchmarks.cmr_bundle import in_halves
from benchmarks.views_pictures import Pictures, camus, inputs
from benchmarks.views_stills import FRAMES, Clips
from echoplane import __version__
from echoplane.bundle import Code, Contents, Golden, InputShape, seal, write_golden
from echoplane.bundle.bundle import GOLDEN_SEED
from echoplane.bundle.export import check_parity, to_onnx
from echoplane.bundle.spec import CARD, MODEL, WEIGHTS, labels_of
from echoplane.evaluation.intervals import bootstrap
from echoplane.stages.stage import package_digest
from echoplane.tasks import view_image as task
from echoplane.tasks.calibration import ALWAYS_ANSWERED, UNFAMILIAR_SHARE, fit_temperature
from echoplane.tasks.classify import energy
from echoplane.tasks.view_image import learning

SHIPPED = Path(__file__).resolve().parents[1] / "models" / task.NAME
MAX_WRONG = 0.05
"""Share of real stills that may get a wrong label: the thresholds of the labels whose logits were raised are chosen for
it."""
OTHERS_NEED = ALWAYS_ANSWERED
"""Confidence that the other labels need, at least: no real picture of them was there to choose it on."""
SHARES = {
    "plax": 15,
    "rv-inflow": 3,
    "sax-basal": 10,
    "sax-mid": 10,
    "a4c": 20,
    "a5c": 5,
    "a2c": 12,
    "a3c": 8,
    "subcostal-4c": 6,
    "subcostal-ivc": 5,
}
"""Pictures of each view per hundred in a usual examination, as a site might declare them; others 1."""
Weights = dict[str, torch.Tensor]


def logits(members: Sequence[Weights], network: learning.Network, data: Pictures) -> np.ndarray:
    """Returns the logits (N, K) of one network or of an ensemble."""
    module = ensemble(members, network)
    with torch.inference_mode():
        return torch.cat([module(part)[0] for part in torch.from_numpy(inputs(data.grey_NHW)).split(100)]).numpy()


def of_clips(logits_NK: np.ndarray, frames: int, temperature: float) -> np.ndarray:
    """Returns the logarithms of each clip's mean probabilities over its `frames` (clip, K), as `interpret` averages
    them."""
    probability_NK = softmax_at(logits_NK, temperature)
    return np.asarray(np.log(probability_NK.reshape(-1, frames, probability_NK.shape[1]).mean(axis=1)))


def ensemble(members: Sequence[Weights], network: learning.Network) -> torch.nn.Module:
    module = learning.network(network.model_copy(update={"members": len(members)}))
    several = {f"members.{m}.{name}": value for m, weights in enumerate(members) for name, value in weights.items()}
    module.load_state_dict(several if len(members) > 1 else members[0])
    return module.eval()


def measure(
    members: Sequence[Weights],
    network: learning.Network,
    unseen: Mapping[str, Pictures],
    folder: Path,
    half: str = "choose",
) -> dict[str, Any]:
    """Returns accuracies of each network and of all together, on unseen phantoms and on one half of CAMUS."""
    real, patients = camus(folder, half)
    scored = logits(members, network, real)
    found: dict[str, Any] = {name: figures(logits(members, network, data), data) for name, data in unseen.items()}
    each = [right(logits([weights], network, real), real).mean() for weights in members]
    found["each"] = [round(float(share), 3) for share in each]
    return found | {"ensemble": figures(scored, real, patients=patients)}


def right(logits_NK: np.ndarray, data: Pictures) -> np.ndarray:
    return logits_NK.argmax(axis=1) == data.label_N


def figures(
    logits_NK: np.ndarray,
    data: Pictures,
    trained: Mapping[str, float] | None = None,
    patients: np.ndarray | None = None,
) -> dict[str, Any]:
    """Returns the accuracy with its interval by patient (by picture if each shows another heart), recall per view, the
    labels given, the choice between the views shown alone, and the accuracy with a declared share of each view after
    training with the shares `trained`, even ones if None."""
    correct_N = right(logits_NK, data)
    names, given_N = task.names(), logits_NK.argmax(axis=1)
    shown = np.unique(data.label_N)
    between_N = shown[logits_NK[:, shown].argmax(axis=1)] == data.label_N
    rows = {"patient": np.arange(len(correct_N)) if patients is None else patients, "correct": correct_N}
    low, high = bootstrap(rows, lambda drawn: {"accuracy": float(drawn["correct"].mean())})["accuracy"]
    return {
        "stills": len(correct_N),
        "patients": len(np.unique(rows["patient"])),
        "accuracy": round(float(correct_N.mean()), 3),
        "interval": [round(low, 3), round(high, 3)],
        "recall": {names[k]: round(float(correct_N[data.label_N == k].mean()), 3) for k in shown},
        "given": {names[k]: int(count) for k, count in enumerate(np.bincount(given_N, minlength=15)) if count},
        "between_shown": round(float(between_N.mean()), 3),
        "with_shares": round(float(right(logits_NK + declared(trained), data).mean()), 3),
    }


def declared(trained: Mapping[str, float] | None = None) -> np.ndarray:
    """Returns the logarithms of SHARES relative to those of training (K,), to be added to the logits (Saerens et al.
    2002)."""
    shares_K = np.array([SHARES.get(name, 1) for name in task.names()], float)
    before_K = np.array([trained[name] if trained else 1 for name in task.names()], float)
    return np.asarray(np.log(shares_K / shares_K.sum() / before_K))


def raised(weights: Weights, changes: Mapping[str, float], names: Sequence[str]) -> Weights:
    """Returns weights of a network whose logits are higher by `changes`, by label (Menon et al. 2021, arXiv
    2007.07314)."""
    change_K = torch.tensor([changes.get(name, 0.0) for name in names])
    return weights | {"classify.bias": weights["classify.bias"] + change_K}


def raised_shares(label_N: np.ndarray, changes: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Returns the shares of the labels from which a network of the same answers would have learnt without `changes`;
    samples under 0 have no label."""
    counts_K = np.bincount(label_N[label_N >= 0], minlength=len(names)).astype(float)
    counts_K *= np.exp([changes.get(name, 0.0) for name in names])
    return dict(zip(names, (counts_K / counts_K.sum()).round(5).tolist(), strict=True))


def threshold(confidence_N: np.ndarray, correct_N: np.ndarray) -> float:
    """Returns the lowest confidence from which at most MAX_WRONG of all pictures get a wrong label."""
    candidates = np.unique(np.round(confidence_N, 3))
    wrong = [float(((confidence_N >= c) & ~correct_N).mean()) for c in candidates]
    return float(next((c for c, share in zip(candidates, wrong, strict=True) if share <= MAX_WRONG), 1.0))


def needed(of_others: float, of_raised: float, adjusted: Iterable[str]) -> dict[str, Any]:
    """Returns the thresholds of confidence of a bundle: OTHERS_NEED at least, and no less for the labels whose logits
    were raised."""
    others = max(of_others, OTHERS_NEED)
    raised_need = round(max(others, of_raised), 3)
    return {"abstain_below": round(others, 3), "label_thresholds": dict.fromkeys(adjusted, raised_need)}


def answered(logits_NK: np.ndarray, data: Pictures, thresholds: task.Thresholds) -> dict[str, float]:
    """Returns the shares that are right, wrong, and without a label."""
    confidence_N = softmax_at(logits_NK, thresholds.temperature).max(axis=1)
    needed_K = np.array([thresholds.needed_for(name) for name in task.names()])
    label_N, correct_N = confidence_N >= needed_K[logits_NK.argmax(axis=1)], right(logits_NK, data)
    label_N &= energy(logits_NK) >= (thresholds.min_energy or -np.inf)
    shares = {"right": label_N & correct_N, "wrong": label_N & ~correct_N, "no label": ~label_N}
    return {name: round(float(share.mean()), 3) for name, share in shares.items()}


def softmax_at(logits_NK: np.ndarray, temperature: float) -> np.ndarray:
    return torch.from_numpy(logits_NK / temperature).softmax(dim=1).numpy()


def ship(
    members: list[Weights],
    network: learning.Network,
    made: Mapping[str, Any],
    validation: Pictures,
    unseen: Mapping[str, Pictures],
    clips: Mapping[str, Clips],
    folder: Path,
    work: Path,
) -> None:
    """Seals the ensemble, its thresholds fitted on validation pictures and on one half of CAMUS, and scores every set
    and the other half, once."""
    halves = [{k: v.half().float() if v.ndim > 1 else v for k, v in weights.items()} for weights in members]
    known = logits(halves, network, validation)
    temperature = fit_temperature(known, validation.label_N)
    real = {half: camus(folder, half) for half in ("choose", "report")}
    sets: dict[str, tuple[np.ndarray, Pictures, np.ndarray | None]] = {
        name: (logits(halves, network, data), data, None) for name, data in unseen.items()
    }
    sets |= {name: (logits(halves, network, data), data, patients) for name, (data, patients) in real.items()}
    of_others, of_raised = (
        threshold(softmax_at(scored, temperature).max(axis=1), right(scored, data))
        for scored, data in ((known, validation), sets["choose"][:2])
    )
    thresholds = task.Thresholds(
        temperature=round(temperature, 4),
        **needed(of_others, of_raised, made["adjusted"]),
        min_energy=round(float(np.quantile(energy(known), UNFAMILIAR_SHARE)), 3),
        trained_shares=made["trained_shares"],
    )
    found = {
        name: figures(scored, data, made["trained_shares"], of) | answered(scored, data, thresholds)
        for name, (scored, data, of) in sets.items()
    }
    for name, some in clips.items():
        scored = of_clips(logits(halves, network, some.pictures), FRAMES, temperature)
        labels = Pictures(some.pictures.grey_NHW[::FRAMES], some.pictures.label_N[::FRAMES])
        found[name] = figures(scored, labels, made["trained_shares"], some.patient_N) | answered(
            scored, labels, thresholds.model_copy(update={"temperature": 1.0, "min_energy": None})
        )
    report = {"made": dict(made), "thresholds": thresholds.model_dump(), "sets": found}
    (work / "shipped.json").write_text(json.dumps(report, indent=1))
    seal_bundle(halves, network, thresholds, card(report))
    print(json.dumps(report, indent=1))


def seal_bundle(members: list[Weights], network: learning.Network, thresholds: task.Thresholds, text: str) -> None:
    """Writes the bundle in the place of the shipped one: kernels in 16 bits, ONNX checked against torch."""
    shutil.rmtree(SHIPPED, ignore_errors=True)
    SHIPPED.mkdir(parents=True)
    module, preprocessing = ensemble(members, network), task.Preprocessing()
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
        network=network.model_copy(update={"members": len(members)}).model_dump(mode="json"),
        input=InputShape(shape=batch.shape[1:]),
        thresholds=thresholds.model_dump(mode="json"),
        data_digest=digest,
        split_id=digest[:16],
        code=Code(version=__version__, package_digest=package_digest()),
    )
    seal(SHIPPED, contents)


def card(report: dict[str, Any]) -> str:
    """The model card; it holds no date, so that the same model has the same bundle id."""
    made, raised = report["made"], said_raises(report["made"])
    table = "\n".join(_row(text, report["sets"][name]) for name, text in SETS.items() if name in report["sets"])
    return f"""# echo-view-image

Research use, not a medical device: no answer of this model may guide care.

View of an echo picture, one of 15 (Madani et al. 2018, arXiv 1706.08658), from stills or frames of clips.

## What it was made from

- {len(made["seeds"])} small residual networks (seeds {made["seeds"]}) whose logits are averaged, each trained for
  {made["steps"]} steps of {made["batch"]} pictures: {made["minutes"]} minutes of one processor core in all
- {made["pictures"]} pictures of as many synthetic hearts: half of the phantom's clinic ranges, a quarter each of the
  usual and bedside ones, apical views twice as often as others; and {made["outliers"]} pictures that show no view.
  Synthetic hearts alone: no real picture was learnt from
- after training, the logits are raised: {raised} (`trained_shares` in bundle.json hold it), since laboratories record
  these views most often and the networks take real ones for A5C and A3C; a grey curve of exponent {made["exponent"]}
  comes before the networks
- real pictures were used to choose: the ranges were designed while looking at CAMUS stills; recipe, grey curve, raised
  logits and the abstention threshold were chosen on the CAMUS patients with odd numbers.
  CAMUS (Leclerc et al. 2019) is CC BY-NC-SA 4.0.
- command: `python -m benchmarks.views_training` (docs/views.md)

## Figures

Percent. The top answer is among all 15 views, whatever the threshold, with its 95 % interval by patient; each
synthetic picture shows another heart. A clip has 8 frames, whose probabilities are averaged. CAMUS shows A4C and A2C,
of one vendor.

| set | pictures | patients | top answer right | right label | wrong label | no label | with declared shares | recall |
|---|---|---|---|---|---|---|---|---|
{table}

"Declared shares": the top answer if a site states how often each view occurs (A4C 20, PLAX 15, A2C 12 in a hundred,
...; `SHARES` in `benchmarks/views_scores.py`). The bundle does not use them.

## Limits

Most real pictures get no label: A4C and A2C need a confidence of {said_needed(report)}, chosen so that at most
{100 * MAX_WRONG:.0f} % of the CAMUS stills of the odd half get a wrong label. The other labels need
{report["thresholds"]["abstain_below"]}, with no real picture to choose it on.

Only A4C and A2C were measured on real pictures, of one vendor. Apical views are confused with one another, above all
A4C with A2C and, on synthetic hearts, A5C with A4C. A still on a full screen without regions in its header is read with
all that surrounds the sector, which was not measured. Transoesophageal, stress, contrast and congenital studies,
children and machines with unusual layouts are unknown to it. It knows adult hearts in the usual orientation; pictures
that are mirrored or upside down get no useful answer.
"""


def said_raises(made: Mapping[str, Any]) -> str:
    """Returns by how much which logits were raised, for a card."""
    return ", ".join(f"{name.upper()} by {change}" for name, change in made["adjusted"].items())


def said_needed(report: Mapping[str, Any]) -> str:
    """Returns the confidence that the labels of raised logits need, for a card."""
    return " and ".join(f"{value:.3f}" for value in sorted(set(report["thresholds"]["label_thresholds"].values())))


def _row(text: str, found: dict[str, Any]) -> str:
    low, high = found["interval"]
    recall = ", ".join(f"{view} {share:.2f}" for view, share in found["recall"].items())
    shares = " | ".join(f"{100 * found[name]:.1f}" for name in ("right", "wrong", "no label", "with_shares"))
    return (
        f"| {text} | {found['stills']} | {found['patients']} | {100 * found['accuracy']:.1f} ({100 * low:.1f} to "
        f"{100 * high:.1f}) | {shares} | {recall} |"
    )


SETS = {
    "usual": "synthetic, usual ranges",
    "usual-field": "synthetic, usual ranges, machines never seen",
    "usual clips": "synthetic clips, usual ranges",
    "usual-field clips": "synthetic clips, usual ranges, machines never seen",
    "phantom": "synthetic, clinic ranges",
    "field": "synthetic, clinic ranges, machines never seen",
    "choose": "CAMUS, odd numbers (optimistic: used to choose)",
    "report": "CAMUS, even numbers (third look; the thresholds were chosen anew after it)",
}
