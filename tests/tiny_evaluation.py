"""A finished chain of stages over a tiny cohort: studies, samples and bundle that fit each other, and scores drawn at
random for what needs no model. Axes: N clip, K label."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from echoplane.bundle import read
from echoplane.evaluation.intervals import bootstrap
from echoplane.files import digest_of
from echoplane.stages import dataset
from echoplane.stages.outputs import BundleOutput
from echoplane.stages.stage import Manifest, file_digests
from echoplane.tasks import Rows, by_name
from tests.tiny_bundle import TASK, make_tiny_bundle
from tests.tiny_cohort import write_cohort

NAMES = [label.name for label in by_name(TASK).labels()]


def make_chain(root: Path, patients: int = 12, views: int = 3) -> dict[str, str]:
    """The manifests of `studies`, `samples` and `bundle` under `root`."""
    studies = write_cohort(root / "studies", patients, views)
    samples = dataset.run(dataset.Config(root=str(root / "run"), studies=str(studies), workers=1))
    described = json.loads((samples.path / "dataset.json").read_text())
    bundle = make_tiny_bundle(root / "bundle", data_digest=described["data_digest"], split_id=described["split_id"])
    return {"studies": str(studies), "samples": f"{samples.folder}/manifest.json", "bundle": finish(bundle, "export")}


def finish(folder: Path, stage: str) -> str:
    """The manifest that makes `folder` a finished stage."""
    digest = digest_of(file_digests(folder))
    output = BundleOutput(bundle_id=read(folder).id) if stage == "export" else None
    Manifest(stage=stage, key="0", digest=digest, folder=str(folder), counts={}, output=output, duration_s=0).write(
        folder / "manifest.json"
    )
    return str(folder / "manifest.json")


def make_record(scores: Rows, **changes: Any) -> dict[str, Any]:
    """The content of `evaluation.json` for `scores`, with `changes`."""
    summary = by_name(TASK).summary
    intervals = bootstrap(scores, summary, resamples=100)
    figures = {
        name: {"value": value, "low": intervals[name][0], "high": intervals[name][1]}
        for name, value in summary(scores).items()
    }
    size = {"patients": len(set(scores["patient"])), "clips": len(scores["truth"])}
    return {
        "schema": 1,
        "task": TASK,
        "bundle_id": "b" * 64,
        "split_id": "split",
        "data_digest": "d" * 64,
        "runtime": "openvino",
        "device": "cpu",
        "precision": "f32",
        "threads": 1,
        **size,
        "figures": figures,
        "headline": ["accuracy"],
        "labels": dict.fromkeys(NAMES, size),
        "subgroups": {"sex": {"F": {**size, "figures": figures}}},
        "latency_ms": {"p50": 10.0, "p95": 20.0, "preprocess_p50": 5.0, "inference_p50": 4.0},
        "data": {"samples": 1000, "without_deid": 0, "patients_in_two_splits": 0},
        **changes,
    }


def draw_scores(
    patients: int = 30, accuracy: float = 0.95, seed: int = 0, *, whole_patients: bool = False, views: int = 12
) -> Rows:
    """Scores as `as_rows` gives them: one clip a view and patient, right with probability `accuracy`.

    With `whole_patients` all clips of a patient are right or all are wrong: the strongest cluster there is.
    """
    rng = np.random.default_rng(seed)
    patient_N = np.repeat([f"p{n:03d}" for n in range(patients)], views)
    truth_N = np.tile(np.arange(views), patients)
    draw_N = np.repeat(rng.random(patients), views) if whole_patients else rng.random(len(truth_N))
    answer_N = np.where(draw_N < accuracy, truth_N, (truth_N + 1) % views)
    probabilities_NK = np.full((len(truth_N), len(NAMES)), 0.05 / (len(NAMES) - 1))
    probabilities_NK[np.arange(len(truth_N)), answer_N] = 0.95
    return {
        "patient": patient_N,
        "sample": np.array([f"{p}-{t:02d}" for p, t in zip(patient_N, truth_N, strict=True)]),
        "truth": truth_N,
        "abstained": np.zeros(len(truth_N), bool),
        "manufacturer": np.where(np.arange(len(truth_N)) // views % 2, "Bars", "Stripes"),
        "sex": np.full(len(truth_N), "F"),
        "age_band": np.full(len(truth_N), "60 to 69"),
        "probabilities": probabilities_NK,
    }
