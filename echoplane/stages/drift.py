"""`echoplane drift`: compares the prediction log of a model with the studies that it was accepted on."""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from echoplane.errors import ConfigError
from echoplane.evaluation.scores import EMBEDDING, read_scores
from echoplane.monitoring.compaction import logged_rows
from echoplane.monitoring.drift import THRESHOLD, Alarm, TaskMonitor
from echoplane.monitoring.groups import groups_of, in_words
from echoplane.monitoring.prediction_log import Row
from echoplane.monitoring.reference import CANNOT_TELL, Reference
from echoplane.stages.drift_reference import MIN_REFERENCE, Accepted, read_accepted, reference_of_table
from echoplane.stages.evaluate import read_record
from echoplane.stages.outputs import Evaluation
from echoplane.stages.stage import Manifest


class Config(BaseModel):
    """Tests if studies in service still resemble those that the model was accepted on."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    evaluation: str = ""
    """Manifest of the `evaluate` stage on which the model was accepted; its test studies are the reference."""
    reference: str = ""
    """Folder that `echoplane drift-reference` wrote, instead of an evaluation."""
    predictions: str
    """Folder or s3:// address of the prediction log, the service's setting ECHOPLANE_PREDICTION_LOG or
    ECHOPLANE_PREDICTION_LOG_URL."""
    out: str = ""
    """File for a page with plots, such as drift.html. If omitted, no page is written."""
    seed: int = Field(default=0, ge=0)
    """Seed that breaks ties between equal values."""


def run(config: Config) -> dict[str, Any]:
    """Returns, for the evaluated bundle, the studies seen, the evidence of each stream, and the alarm if there is one.

    Raises ConfigError if the reference is too small or the log holds no study of this bundle.
    """
    if bool(config.evaluation) == bool(config.reference):
        raise ConfigError("give `evaluation` or `reference`: what the studies are compared with.")
    bundle_id, task, reference = _accepted(config.reference) if config.reference else _evaluated(config.evaluation)
    rows = [row for row in logged_rows(config.predictions, task) if row.bundle == bundle_id]
    if not rows:
        raise ConfigError(f"the log holds no study that bundle {bundle_id[:12]} answered.")
    monitor = TaskMonitor(reference.streams, reference.labels, seed=config.seed)
    evidence = replay(monitor, reference, rows)
    found = {"task": task, "bundle_id": bundle_id, "studies": len(rows)} | summary(monitor)
    found["streams"] = streams_table(monitor, reference, rows)
    found["groups"] = groups_table(monitor, rows) if monitor.alarm else []
    if config.out:
        from echoplane.monitoring.report import write_report

        write_report(found, evidence, Path(config.out))
    return found


def _evaluated(path: str) -> tuple[str, str, Reference]:
    """Returns bundle, task and reference of an evaluation."""
    evaluated = Manifest.read(path, "`evaluation`")
    task = read_record(evaluated).task
    return evaluated.stated(Evaluation).bundle_id, task, read_reference(evaluated.path / "scores.parquet")


def _accepted(folder: str) -> tuple[str, str, Reference]:
    """Returns bundle, task and reference of studies that a person has accepted."""
    accepted = Accepted.read(Path(folder))
    return accepted.bundle_id, accepted.task, read_accepted(Path(folder))


def read_reference(scores: Path) -> Reference:
    """Returns the reference from the scores of an evaluation; raises ConfigError if it has too few studies."""
    table = read_scores(scores)
    if len(table) < MIN_REFERENCE:
        raise ConfigError(f"the evaluation has {len(table)} studies; drift needs a reference of {MIN_REFERENCE}.")
    if EMBEDDING not in table.column_names:
        raise ConfigError("the evaluation was made before drift could be watched; run `evaluate` again.")
    return reference_of_table(table)


def replay(monitor: TaskMonitor, reference: Reference, rows: list[Row]) -> list[float]:
    """Adds `rows` to `monitor` as of one group; returns the evidence after each."""
    labels = [row.label or CANNOT_TELL for row in rows]
    return [float(one) for one in monitor.add_all(reference.values(rows), labels, [()] * len(rows))]


def summary(monitor: TaskMonitor) -> dict[str, Any]:
    """Returns the evidence against its threshold, and the alarm as data."""
    alarm = monitor.alarm
    return {
        "evidence": monitor.evidence,
        "threshold": THRESHOLD,
        "drifts": alarm is not None,
        "alarm": alarm and {"stream": alarm.stream, "studies": alarm.studies, "sentence": alarm_sentence(alarm)},
    }


def alarm_sentence(alarm: Alarm) -> str:
    """Returns what changed and since when, in words."""
    if alarm.label:
        return (
            f"the share of {alarm.label.label} is {alarm.label.share:.1%} of the last {alarm.studies} studies; "
            f"{alarm.label.reference_share:.1%} when the model was accepted."
        )
    where = f" of {in_words(alarm.groups)}" if alarm.groups else ""
    return f"{alarm.stream} has been unlike that of the accepted studies for about {alarm.studies} studies{where}."


def streams_table(monitor: TaskMonitor, reference: Reference, rows: list[Row]) -> list[dict[str, Any]]:
    """Returns each stream's evidence, its mean now (over the drifted studies, or all) and its mean at acceptance."""
    last = rows[-(monitor.alarm.studies if monitor.alarm else len(rows)) :]
    means = dict(zip(reference.names, reference.values(last).mean(axis=0).tolist(), strict=True))
    table = [
        {
            "stream": name,
            "evidence": evidence,
            "mean": means[name],
            "accepted_mean": float(np.mean(reference.streams[name])),
        }
        for name, evidence in monitor.streams.evidence.items()
    ]
    return sorted(table, key=lambda one: -one["evidence"])


def groups_table(monitor: TaskMonitor, rows: list[Row]) -> list[dict[str, Any]]:
    """Returns how the drifted studies of each site, manufacturer and model rank in the alarm's stream: 0.5 resembles
    the accepted ones."""
    if monitor.alarm is None or monitor.alarm.label:
        return []
    ranks: dict[str, list[float]] = {}
    p_values = monitor.streams.p_values_of(monitor.alarm.stream).tolist()[::-1][: monitor.alarm.studies]
    for groups, p_value in zip(groups_of(reversed(rows), ()), p_values, strict=False):
        for group in groups:
            ranks.setdefault(group, []).append(p_value)
    table = [{"group": group, "studies": len(one), "mean_rank": float(np.mean(one))} for group, one in ranks.items()]
    return sorted(table, key=lambda one: one["group"])
