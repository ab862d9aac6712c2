"""Scores of echo-view-video: the threshold, figures by patient, and the sealed bundle with its card.

Axes: N clip, T frame, H row, W column, K label."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.views_clips import INPUT
from benchmarks.views_outside import KINDS, PER_KIND, study_of
from benchmarks.views_outside import scores as outside_scores
from benchmarks.views_pictures import camus
from benchmarks.views_scores import needed, softmax_at, threshold
from benchmarks.views_video_card import HEADLINE, card, record
from echoplane import runtimes
from echoplane.bundle import Contents, seal
from echoplane.bundle.spec import CARD
from echoplane.dataset.shards import Shards
from echoplane.evaluation.intervals import bootstrap
from echoplane.phantom.cohort import acquisition_order, write_patient
from echoplane.phantom.patient import VIEW_NAMES
from echoplane.study.reading import read_study_at
from echoplane.study.study import Study
from echoplane.tasks import view_video as task
from echoplane.tasks.task import Result, Rows, probabilities_of

SHIPPED = Path(__file__).resolve().parents[1] / "models" / task.NAME
PATIENTS = range(60_000, 60_020)
"""Patients of usual ranges who are written as DICOM files of a machine's screen and read as a user's are."""
PART = 32


@dataclass(frozen=True)
class Scored:
    """Clips (N, T, H, W) with their labels and patients."""

    clip_NTHW: np.ndarray
    label_N: np.ndarray
    patient_N: np.ndarray


def logits(model: runtimes.OpenModel, clip_NTHW: np.ndarray) -> np.ndarray:
    """Returns the logits (N, K) of prepared clips."""
    parts = [clip_NTHW[k : k + PART] for k in range(0, len(clip_NTHW), PART)]
    return np.concatenate([model.runtime.run(part).output for part in parts])


def answered(logits_NK: np.ndarray, thresholds: task.Thresholds) -> list[Result]:
    """Returns the answers to prepared clips; the checks of the pixels, which refuse frozen clips, are not asked."""
    return [task.interpret(each[None], Study(()), {}, thresholds) for each in logits_NK]


def figures(results: Sequence[Result], label_N: np.ndarray, patient_N: np.ndarray) -> dict[str, Any]:
    """Returns the headline figures with their 95 % intervals by patient, the labels given, and the recall of each
    view."""
    given = [result.label for result in results]
    rows: Rows = {
        "probabilities": np.array([list(probabilities_of(result).values()) for result in results]),
        "truth": label_N,
        "abstained": np.array([label is None for label in given]),
        "patient": patient_N,
    }
    right_N = np.array([label == task.names()[truth] for label, truth in zip(given, label_N, strict=True)])
    found, spread = task.summary(rows), bootstrap(rows, task.summary)
    return {
        "clips": len(label_N),
        "patients": len(np.unique(patient_N)),
        **{name: [round(each, 4) for each in (found[name], *spread[name])] for name in HEADLINE},
        "right": round(float(right_N.mean()), 4),
        "no label": round(found["abstained"], 4),
        "wrong": round(float((~right_N & ~rows["abstained"]).mean()), 4),
        "recall by view": {
            name: round(found[f"recall/{name}"], 3) for name in task.showing(rows) if f"recall/{name}" in found
        },
        "top answer": {
            task.names()[k]: int(n) for k, n in enumerate(np.bincount(rows["probabilities"].argmax(axis=1))) if n
        },
    }


def frozen(folder: Path, half: str) -> Scored:
    """Returns the CAMUS stills of one half, each as a clip that does not move."""
    stills, patient_N = camus(folder, half, (INPUT.size, INPUT.size))
    return Scored(np.repeat(stills.grey_NHW[:, None], INPUT.frames, axis=1), stills.label_N, patient_N)


def screens(folder: Path, model: runtimes.OpenModel) -> tuple[list[Result], np.ndarray, np.ndarray]:
    """Returns the answers to the DICOM files of PATIENTS, their labels and their patients."""
    results, labels, patients = [], [], []
    for seed in PATIENTS:
        for path, view in zip(write_patient(folder, seed), acquisition_order(seed, VIEW_NAMES), strict=True):
            results.append(runtimes.answer(read_study_at(path), model).result)
            labels.append(VIEW_NAMES.index(view))
            patients.append(seed)
    return results, np.array(labels), np.array(patients)


def chosen_thresholds(
    model: runtimes.OpenModel, made: Mapping[str, Any], real: Scored, shards: Shards
) -> task.Thresholds:
    """Returns the bundle's thresholds, those of confidence raised until few of the clips that they are chosen on have a
    wrong label (`views_scores.MAX_WRONG`): validation clips, and for the labels whose logits were raised also frozen
    real stills."""
    thresholds = task.Thresholds.model_validate(model.bundle.thresholds.model_dump())
    rows = shards.rows_of("validation")
    validation = Scored(np.stack([shards.sample(row) for row in rows]), shards.truths[rows], rows)
    found = []
    for scored in (validation, real):
        found_NK = logits(model, scored.clip_NTHW)
        confidence_N = softmax_at(found_NK, thresholds.temperature).max(axis=1)
        found.append(threshold(confidence_N, found_NK.argmax(axis=1) == scored.label_N))
    of_validation, of_real = found
    chosen = needed(max(of_validation, thresholds.abstain_below), of_real, made["adjusted"])
    chosen["trained_shares"] = made["trained_shares"]
    return task.Thresholds.model_validate(thresholds.model_dump() | chosen)


def chosen_on(folder: Path, made: Mapping[str, Any], camus_folder: Path, shards: Shards) -> dict[str, Any]:
    """Returns the thresholds, and figures of the clips that they are chosen on."""
    model = opened(folder)
    real = frozen(camus_folder, "choose")
    thresholds = chosen_thresholds(model, made, real, shards)
    rows = shards.rows_of("validation")
    clips = np.stack([shards.sample(row) for row in rows])
    return {
        "thresholds": thresholds.model_dump(),
        "validation": figures(
            answered(logits(model, clips), thresholds), shards.truths[rows], shards.index["patient"][rows]
        ),
        "choose": figures(answered(logits(model, real.clip_NTHW), thresholds), real.label_N, real.patient_N),
    }


def opened(folder: Path) -> runtimes.OpenModel:
    return runtimes.open(folder, runtimes.InferenceSettings(precision="f32"))


def moved(still_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns frames (T, H, W) of a still that sways and breathes, with noise, as by a probe that is not held still."""
    rows, columns = still_HW.shape
    phase_T = 2 * np.pi * (rng.uniform() + np.arange(24) / 24)
    frames = []
    for phase in phase_T:
        matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), 2 * np.sin(phase), 1 + 0.03 * np.cos(phase))
        frames.append(cv2.warpAffine(still_HW, matrix, (columns, rows)) + rng.normal(0, 2, still_HW.shape))
    return np.clip(frames, 0, 255).astype(np.uint8)


def outside(model: runtimes.OpenModel, hearts: Scored) -> dict[str, dict[str, float]]:
    """Returns the AUROC of confidence and of energy between hearts and each kind of clip without a view, and the share
    of these with a label."""
    known = [outside_scores(study_of(clip_THW), model) for clip_THW in hearts.clip_NTHW[: 10 * PER_KIND]]
    found = {}
    for number, (name, draw) in enumerate(KINDS.items()):
        rng, rows = np.random.default_rng([number, 73]), []
        for k in range(PER_KIND):
            drawn = draw(rng, cv2.resize(hearts.clip_NTHW[k, 0], (160, 120)))
            drawn = drawn if drawn.ndim == 3 and len(drawn) > 1 else _moving(name, drawn, draw, rng)
            rows.append(outside_scores(study_of(drawn), model))
        truth = [1] * len(known) + [0] * len(rows)
        by_confidence, by_energy = (float(roc_auc_score(truth, [row[k] for row in known + rows])) for k in (0, 1))
        label = float(np.mean([row[2] for row in rows]))
        found[name] = {"by confidence": round(by_confidence, 3), "by energy": round(by_energy, 3), "label": label}
    return found


def _moving(name: str, drawn: np.ndarray, draw: Callable[..., np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Returns a clip of a kind that is drawn as a still; noise is another in each frame."""
    if name == "noise":
        return np.stack([draw(rng, drawn) for _ in range(24)])
    return moved(drawn.reshape(drawn.shape[-2:]), rng)


def controls(model: runtimes.OpenModel, scored: Scored) -> dict[str, float]:
    """Returns the accuracy with the sector masked, with frames in another order, and with the first frame alone."""
    lit = scored.clip_NTHW.max(axis=1, keepdims=True) > 0
    order = np.random.default_rng(0).permutation(scored.clip_NTHW.shape[1])
    kinds = {
        "as they are": scored.clip_NTHW,
        "sector masked": np.broadcast_to(np.where(lit, np.uint8(90), np.uint8(0)), scored.clip_NTHW.shape),
        "frames in another order": scored.clip_NTHW[:, order],
        "first frame alone": np.broadcast_to(scored.clip_NTHW[:, :1], scored.clip_NTHW.shape),
    }
    right = {name: logits(model, np.ascontiguousarray(c)).argmax(axis=1) == scored.label_N for name, c in kinds.items()}
    return {name: round(float(correct_N.mean()), 3) for name, correct_N in right.items()}


def ship(
    folder: Path, made: dict[str, Any], tests: dict[str, Scored], camus_folder: Path, shards: Shards, work: Path
) -> None:
    """Seals the exported bundle in the place of the shipped one, its threshold chosen, and scores every set."""
    model = opened(folder)
    chosen = frozen(camus_folder, "choose")
    thresholds = chosen_thresholds(model, made, chosen, shards)
    model = replace(model, bundle=replace(model.bundle, spec=_with(model.bundle.spec, thresholds)))
    report: dict[str, Any] = {"made": made, "thresholds": thresholds.model_dump(), "sets": {}}
    report["sets"]["usual, DICOM files"] = figures(*screens(work / "screens", model))
    tests = tests | {"CAMUS odd": chosen, "CAMUS even": frozen(camus_folder, "report")}
    for name, scored in tests.items():
        results = answered(logits(model, scored.clip_NTHW), thresholds)
        report["sets"][name] = figures(results, scored.label_N, scored.patient_N)
    report["outside"] = outside(model, tests["usual, machines never seen"])
    report["controls"] = controls(model, tests["usual"])
    (work / "shipped.json").write_text(json.dumps(report, indent=1))
    shutil.rmtree(SHIPPED, ignore_errors=True)
    SHIPPED.mkdir(parents=True)
    for name in model.bundle.spec.files:
        shutil.copyfile(folder / name, SHIPPED / name)
    (SHIPPED / CARD).write_text(card(report))
    spec = model.bundle.spec
    seal(SHIPPED, Contents(**{name: getattr(spec, name) for name in Contents.model_fields}))
    record(report)
    print(json.dumps(report, indent=1))


def _with(spec: Any, thresholds: task.Thresholds) -> Any:
    return spec.model_copy(update={"thresholds": thresholds.model_dump(mode="json")})
