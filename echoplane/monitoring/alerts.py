"""Every alert, defined once. The chart's Prometheus rules and the reference page of alerts are made from this list.

Each alert has an entry of its name in docs/runbooks.md, and two promtool cases in tests/alert_cases.py: one in which it
fires and one in which it must not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

RUNBOOKS = "docs/runbooks.md"
RETRAIN_LABEL = "retrain"
"""Label of alerts that the route to the monitor's webhook selects."""

SLO_AVAILABILITY = 0.99  # share of requests that must not fail
SLO_FAST = 0.95  # share of studies that must be answered within SLO_SECONDS
SLO_SECONDS = "2.5"  # a bucket of echoplane_stage_seconds
MIN_STUDIES = 20  # studies of a window below which a share says nothing


@dataclass(frozen=True)
class Alert:
    """One alert. `query` is PromQL; `lasting` is how long it must hold. `summary` has the limit and its unit."""

    name: str
    query: str
    lasting: str
    severity: Literal["critical", "warning"]
    summary: str
    description: str
    retrains: bool = False

    @property
    def runbook(self) -> str:
        return f"{RUNBOOKS}#{self.name.lower()}"

    def rule(self) -> dict[str, Any]:
        """Returns the alert as Prometheus reads it."""
        labels = {"severity": self.severity} | ({RETRAIN_LABEL: "true"} if self.retrains else {})
        annotations = {"summary": self.summary, "description": self.description, "runbook": self.runbook}
        return {
            "alert": self.name,
            "expr": self.query,
            **({"for": self.lasting} if self.lasting else {}),
            "labels": labels,
            "annotations": annotations,
        }


def _failed(window: str) -> str:
    failed = f'sum(rate(echoplane_requests_total{{status=~"5.."}}[{window}]))'
    return f"{failed} / sum(rate(echoplane_requests_total[{window}]))"


def _slow(window: str) -> str:
    series = 'stage="total"'
    fast = f'sum by (task) (rate(echoplane_stage_seconds_bucket{{{series}, le="{SLO_SECONDS}"}}[{window}]))'
    return f"1 - {fast} / sum by (task) (rate(echoplane_stage_seconds_count{{{series}}}[{window}]))"


def _burns(share: Any, budget: float, factor: float, long: str, short: str) -> str:
    """Returns a query that holds while the error budget burns `factor` times too fast in both windows (Google's SRE
    workbook, chapter 5): the long window shows that it matters, the short one that it still happens."""
    limit = f"{factor * budget:g}"
    return f"({share(long)}) > {limit}\nand\n({share(short)}) > {limit}"


SERVICE = (
    Alert(
        "EchoplaneServingAbsent",
        "absent(echoplane_slot_ready)",
        "5m",
        "critical",
        "No serving pod has told Prometheus anything for 5 minutes.",
        "Either no pod runs, or Prometheus can't reach them.",
    ),
    Alert(
        "EchoplaneNoModel",
        "min by (task) (echoplane_slot_ready) == 0",
        "10m",
        "warning",
        "A serving pod has had no model for 10 minutes.",
        "{{ $labels.task }}: a pod runs without a model that passed its checks, and answers nothing.",
    ),
    Alert(
        "EchoplaneModelStale",
        "max by (task) (echoplane_slot_stale) == 1",
        "15m",
        "warning",
        "The newest model has not been taken for 15 minutes; the old one answers on.",
        "{{ $labels.task }}: the champion was refused, or the registry can't be reached.",
    ),
    Alert(
        "EchoplaneModelsDiffer",
        "count by (task) (count by (task, bundle) (echoplane_model_info == 1)) > 1",
        "15m",
        "warning",
        "Pods have answered with different models for 15 minutes.",
        "{{ $labels.task }}: {{ $value }} models answer; one is due once a promotion is through.",
    ),
    Alert(
        "EchoplaneFailsFast",
        _burns(_failed, 1 - SLO_AVAILABILITY, 14.4, "1h", "5m"),
        "2m",
        "critical",
        "Over 14.4% of requests failed in the last hour and in the last 5 minutes.",
        "{{ $value | humanizePercentage }} of requests got a status of 500 or more; a month's 1% lasts 2 days.",
    ),
    Alert(
        "EchoplaneFailsSlowly",
        _burns(_failed, 1 - SLO_AVAILABILITY, 3, "1d", "2h"),
        "10m",
        "warning",
        "Over 3% of requests failed in the last day and in the last 2 hours.",
        "{{ $value | humanizePercentage }} of requests got a status of 500 or more; 1% is the month's limit.",
    ),
    Alert(
        "EchoplaneBusy",
        'sum(rate(echoplane_requests_total{status="429"}[5m])) / sum(rate(echoplane_requests_total[5m])) > 0.05',
        "10m",
        "warning",
        "Over 5% of requests were turned away as too many for 10 minutes.",
        "{{ $value | humanizePercentage }} of requests got 429; more replicas or fewer clients are due.",
    ),
    Alert(
        "EchoplaneQueueWaits",
        "sum(echoplane_queued) / clamp_min(sum(echoplane_in_flight), 1) > 2",
        "10m",
        "warning",
        "More than 2 requests have waited per request being answered for 10 minutes.",
        "{{ $value | humanize }} requests wait per request that is being answered.",
    ),
    Alert(
        "EchoplaneSlowFast",
        _burns(_slow, 1 - SLO_FAST, 10, "1h", "5m"),
        "2m",
        "critical",
        "Over 50% of studies took longer than 2.5 s in the last hour and in the last 5 minutes.",
        "{{ $labels.task }}: {{ $value | humanizePercentage }} of studies; 5% is the month's limit.",
    ),
    Alert(
        "EchoplaneSlowSlowly",
        _burns(_slow, 1 - SLO_FAST, 3, "1d", "2h"),
        "10m",
        "warning",
        "Over 15% of studies took longer than 2.5 s in the last day and in the last 2 hours.",
        "{{ $labels.task }}: {{ $value | humanizePercentage }} of studies; 5% is the month's limit.",
    ),
    Alert(
        "EchoplaneAbstainsOften",
        'sum by (task, version) (increase(echoplane_answers_total{outcome="abstained"}[30m]))\n'
        "  / sum by (task, version) (increase(echoplane_answers_total[30m])) > 0.2\n"
        f"and sum by (task, version) (increase(echoplane_answers_total[30m])) >= {MIN_STUDIES}",
        "",
        "warning",
        "Over 20% of studies got no answer but `cannot tell` for 30 minutes.",
        "{{ $labels.task }} {{ $labels.version }}: {{ $value | humanizePercentage }} abstained.",
    ),
    Alert(
        "EchoplaneRefusesFiles",
        'sum by (type) (increase(echoplane_problems_total{type=~"not-an-image|unsupported|unusable-study"}[30m]))\n'
        '  / on () group_left sum(increase(echoplane_requests_total{method="POST"}[30m])) > 0.2\n'
        f'and on () sum(increase(echoplane_requests_total{{method="POST"}}[30m])) >= {MIN_STUDIES}',
        "",
        "warning",
        "Over 20% of files were refused for one reason for 30 minutes.",
        "{{ $labels.type }}: {{ $value | humanizePercentage }} of requests; a scanner may send something new.",
    ),
    Alert(
        "EchoplaneShadowDisagrees",
        'sum by (task, version) (increase(echoplane_shadow_answers_total{outcome="differed"}[6h]))\n'
        '  / sum by (task, version) (increase(echoplane_shadow_answers_total{outcome=~"agreed|differed"}[6h])) > 0.1\n'
        'and sum by (task, version) (increase(echoplane_shadow_answers_total{outcome=~"agreed|differed"}[6h])) >= 100',
        "",
        "warning",
        "The challenger differed from the champion in over 10% of at least 100 studies in 6 hours.",
        "{{ $labels.task }}: challenger {{ $labels.version }} differed in {{ $value | humanizePercentage }}.",
    ),
    Alert(
        "EchoplaneLogDrops",
        'sum(increase(echoplane_prediction_log_rows_total{outcome="dropped"}[30m])) > 0',
        "",
        "warning",
        "At least 1 row of the prediction log was dropped in 30 minutes.",
        "{{ $value | humanize }} rows were dropped; drift of their studies is not seen.",
    ),
)

MONITOR = (
    Alert(
        "EchoplaneMonitorAbsent",
        "absent(echoplane_monitor_last_step_timestamp_seconds)\n"
        "or time() - max(echoplane_monitor_last_step_timestamp_seconds) > 300",
        "5m",
        "warning",
        "The monitor has read no log for 10 minutes.",
        "Drift is not watched: the monitor does not run, or can't reach the prediction log.",
    ),
    Alert(
        "EchoplaneDrift",
        "max by (task, version, stream, group) (echoplane_drift_alarm) == 1",
        "",
        "warning",
        "Studies no longer look like those that the model was accepted on.",
        "{{ $labels.task }} {{ $labels.version }}: {{ $labels.stream }} changed in {{ $labels.group }}; "
        "the monitor's page says since when.",
        retrains=True,
    ),
    Alert(
        "EchoplaneAccuracyLow",
        "max by (task, version) (echoplane_accuracy_validation_ratio)\n"
        "  - max by (task, version) (echoplane_accuracy_estimate_ratio)\n"
        "  - max by (task, version) (echoplane_accuracy_estimate_error_ratio) > 0.05",
        "30m",
        "warning",
        "The estimated accuracy has been over 5 points below that on validation studies for 30 minutes.",
        "{{ $labels.task }} {{ $labels.version }}: {{ $value | humanizePercentage }} below, after the estimate's own "
        "error is taken off.",
    ),
    Alert(
        "EchoplaneAccuracyUnknown",
        "max by (task, version) (echoplane_accuracy_known) == 0",
        "1h",
        "warning",
        "The accuracy can't be estimated for 1 hour: studies are unlike all that the estimate was fitted on.",
        "{{ $labels.task }} {{ $labels.version }}: label some of the latest studies; "
        "the monitor's page says what differs.",
    ),
    Alert(
        "EchoplaneNoReference",
        "max by (task, version) (echoplane_drift_watched) == 0",
        "1h",
        "warning",
        "A model has answered for 1 hour without a reference to watch it against.",
        "{{ $labels.task }} {{ $labels.version }}: the evaluation of its bundle is not in ECHOPLANE_EVALUATIONS.",
    ),
    Alert(
        "EchoplaneModelOld",
        "time() - min by (task, version) (echoplane_model_first_answer_timestamp_seconds) > 180 * 86400",
        "1h",
        "warning",
        "A model has answered for more than 180 days.",
        "{{ $labels.task }} {{ $labels.version }}: evaluate it on recent studies, or train again.",
    ),
    Alert(
        "EchoplaneLogIncomplete",
        "sum(increase(echoplane_monitor_bad_lines_total[1h])) > 0",
        "",
        "warning",
        "At least 1 line of the prediction log could not be read in 1 hour.",
        "{{ $value | humanize }} lines are no rows; a service of another version may write the log.",
    ),
    Alert(
        "EchoplaneRetrainingWaits",
        "echoplane_retraining_waiting > 0",
        "6h",
        "warning",
        "A request for retraining has waited for approval for 6 hours.",
        "{{ $value }} requests wait; `echoplane retrain list` shows them.",
    ),
    Alert(
        "EchoplaneRetrainingFailed",
        "increase(echoplane_retraining_failed_total[6h]) > 0",
        "",
        "warning",
        "A retraining run failed in the last 6 hours.",
        "`echoplane retrain list` says how it ended; its output is beside the audit file.",
    ),
    Alert(
        "EchoplaneRolledBack",
        "increase(echoplane_automatic_rollbacks_total[1h]) > 0",
        "",
        "critical",
        "The monitor returned a task to its previous model in the last hour.",
        "{{ $labels.task }}: the new model was certainly worse; `echoplane why {{ $labels.task }}` names the reason.",
    ),
)

GATEWAY = (
    Alert(
        "EchoplaneGatewayQueueOld",
        "max(echoplane_gateway_oldest_waiting_seconds) > 900",
        "5m",
        "warning",
        "A study or a result has waited in the DICOM gateway for more than 15 minutes.",
        "The oldest item has waited for {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "EchoplaneGatewayStuck",
        'sum by (kind) (echoplane_gateway_work{state="stuck"}) > 0',
        "10m",
        "warning",
        "The DICOM gateway has given up at least 1 item for 10 minutes.",
        "{{ $labels.kind }}: {{ $value }} items are stuck, and a person must decide.",
    ),
    Alert(
        "EchoplaneGatewayDiskFull",
        "min(echoplane_gateway_free_bytes) < 5e9",
        "5m",
        "critical",
        "The disk of the DICOM gateway's store has less than 5 GB free.",
        "{{ $value | humanize1024 }}B are free; the gateway soon refuses studies.",
    ),
)

EDGE = (
    Alert(
        "EchoplaneEdgeStatusOld",
        "absent(echoplane_edge_status_timestamp_seconds)\n"
        "or time() - max(echoplane_edge_status_timestamp_seconds) > 3600",
        "15m",
        "warning",
        "Nobody has looked at the edge fleet for 1 hour.",
        "`echoplane edge status --act --metrics` does not run, so a bad bundle is not halted.",
    ),
    Alert(
        "EchoplaneEdgeUnseen",
        "time() - max by (channel, device) (echoplane_edge_last_seen_timestamp_seconds) > 86400",
        "15m",
        "warning",
        "An edge device has not been seen for 24 hours.",
        "{{ $labels.device }} of channel {{ $labels.channel }} has sent no report; it may still serve.",
    ),
    Alert(
        "EchoplaneEdgeHalted",
        "max by (channel, task) (echoplane_edge_rollout_halted) == 1",
        "",
        "critical",
        "The roll-out of a bundle to edge devices was halted.",
        "{{ $labels.task }} of channel {{ $labels.channel }}: devices returned to the stable bundle.",
    ),
    Alert(
        "EchoplaneEdgeRepositoryExpires",
        "min(echoplane_edge_repository_expires_timestamp_seconds) - time() < 5 * 86400",
        "1h",
        "warning",
        "Edge devices stop following the repository in less than 5 days.",
        "{{ $value | humanizeDuration }} are left; `echoplane edge refresh` should run daily.",
    ),
    Alert(
        "EchoplaneEdgeDiskFull",
        "min by (channel, device) (echoplane_edge_free_bytes) < 1073741824",
        "1h",
        "warning",
        "An edge device has had less than 1 GiB free for 1 hour.",
        "{{ $labels.device }} of channel {{ $labels.channel }} has {{ $value | humanize1024 }}B free; "
        "it may not take the next bundle.",
    ),
)

ALERTS = SERVICE + MONITOR + GATEWAY + EDGE
RETRAINS = frozenset(alert.name for alert in ALERTS if alert.retrains)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # yaml has no types
    """Writes text of several lines as a block."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


# by the part of an installation whose metrics they need
FILES: dict[str, Sequence[Alert]] = {"service": SERVICE, "monitor": MONITOR, "gateway": GATEWAY, "edge": EDGE}


def rules_yaml(part: str) -> str:
    """Returns the rule file of Prometheus for one part of an installation."""
    content = {"groups": [{"name": f"echoplane-{part}", "rules": [alert.rule() for alert in FILES[part]]}]}
    head = "# Made by `make docs` from echoplane/monitoring/alerts.py; do not edit.\n"
    return head + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
