"""Every dashboard that queries Prometheus, defined once: titles, units, queries and runbooks of its panels.

`helm/dashboards.py` makes Grafana's JSON of it. A title is a sentence with its unit; `alert` names the alert whose
runbook the panel links to.
"""

from dataclasses import dataclass, field

RATE, TASK = "$__rate_interval", 'task=~"$task"'


@dataclass(frozen=True)
class Panel:
    """One chart over time. `queries` are pairs of PromQL and the name of its lines."""

    title: str
    unit: str
    description: str
    alert: str
    queries: tuple[tuple[str, str], ...]
    limit: float | None = None
    """Value at which the alert fires, drawn as a line."""


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    panels: tuple[Panel, ...]
    task_metric: str = ""
    """Metric whose label `task` fills the choice of tasks; empty for a dashboard without that choice."""
    tags: tuple[str, ...] = field(default=("echoplane",))


def _quantile(share: float, by: str, series: str) -> str:
    buckets = f"sum by ({by}le) (rate(echoplane_stage_seconds_bucket{{{series}}}[{RATE}]))"
    return f"histogram_quantile({share}, {buckets})"


TOTAL = f'stage="total", {TASK}'
SERVICE = Dashboard(
    uid="echoplane-serving",
    title="echoplane: time to an answer",
    task_metric="echoplane_slot_ready",
    panels=(
        Panel(
            "The time to an answer (s)",
            "s",
            "From the first byte received to the answer.",
            "EchoplaneSlowFast",
            (
                (_quantile(0.5, "", TOTAL), "median"),
                (_quantile(0.95, "", TOTAL), "95th percentile"),
                (_quantile(0.99, "", TOTAL), "99th percentile"),
            ),
            limit=2.5,
        ),
        Panel(
            "Where the time of a request goes, 95th percentile by stage (s)",
            "s",
            "Uploading, reading, preparing with decoding, inference, interpreting.",
            "EchoplaneSlowSlowly",
            ((_quantile(0.95, "stage, ", f'stage!="total", {TASK}'), "{{stage}}"),),
        ),
        Panel(
            "The share of requests that failed (%)",
            "percentunit",
            "Statuses of 500 and more, in the last hour and the last day. 1% is the month's budget.",
            "EchoplaneFailsFast",
            tuple(
                (
                    f'(sum(rate(echoplane_requests_total{{status=~"5.."}}[{window}])) or vector(0))'
                    f" / sum(rate(echoplane_requests_total[{window}]))",
                    name,
                )
                for window, name in (("1h", "last hour"), ("1d", "last day"))
            ),
            limit=0.01,
        ),
        Panel(
            "How many requests arrive per second, by status (1/s)",
            "reqps",
            "4xx are files or clients that are wrong; 429 is too many at once; 5xx is our failure.",
            "EchoplaneBusy",
            ((f"sum by (status) (rate(echoplane_requests_total[{RATE}]))", "{{status}}"),),
        ),
        Panel(
            "How many requests are answered or wait now (requests)",
            "short",
            "A pod turns requests away with 429 when its queue is full.",
            "EchoplaneQueueWaits",
            (("sum(echoplane_in_flight)", "answered"), ("sum(echoplane_queued)", "waiting")),
        ),
        Panel(
            "The share of studies that got no answer but `cannot tell`, by version (%)",
            "percentunit",
            "The model could not tell. The alert needs at least 20 studies in 30 minutes.",
            "EchoplaneAbstainsOften",
            (
                (
                    f'(sum by (task, version) (increase(echoplane_answers_total{{outcome="abstained", {TASK}}}[30m]))'
                    f" or 0 * sum by (task, version) (increase(echoplane_answers_total{{{TASK}}}[30m])))"
                    f" / sum by (task, version) (increase(echoplane_answers_total{{{TASK}}}[30m]))",
                    "{{task}} version {{version}}",
                ),
            ),
            limit=0.2,
        ),
        Panel(
            "How many studies are answered with each label per minute (1/min)",
            "short",
            "What the studies show, as the model sees it.",
            "EchoplaneAbstainsOften",
            ((f"60 * sum by (view) (rate(echoplane_answers_total{{{TASK}}}[{RATE}]))", "{{view}}"),),
        ),
        Panel(
            "How many files get no answer per minute, by reason (1/min)",
            "short",
            "The end of the problem's type.",
            "EchoplaneRefusesFiles",
            ((f"60 * sum by (type) (rate(echoplane_problems_total[{RATE}]))", "{{type}}"),),
        ),
        Panel(
            "How many pods answer with each model (pods)",
            "short",
            "More than one line per task for long: a pod did not take the newest champion.",
            "EchoplaneModelsDiffer",
            (
                (
                    f"count by (task, version, bundle, runtime, precision) (echoplane_model_info{{{TASK}}} == 1)",
                    "{{task}} version {{version}} {{bundle}} {{runtime}} {{precision}}",
                ),
            ),
        ),
        Panel(
            "The share of shadow studies on which the challenger differs from the champion (%)",
            "percentunit",
            "Over 6 hours. The alert needs at least 100 studies.",
            "EchoplaneShadowDisagrees",
            (
                (
                    "sum by (task, version)"
                    f' (increase(echoplane_shadow_answers_total{{outcome="differed", {TASK}}}[6h]))'
                    " / sum by (task, version)"
                    f' (increase(echoplane_shadow_answers_total{{outcome=~"agreed|differed", {TASK}}}[6h]))',
                    "{{task}} challenger {{version}}",
                ),
            ),
            limit=0.1,
        ),
        Panel(
            "How many rows of the prediction log are written or dropped per minute (1/min)",
            "short",
            "Drift of the studies of a dropped row is not seen.",
            "EchoplaneLogDrops",
            ((f"60 * sum by (outcome) (rate(echoplane_prediction_log_rows_total[{RATE}]))", "{{outcome}}"),),
        ),
    ),
)

LINE = "{{task}} {{version}}"
DRIFT = Dashboard(
    uid="echoplane-drift",
    title="echoplane: drift and retraining",
    task_metric="echoplane_drift_watched",
    panels=(
        Panel(
            "The evidence of drift of all studies and of each site, as a share of the threshold",
            "none",
            "1 raises the alarm. Evidence of a single site counts with its share in the mean.",
            "EchoplaneDrift",
            ((f"echoplane_drift_evidence_ratio{{{TASK}}}", "{{task}} {{version}} {{group}}"),),
            limit=1,
        ),
        Panel(
            "The evidence of drift of each stream of all studies, as a share of the threshold",
            "none",
            "Input features, confidence, distance of the embedding: what changed most.",
            "EchoplaneDrift",
            ((f"echoplane_drift_stream_evidence_ratio{{{TASK}}}", "{{task}} {{version}} {{stream}}"),),
        ),
        Panel(
            "Models whose studies have drifted (1: yes, 0: no)",
            "none",
            "The alarm stays until another model version answers.",
            "EchoplaneDrift",
            ((f"max by (task, version) (echoplane_drift_alarm{{{TASK}}})", LINE),),
        ),
        Panel(
            "How often feedback finds the label of an answer right, with its 95 % interval (%)",
            "percentunit",
            "People choose the studies, often wrong answers, so this is not the accuracy.",
            "EchoplaneDrift",
            (
                (f"echoplane_feedback_agreement_ratio{{{TASK}}}", LINE),
                (f"echoplane_feedback_agreement_bound{{{TASK}}}", f"{LINE} {{{{bound}}}}"),
            ),
        ),
        Panel(
            "The accuracy of the last 1,000 studies, as estimated without labels (%)",
            "percentunit",
            "Beside it the accuracy on validation studies. It does not see a change of what labels mean.",
            "EchoplaneAccuracyLow",
            (
                (f"echoplane_accuracy_estimate_ratio{{{TASK}}}", LINE),
                (f"echoplane_accuracy_validation_ratio{{{TASK}}}", f"{LINE} on validation studies"),
            ),
        ),
        Panel(
            "Models whose accuracy can be estimated without labels (1: yes, 0: no)",
            "none",
            "0: answers or inputs are unlike all that the estimate was fitted on.",
            "EchoplaneAccuracyUnknown",
            ((f"max by (task, version) (echoplane_accuracy_known{{{TASK}}})", LINE),),
        ),
        Panel(
            "Models that have a reference to be watched against (1: yes, 0: no)",
            "none",
            "Without a reference no drift is seen.",
            "EchoplaneNoReference",
            ((f"max by (task, version) (echoplane_drift_watched{{{TASK}}})", LINE),),
        ),
        Panel(
            "How many studies the monitor has read of each model (studies)",
            "short",
            "Since the model's first answer.",
            "EchoplaneMonitorAbsent",
            ((f"echoplane_monitor_studies{{{TASK}}}", LINE),),
        ),
        Panel(
            "How long each model has answered (s)",
            "s",
            "The alert is at 180 days.",
            "EchoplaneModelOld",
            ((f"time() - echoplane_model_first_answer_timestamp_seconds{{{TASK}}}", LINE),),
        ),
        Panel(
            "How long ago the monitor last read the whole log (s)",
            "s",
            "It reads every 10 s unless it is set otherwise.",
            "EchoplaneMonitorAbsent",
            (("time() - max(echoplane_monitor_last_step_timestamp_seconds)", "age"),),
            limit=300,
        ),
        Panel(
            "The size of the prediction log (bytes)",
            "bytes",
            "As the monitor sees it, in the folder or the bucket.",
            "EchoplaneLogDrops",
            (("echoplane_monitor_log_bytes", "log"),),
        ),
        Panel(
            "Requests for retraining that wait, run, or may still start this week (requests)",
            "short",
            "`echoplane retrain list` shows them.",
            "EchoplaneRetrainingWaits",
            (
                ("echoplane_retraining_waiting", "waiting"),
                ("echoplane_retraining_running", "running"),
                ("echoplane_retraining_runs_left", "may still start"),
            ),
        ),
        Panel(
            "Retraining runs that have ended, and those that failed (runs)",
            "short",
            "Since the audit file began.",
            "EchoplaneRetrainingFailed",
            (("echoplane_retraining_runs_total", "ended"), ("echoplane_retraining_failed_total", "failed")),
        ),
        Panel(
            "How often the monitor returned a task to its previous model (rollbacks)",
            "short",
            "Since the monitor started; nothing if automatic rollback is switched off.",
            "EchoplaneRolledBack",
            ((f"echoplane_automatic_rollbacks_total{{{TASK}}}", "{{task}}"),),
        ),
    ),
)

GATEWAY = Dashboard(
    uid="echoplane-gateway",
    title="echoplane: DICOM gateway",
    panels=(
        Panel(
            "How many instances arrive per second, by outcome (1/s)",
            "ops",
            "Stored, repeated, or refused for a reason.",
            "EchoplaneGatewayQueueOld",
            ((f"sum by (outcome) (rate(echoplane_gateway_instances_total[{RATE}]))", "{{outcome}}"),),
        ),
        Panel(
            "The age of the oldest item that waits in the gateway (s)",
            "s",
            "Studies that wait for an answer, and results that wait for their receiver.",
            "EchoplaneGatewayQueueOld",
            (("max(echoplane_gateway_oldest_waiting_seconds)", "oldest"),),
            limit=900,
        ),
        Panel(
            "Items of the gateway's queue that wait or are stuck (items)",
            "short",
            "A stuck item is not tried again: a person must decide.",
            "EchoplaneGatewayStuck",
            (("sum by (kind, state) (echoplane_gateway_work)", "{{kind}} {{state}}"),),
        ),
        Panel(
            "The free space of the gateway's disk (bytes)",
            "bytes",
            "Senders are refused before the disk is full.",
            "EchoplaneGatewayDiskFull",
            (("min(echoplane_gateway_free_bytes)", "free"),),
            limit=5e9,
        ),
    ),
)

EDGE_LINE = "{{channel}} {{device}}"
EDGE = Dashboard(
    uid="echoplane-edge",
    title="echoplane: edge fleet",
    task_metric="echoplane_edge_devices",
    panels=(
        Panel(
            "Devices by state (devices)",
            "short",
            "`behind` serves a bundle, but not yet the one that the plan wants.",
            "EchoplaneEdgeHalted",
            ((f"sum by (channel, task, state) (echoplane_edge_devices{{{TASK}}})", "{{channel}} {{task}} {{state}}"),),
        ),
        Panel(
            "Devices that serve what they should, by ring (devices)",
            "short",
            "`first` is one device, `tenth` the rest of 10 %, `all` the others.",
            "EchoplaneEdgeHalted",
            (
                (
                    f'sum by (channel, task, ring) (echoplane_edge_devices{{state="serving", {TASK}}})',
                    "{{channel}} {{task}} {{ring}}",
                ),
            ),
        ),
        Panel(
            "The share of devices that tried the offered bundle and refused it (%)",
            "percentunit",
            "Over 10 %, unless it is set otherwise, the policy halts the roll-out.",
            "EchoplaneEdgeHalted",
            ((f"echoplane_edge_refused_ratio{{{TASK}}}", "{{channel}} {{task}}"),),
            limit=0.1,
        ),
        Panel(
            'The share of studies that got no answer but "cannot tell", by bundle (%)',
            "percentunit",
            "Since each device took the bundle. The policy compares the same devices, with an exact interval.",
            "EchoplaneEdgeHalted",
            (
                (
                    f"echoplane_edge_abstained{{{TASK}}} / (echoplane_edge_answers{{{TASK}}} > 0)",
                    "{{channel}} {{task}} {{bundle}}",
                ),
            ),
        ),
        Panel(
            "Roll-outs that are halted (1: yes, 0: no)",
            "none",
            "Devices have returned to the stable bundle; the page of the fleet says why.",
            "EchoplaneEdgeHalted",
            ((f"echoplane_edge_rollout_halted{{{TASK}}}", "{{channel}} {{task}}"),),
        ),
        Panel(
            "How long a roll-out has been in its ring (s)",
            "s",
            "The policy opens the next ring after 24 hours, unless it is set otherwise.",
            "EchoplaneEdgeHalted",
            (
                (
                    f"time() - echoplane_edge_rollout_since_timestamp_seconds{{{TASK}}}",
                    "{{channel}} {{task}} {{ring}}",
                ),
            ),
        ),
        Panel(
            "How long ago each device was last seen (s)",
            "s",
            "By the arrival of its report. A device without a network serves on.",
            "EchoplaneEdgeUnseen",
            (("time() - echoplane_edge_last_seen_timestamp_seconds", EDGE_LINE),),
            limit=86_400,
        ),
        Panel(
            "The free space of each device (bytes)",
            "bytes",
            "A bundle is not downloaded if it would not leave the device's reserve free.",
            "EchoplaneEdgeDiskFull",
            (("echoplane_edge_free_bytes", EDGE_LINE),),
            limit=1 << 30,
        ),
        Panel(
            "The size of the results that wait on each device (bytes)",
            "bytes",
            "They are sent when the device has a network again.",
            "EchoplaneEdgeUnseen",
            (("echoplane_edge_waiting_bytes", EDGE_LINE),),
        ),
        Panel(
            "Devices that need a look, and files that are no report (devices)",
            "short",
            "The page of the fleet says why.",
            "EchoplaneEdgeUnseen",
            (
                ("sum by (channel) (echoplane_edge_needs_look)", "{{channel}}"),
                ("echoplane_edge_unreadable_reports", "no report"),
            ),
        ),
        Panel(
            "How long devices go on following the repository unless it is refreshed (s)",
            "s",
            "14 days after each refresh.",
            "EchoplaneEdgeRepositoryExpires",
            (("min(echoplane_edge_repository_expires_timestamp_seconds) - time()", "left"),),
            limit=432_000,
        ),
        Panel(
            "How long ago the fleet was last looked at (s)",
            "s",
            "By `echoplane edge status --metrics`.",
            "EchoplaneEdgeStatusOld",
            (("time() - max(echoplane_edge_status_timestamp_seconds)", "age"),),
            limit=3600,
        ),
    ),
)

DASHBOARDS = (SERVICE, DRIFT, GATEWAY, EDGE)
