"""The monitor's page: per task what drifted, since when and where, and the state of the retraining loop."""

from importlib import resources
from typing import Any

import numpy as np

from echoplane.bundle.accuracy_model import WINDOW
from echoplane.html import render
from echoplane.monitoring.drift import ALL, THRESHOLD, Alarm
from echoplane.monitoring.model_monitor import ModelMonitor
from echoplane.monitoring.retraining import loop_of, now
from echoplane.stages.drift import alarm_sentence
from serving.monitor.watcher import Watcher

MAX_REQUESTS = 20
CURVE_POINTS = 300


def page(watcher: Watcher, *, decides: bool = False) -> str:
    """Returns the page as HTML, with buttons for decisions on retraining if it `decides`. It holds no patient: numbers,
    names of streams, site labels, names of approvers."""
    loop = loop_of(watcher.trigger.audit.events(), watcher.policy, now())
    requests = sorted(loop.requests.values(), key=lambda one: one.requested, reverse=True)
    with watcher.lock:
        models = [_model(one) for one in watcher.monitors.current()]
    template = resources.files(__package__).joinpath("page.html").read_text()
    return render(
        template,
        models=models,
        loop=loop,
        requests=requests[:MAX_REQUESTS],
        runs_left=loop.runs_left(watcher.policy, now()),
        threshold=THRESHOLD,
        decides=decides,
        now=now(),
    )


def _model(model: ModelMonitor) -> dict[str, Any]:
    monitor = model.monitor
    return {
        "about": model,
        "name": f"version {model.version}" if model.version else f"bundle {model.bundle[:12]}",
        "alarm": alarm_sentence(monitor.alarm) if monitor and monitor.alarm else "",
        "accuracy": _accuracy(model),
        "groups": _groups(model),
        "streams": _streams(model, monitor.alarm if monitor else None),
        "curve": _curve(list(model.evidence)),
    }


def _accuracy(model: ModelMonitor) -> dict[str, Any] | None:
    """Returns the estimated accuracy in a sentence; None for a model without an estimate."""
    fitted = model.reference.accuracy_model if model.reference else None
    if fitted is None:
        return None
    estimate = model.estimate
    if estimate is None:
        return {"known": True, "sentence": f"Accuracy is estimated once {WINDOW:,} studies are answered."}
    if estimate.accuracy is None:
        return {"known": False, "sentence": f"The accuracy can't be known without labels: {estimate.reason}."}
    sentence = (
        f"Estimated accuracy of the last {WINDOW:,} studies, without labels: {estimate.accuracy:.1%}; "
        f"{fitted.accuracy:.1%} on validation studies. Mean error of the estimate: {100 * fitted.error_seen:.1f} "
        f"points on kinds of corruption that it was fitted on, {100 * fitted.error_unseen:.1f} on others. It does not "
        "see a change of what labels mean."
    )
    return {"known": True, "sentence": sentence}


def _groups(model: ModelMonitor) -> list[dict[str, Any]]:
    if model.monitor is None:
        return []
    return [
        {
            "group": "all studies" if group == ALL else group,
            "studies": streams.count,
            "ratio": streams.mean_evidence / THRESHOLD,
            "most": streams.strongest,
        }
        for group, streams in model.monitor.groups.items()
    ]


def _streams(model: ModelMonitor, alarm: Alarm | None) -> list[dict[str, Any]]:
    """Returns each stream's evidence, its mean over the latest studies (the drifted ones if known), and its mean at
    acceptance."""
    if model.monitor is None or model.reference is None or not model.recent:
        return []
    count = min(alarm.studies if alarm else len(model.recent), len(model.recent))
    latest = list(model.recent)[-count:]
    table = [
        {
            "stream": name,
            "ratio": evidence / THRESHOLD,
            "mean": float(np.mean([values[name] for values in latest])),
            "accepted_mean": float(np.mean(model.reference.streams[name])),
            "studies": count,
        }
        for name, evidence in model.monitor.streams.evidence.items()
    ]
    return sorted(table, key=lambda one: -float(one["ratio"]))


def _curve(evidence: list[float]) -> str:
    """Returns the points of an SVG polyline: evidence as a share of the threshold, 10^-5 to 100, logarithmic."""
    if not evidence:
        return ""
    step = max(1, len(evidence) // CURVE_POINTS)
    ratios = np.clip(np.array(evidence[::-1][::step][::-1]) / THRESHOLD, 1e-5, 100)
    heights = 140 * (1 - (np.log10(ratios) + 5) / 7)
    places = np.linspace(0, 640, len(heights)) if len(heights) > 1 else np.zeros(1)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(places, heights, strict=True))
