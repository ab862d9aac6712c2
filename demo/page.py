"""Page of the demo: the results of each stage, as the values that `report.html` shows."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from demo import charts, pictures
from demo.client import Asked
from demo.outcome import Outcome
from echoplane.html import render
from echoplane.stages.dataset import in_words
from echoplane.stages.outputs import Samples, Studies
from echoplane.study.views import VIDEO_VIEWS

TEMPLATE = Path(__file__).with_name("report.html")
TITLES = {view.name: view.title for view in VIDEO_VIEWS}
FIGURES = {
    "accuracy": "accuracy",
    "top2": "right view among the first two",
    "precision": "precision, mean of the views",
    "recall": "recall, mean of the views",
    "f1": "F1, mean of the views",
    "calibration_error": "expected calibration error",
    "abstained": 'answered "cannot tell"',
}
PARTS = ("upload", "read", "preprocess", "inference", "interpret", "total")


def write(outcome: Outcome, path: Path) -> None:
    """Writes the page as one self-contained file: no script, no other file, no other host."""
    page = render(
        TEMPLATE.read_text(),
        head=_head(outcome),
        clips=_clips(outcome),
        deid=_deid(outcome),
        training=_training(outcome),
        test=_test(outcome),
        gate=_gate(outcome),
        served=_served(outcome),
        stages=_stages(outcome),
        next=_next(outcome),
        foot=f"echoplane. Data {outcome.report['data_digest'][:12]}, split {outcome.report['split_id'][:12]}, bundle "
        f"{outcome.report['bundle_id'][:12]}. Research use only; not a medical device.",
    )
    path.write_text(page)


def duration(seconds: float) -> str:
    """Returns a duration in words."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def sameness(skew: float) -> str:
    """Returns the largest difference between served and evaluated probabilities, in words."""
    if skew == 0:
        return "served and evaluated probabilities are equal to the last bit"
    return f"served and evaluated probabilities differ by at most {skew:.0e}"


def _head(outcome: Outcome) -> dict[str, Any]:
    report, counts = outcome.report, outcome.manifests["phantom"].counts
    accuracy = outcome.evaluation["figures"]["accuracy"]
    resumed = sum(stage["resumed"] for stage in report["stages"])
    found = f" and found {resumed} steps finished" if resumed else ""
    return {
        "time": "" if resumed else f" in {duration(report['seconds'])}",
        "took": f"This run took {duration(report['seconds'])}{found}.",
        "cohort": f"{counts['patients']} synthetic patients, {counts['clips']} ultrasound clips: de-identified, "
        "catalogued, learned from, tested, promoted and served, each by the component that a cluster runs.",
        "accuracy": percent(accuracy["value"]),
        "interval": f"{percent(accuracy['low'])} to {percent(accuracy['high'])}",
        "patients": report["n_test_patients"],
        "gate": "Passed" if report["gate"]["passed"] else "Refused",
        "http_ms": f"{report['http_ms']['p50']:.0f}",
        "requests": report["http_ms"]["requests"],
        "skew": f"{report['skew_max']:.0e}" if report["skew_max"] else "0",
    }


def _clips(outcome: Outcome) -> list[dict[str, Any]]:
    """Returns one patient's views, whether answered correctly or not: of the test patients with the most views, the
    first."""
    patient = outcome.asked[0].scored["patient"]
    return [_clip(asked) for asked in outcome.asked if asked.scored["patient"] == patient]


def _clip(asked: Asked) -> dict[str, Any]:
    truth, said = asked.scored["truth_label"], asked.answer["label"]
    verdict = "unsure" if said is None else "right" if said == truth else "wrong"
    return {
        "image": pictures.moving_clip(asked.path),
        "title": TITLES[truth],
        "verdict": verdict,
        "answer": {"unsure": "cannot tell", "right": "answered right"}.get(verdict, f"answered {TITLES.get(said)}"),
        "confidence": f"{asked.answer['confidence']:.2f}",
        "vendor": asked.scored["manufacturer"],
    }


def _deid(outcome: Outcome) -> dict[str, Any]:
    before, after = outcome.before, outcome.asked[0].path
    said_before, said_after = pictures.header(before), pictures.header(after)
    made = outcome.manifests["deid"].stated(Studies)
    return {
        "before": pictures.still(before),
        "after": pictures.still(after),
        "summary": f"{made.count} clips were written, {made.quarantined} set aside for a person, "
        f"{made.refused} refused{_left_out(outcome)}.",
        "header": [{"name": name, "before": said_before[name], "after": said_after[name]} for name in said_before],
    }


def _left_out(outcome: Outcome) -> str:
    """Returns what the catalogue could not use, with the reasons; empty if it took every clip."""
    left_out = outcome.manifests["dataset"].stated(Samples).left_out
    return f"; the catalogue left out {in_words(left_out)}" if left_out else ""


def _training(outcome: Outcome) -> dict[str, Any]:
    history = outcome.training["history"]
    steps = [row["steps"] for row in history]
    losses = {"training": [row["loss"] for row in history]}
    figures = [charts.line_chart("Loss over steps", steps, losses, top=max(losses["training"]))]
    if "validation_loss" in history[0]:
        losses["validation"] = [row["validation_loss"] for row in history]
        right = {"validation": [row["validation_accuracy"] for row in history]}
        figures = [
            charts.line_chart("Loss over steps", steps, losses, top=max(max(values) for values in losses.values())),
            charts.line_chart("Validation clips answered right, over steps", steps, right, top=1.0),
        ]
    patients = outcome.manifests["dataset"].stated(Samples).patients
    return {
        "summary": f"SlowFast, {outcome.training['steps']} steps by {outcome.training['workers']} Ray workers on "
        f"{patients['train']} patients; {patients['validation']} others were watched and calibrated on. Loss is the "
        "mean of an epoch.",
        "charts": figures,
    }


def _test(outcome: Outcome) -> dict[str, Any]:
    found = outcome.evaluation
    return {
        "summary": f"{found['clips']} clips of {found['patients']} patients whom training never saw, answered by "
        f"{found['runtime']} at {found['precision']}, which is what serves. Intervals are 95%, "
        "patients resampled.",
        "labels": [TITLES[name] for name in found["confusion"]["labels"]],
        "matrix": charts.matrix(found["confusion"]["labels"], TITLES, found["confusion"]["counts"]),
        "vendors": [_vendor(name, group) for name, group in found["subgroups"]["manufacturer"].items()],
        "figures": [
            {"name": title, "value": _with_interval(found["figures"][name])} for name, title in FIGURES.items()
        ],
    }


def _vendor(name: str, group: dict[str, Any]) -> dict[str, Any]:
    right = _with_interval(group["figures"]["accuracy"])
    return {"name": name, "patients": group["patients"], "clips": group["clips"], "right": right}


def _with_interval(figure: dict[str, float]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _gate(outcome: Outcome) -> dict[str, Any]:
    decision = outcome.decision
    against = f"version {decision['champion'][:12]}" if decision["champion"] else "nothing, it is the first"
    return {
        "passed": decision["passed"],
        "decision": "passed" if decision["passed"] else "refused",
        "summary": f"A model serves only if it meets every demand of the policy. Compared with: {against}.",
        "reasons": decision["reasons"],
    }


def _served(outcome: Outcome) -> dict[str, Any]:
    model, report = outcome.asked[0].answer["model"], outcome.report
    parts_ms = {name: np.median([a.answer["timings_ms"][name] for a in outcome.asked]) for name in PARTS}
    return {
        "summary": f"Model {model['name']} version {model['version']}, the registry's champion, answered "
        f"{report['http_ms']['requests']} uploads: median {report['http_ms']['p50']} ms, 95th percentile "
        f"{report['http_ms']['p95']} ms, the first one {report['http_ms']['first']} ms. Every label is evaluation's "
        f"own, and {sameness(report['skew_max'])}.",
        **charts.histogram([asked.elapsed_ms for asked in outcome.asked]),
        "conditions": f"{model['runtime']} at {model['precision']}",
        "parts": [{"name": name, "value": f"{value:.1f} ms"} for name, value in parts_ms.items()],
        "metrics": "\n".join(f"{name} {value:g}" for name, value in sorted(outcome.metrics.items())),
    }


def _stages(outcome: Outcome) -> list[dict[str, Any]]:
    longest = max(stage["seconds"] for stage in outcome.report["stages"])
    return [
        stage | {"part": round(100 * stage["seconds"] / max(longest, 0.1), 1), "time": f"{stage['seconds']:.1f} s"}
        for stage in outcome.report["stages"]
    ]


def _next(outcome: Outcome) -> dict[str, Any]:
    bundle = os.path.relpath(outcome.manifests["export"].path)
    steps = (
        ("Serve this model and ask it", "make serve\ncurl -F file=@clip.dcm http://127.0.0.1:3000/v1/echo-view-video"),
        ("Ask without a server", f".venv/bin/echoplane predict clip.dcm --bundle {bundle}"),
        (
            "Train on your own studies",
            "(umask 077; openssl rand -hex 32 > deid.key)\n"
            ".venv/bin/python -m pipelines run echo-view --root build/mine --source my-dicom --labels labels.csv "
            "--key-file deid.key",
        ),
        ("Compile the same pipeline for Kubeflow", ".venv/bin/python -m pipelines compile echo-view"),
    )
    return {"steps": [{"title": title, "command": text} for title, text in steps]}
