"""Every metric of the service. Labels are bounded: route templates, configured tasks, versions, predicted labels,
outcomes and stages; never a path, a file name or any text from a file.

Import this module after PROMETHEUS_MULTIPROC_DIR is set if several processes are to be summed; BentoML sets it.
"""

import os
from dataclasses import dataclass

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CANNOT_TELL, NO_TASK = "cannot-tell", "none"

REQUESTS = Counter(
    "echoplane_requests", "Requests answered, by route template and status.", ["route", "method", "status"]
)
ANSWERS = Counter(
    "echoplane_answers",
    "Studies answered: outcome is answered or abstained, view the label or cannot-tell.",
    ["task", "version", "view", "outcome"],
)
PROBLEMS = Counter(
    "echoplane_problems",
    "Studies that got no answer, by the end of the problem's type; task is none where no model was chosen.",
    ["task", "type"],
)
STAGE_SECONDS = Histogram(
    "echoplane_stage_seconds", "Time an answered study spent in each stage.", ["task", "stage"], buckets=SECONDS
)
IN_FLIGHT = Gauge("echoplane_in_flight", "Requests whose study is being answered.", multiprocess_mode="livesum")
QUEUED = Gauge("echoplane_queued", "Received requests that wait for a place.", multiprocess_mode="livesum")
MODEL_INFO = Gauge(
    "echoplane_model_info",
    "1 for the model that a slot answers with, 0 for one that it no longer does.",
    ["task", "version", "bundle", "runtime", "precision"],
    multiprocess_mode="livemostrecent",
)
SLOT_READY = Gauge(
    "echoplane_slot_ready", "1 where a task has a model that passed its checks.", ["task"], multiprocess_mode="livemin"
)
SLOT_STALE = Gauge(
    "echoplane_slot_stale",
    "1 where the newest model was refused or can't be fetched: the old one answers on.",
    ["task"],
    multiprocess_mode="livemax",
)
SHADOW = Counter(
    "echoplane_shadow_answers",
    "Studies offered to a challenger: outcome is agreed or differed (with the champion's label), failed or dropped.",
    ["task", "version", "outcome"],
)
LOG_ROWS = Counter(
    "echoplane_prediction_log_rows", "Rows of the prediction log: outcome is written or dropped.", ["outcome"]
)
MODEL_LOADS = Counter("echoplane_model_loads", "Models loaded into a slot or refused.", ["task", "outcome"])


@dataclass(frozen=True)
class ModelLabels:
    """Labels that identify the model behind an answer; `bundle` is the first 12 digits of its id."""

    task: str
    version: str
    bundle: str
    runtime: str
    precision: str


def model_in_service(model: ModelLabels, *, serving: bool) -> None:
    MODEL_INFO.labels(model.task, model.version, model.bundle, model.runtime, model.precision).set(int(serving))


def answered(task: str, version: str, label: str | None, timings_ms: dict[str, float]) -> None:
    """Counts one answer; a label of None means "cannot tell"."""
    outcome = "abstained" if label is None else "answered"
    ANSWERS.labels(task, version, label or CANNOT_TELL, outcome).inc()
    for stage, elapsed_ms in timings_ms.items():
        STAGE_SECONDS.labels(task, stage).observe(elapsed_ms / 1000)


def refused(task: str | None, kind: str) -> None:
    """Counts one study that got no answer; `kind` is the last part of the problem's type."""
    PROBLEMS.labels(task or NO_TASK, kind).inc()


def exposition() -> bytes:
    """Returns all metrics in the text format of Prometheus, summed over the processes of the service."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)
