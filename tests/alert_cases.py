"""Cases for promtool: series over time, and for each alert the labels and the description with which it fires.

Values are in promtool's notation: "0+5x60" grows by 5 per interval, "1x60" stays 1. A case with `fires` None must not
fire.
"""

from dataclasses import dataclass

VIEW = 'task="echo-view-video"'
MODEL = f'{VIEW}, version="3"'
BOX = 'channel="stable", device="box-1"'
DRIFTED = 'stream="brightness", group="site harbour, model VIVID E95"'


@dataclass(frozen=True)
class Case:
    alert: str
    what: str
    series: dict[str, str]
    at: str
    fires: dict[str, str] | None = None
    description: str = ""
    interval: str = "1m"


def requests(**per_interval: str) -> dict[str, str]:
    """Series of requests by status, such as s200="0+76x40"."""
    return {
        f'echoplane_requests_total{{route="/v1/echo-view-video", method="POST", status="{status[1:]}"}}': values
        for status, values in per_interval.items()
    }


def durations(fast: str, every: str, task: str = "echo-view-video", stage: str = "total") -> dict[str, str]:
    of = f'task="{task}", stage="{stage}"'
    return {
        f'echoplane_stage_seconds_bucket{{{of}, le="2.5"}}': fast,
        f'echoplane_stage_seconds_bucket{{{of}, le="+Inf"}}': every,
        f"echoplane_stage_seconds_count{{{of}}}": every,
    }


def accuracy(estimate: str) -> dict[str, str]:
    """Series of an estimate that errs by 2 points, of a model with 95 % on validation studies."""
    return {
        f"echoplane_accuracy_validation_ratio{{{MODEL}}}": "0.95x40",
        f"echoplane_accuracy_estimate_ratio{{{MODEL}}}": estimate,
        f"echoplane_accuracy_estimate_error_ratio{{{MODEL}}}": "0.02x40",
    }


ACCURACY_LOW = "echo-view-video 3: 6% below, after the estimate's own error is taken off."


def shadow(agreed: str, differed: str) -> dict[str, str]:
    return {
        f'echoplane_shadow_answers_total{{{MODEL}, outcome="agreed"}}': agreed,
        f'echoplane_shadow_answers_total{{{MODEL}, outcome="differed"}}': differed,
    }


def slot(kind: str, pod: str, values: str) -> dict[str, str]:
    return {f'echoplane_slot_{kind}{{{VIEW}, pod="{pod}"}}': values}


TASK = {"task": "echo-view-video"}
VERSION = TASK | {"version": "3"}
ONE_POD_WITHOUT = slot("ready", "a", "1x40") | slot("ready", "b", "0x15 1x25") | slot("stale", "a", "0x40")
TWO_MODELS = {
    f'echoplane_model_info{{{VIEW}, pod="a", bundle="aaa"}}': "1x40",
    f'echoplane_model_info{{{VIEW}, pod="b", bundle="bbb"}}': "1x40",
    'echoplane_model_info{task="echo-view-image", pod="a", bundle="ccc"}': "1x40",
    'echoplane_model_info{task="echo-view-image", pod="a", bundle="ddd"}': "0x40",
}
MANY_FAIL = requests(s200="0+80x80", s503="0+20x80")
FEW_FAIL = requests(s200="0+96x80", s503="0+4x80")
CLIENTS_FAULT = requests(s200="0+60x80", s415="0+38x80", s429="0+2x80")

CASES = (
    Case(
        "EchoplaneServingAbsent",
        "no pod tells anything",
        {'up{job="other"}': "1x20"},
        "6m",
        {},
        "Either no pod runs, or Prometheus can't reach them.",
    ),
    Case("EchoplaneServingAbsent", "not for 5 minutes yet", {'up{job="other"}': "1x20"}, "4m"),
    Case("EchoplaneServingAbsent", "a pod tells something", ONE_POD_WITHOUT, "20m"),
    Case(
        "EchoplaneNoModel",
        "one pod of two has no model",
        ONE_POD_WITHOUT,
        "12m",
        TASK,
        "echo-view-video: a pod runs without a model that passed its checks, and answers nothing.",
    ),
    Case("EchoplaneNoModel", "it has one since 15 minutes", ONE_POD_WITHOUT, "30m"),
    Case(
        "EchoplaneModelStale",
        "a refused champion",
        slot("stale", "a", "1x40"),
        "16m",
        TASK,
        "echo-view-video: the champion was refused, or the registry can't be reached.",
    ),
    Case("EchoplaneModelStale", "not for 15 minutes yet", slot("stale", "a", "1x40"), "10m"),
    Case(
        "EchoplaneModelsDiffer",
        "two pods answer with two models; a replaced one does not count",
        TWO_MODELS,
        "16m",
        TASK,
        "echo-view-video: 2 models answer; one is due once a promotion is through.",
    ),
    Case("EchoplaneModelsDiffer", "not for 15 minutes yet", TWO_MODELS, "10m"),
    Case(
        "EchoplaneFailsFast",
        "20 of 100 requests fail",
        MANY_FAIL,
        "70m",
        {},
        "20% of requests got a status of 500 or more; a month's 1% lasts 2 days.",
    ),
    Case("EchoplaneFailsFast", "4 of 100 requests fail", FEW_FAIL, "70m"),
    Case(
        "EchoplaneFailsFast",
        "20 of 100 failed, but none in the last 10 minutes",
        requests(s200="0+80x60 4800+100x20", s503="0+20x60 1200x20"),
        "71m",
    ),
    Case(
        "EchoplaneFailsSlowly",
        "4 of 100 requests fail",
        FEW_FAIL,
        "75m",
        {},
        "4% of requests got a status of 500 or more; 1% is the month's limit.",
    ),
    Case("EchoplaneFailsSlowly", "wrong files are the client's fault", CLIENTS_FAULT, "75m"),
    Case(
        "EchoplaneBusy",
        "20 of 100 are turned away",
        requests(s200="0+80x40", s429="0+20x40"),
        "15m",
        {},
        "20% of requests got 429; more replicas or fewer clients are due.",
    ),
    Case("EchoplaneBusy", "2 of 100 are turned away", CLIENTS_FAULT, "30m"),
    Case(
        "EchoplaneQueueWaits",
        "6 wait while 2 are answered",
        {"echoplane_queued": "6x30", "echoplane_in_flight": "2x30"},
        "12m",
        {},
        "3 requests wait per request that is being answered.",
    ),
    Case(
        "EchoplaneQueueWaits",
        "3 wait while 2 are answered",
        {"echoplane_queued": "3x30", "echoplane_in_flight": "2x30"},
        "12m",
    ),
    Case("EchoplaneQueueWaits", "nothing happens", {"echoplane_queued": "0x30", "echoplane_in_flight": "0x30"}, "12m"),
    Case(
        "EchoplaneSlowFast",
        "60 of 100 take longer than 2.5 s",
        durations("0+40x80", "0+100x80"),
        "70m",
        TASK,
        "echo-view-video: 60% of studies; 5% is the month's limit.",
    ),
    Case("EchoplaneSlowFast", "20 of 100 do", durations("0+80x80", "0+100x80"), "70m"),
    Case(
        "EchoplaneSlowSlowly",
        "20 of 100 take longer than 2.5 s",
        durations("0+80x80", "0+100x80"),
        "75m",
        TASK,
        "echo-view-video: 20% of studies; 5% is the month's limit.",
    ),
    Case(
        "EchoplaneSlowSlowly",
        "all are fast, however long one stage of another task takes",
        durations("0+100x80", "0+100x80") | durations("0x80", "0+100x80", "cmr-segmentation", "upload"),
        "75m",
    ),
    Case(
        "EchoplaneAbstainsOften",
        "12 of 40 studies",
        {
            f'echoplane_answers_total{{{MODEL}, outcome="abstained"}}': "0 4 8 12",
            f'echoplane_answers_total{{{MODEL}, outcome="answered"}}': "0 9 18 28",
        },
        "30m",
        VERSION,
        "echo-view-video 3: 30% abstained.",
        "10m",
    ),
    Case(
        "EchoplaneAbstainsOften",
        "3 of 3 say nothing yet",
        {f'echoplane_answers_total{{{MODEL}, outcome="abstained"}}': "0 1 2 3"},
        "30m",
        interval="10m",
    ),
    Case(
        "EchoplaneRefusesFiles",
        "15 of 40 files have an unread codec",
        requests(s200="0 8 16 25", s415="0 5 10 15")
        | {
            'echoplane_requests_total{route="/metrics", method="GET", status="200"}': "0+400x4",
            'echoplane_problems_total{task="none", type="unsupported"}': "0 5 10 15",
            'echoplane_problems_total{task="none", type="busy"}': "0 8 16 24",
        },
        "30m",
        {"type": "unsupported"},
        "unsupported: 37.5% of requests; a scanner may send something new.",
        "10m",
    ),
    Case(
        "EchoplaneRefusesFiles",
        "3 of 3 say nothing yet",
        requests(s415="0 1 2 3") | {'echoplane_problems_total{task="none", type="unsupported"}': "0 1 2 3"},
        "30m",
        interval="10m",
    ),
    Case(
        "EchoplaneShadowDisagrees",
        "30 of 150 studies",
        shadow("0+20x6", "0+5x6"),
        "6h",
        VERSION,
        "echo-view-video: challenger 3 differed in 20%.",
        "1h",
    ),
    Case("EchoplaneShadowDisagrees", "6 of 30 say nothing yet", shadow("0+4x6", "0+1x6"), "6h", interval="1h"),
    Case("EchoplaneShadowDisagrees", "6 of 150 studies", shadow("0+24x6", "0+1x6"), "6h", interval="1h"),
    Case(
        "EchoplaneLogDrops",
        "30 rows in 30 minutes",
        {'echoplane_prediction_log_rows_total{outcome="dropped"}': "0+1x40"},
        "35m",
        {},
        "30 rows were dropped; drift of their studies is not seen.",
    ),
    Case(
        "EchoplaneLogDrops",
        "rows were dropped long ago",
        {
            'echoplane_prediction_log_rows_total{outcome="dropped"}': "7x40",
            'echoplane_prediction_log_rows_total{outcome="written"}': "0+9x40",
        },
        "35m",
    ),
    Case(
        "EchoplaneMonitorAbsent",
        "the monitor's steps fail",
        {"echoplane_monitor_last_step_timestamp_seconds": "0x30"},
        "11m",
        {},
        "Drift is not watched: the monitor does not run, or can't reach the prediction log.",
    ),
    Case(
        "EchoplaneMonitorAbsent",
        "it reads the log once per minute",
        {"echoplane_monitor_last_step_timestamp_seconds": "0+60x30"},
        "20m",
    ),
    Case(
        "EchoplaneDrift",
        "one of two models drifts",
        {
            f"echoplane_drift_alarm{{{MODEL}}}": "0x5 stale",
            f"echoplane_drift_alarm{{{MODEL}, {DRIFTED}}}": "_x6 1x10",
            'echoplane_drift_alarm{task="cmr-segmentation", version="1"}': "0x15",
        },
        "7m",
        VERSION | {"retrain": "true", "stream": "brightness", "group": "site harbour, model VIVID E95"},
        "echo-view-video 3: brightness changed in site harbour, model VIVID E95; the monitor's page says since when.",
    ),
    Case("EchoplaneDrift", "no model drifts", {f"echoplane_drift_alarm{{{MODEL}}}": "0x15"}, "10m"),
    Case(
        "EchoplaneDrift",
        "the model that drifted answers no longer",
        {f"echoplane_drift_alarm{{{MODEL}, {DRIFTED}}}": "1x5 stale"},
        "10m",
    ),
    Case("EchoplaneAccuracyLow", "8 points less than 95%", accuracy("0.87x40"), "35m", VERSION, ACCURACY_LOW),
    Case("EchoplaneAccuracyLow", "as much as the estimate errs more", accuracy("0.89x40"), "35m"),
    Case("EchoplaneAccuracyLow", "for 20 minutes", accuracy("0.87x20 0.95x20"), "40m"),
    Case(
        "EchoplaneAccuracyUnknown",
        "for over an hour",
        {f"echoplane_accuracy_known{{{MODEL}}}": "0x70"},
        "65m",
        VERSION,
        "echo-view-video 3: label some of the latest studies; the monitor's page says what differs.",
    ),
    Case("EchoplaneAccuracyUnknown", "it is known", {f"echoplane_accuracy_known{{{MODEL}}}": "1x70"}, "65m"),
    Case(
        "EchoplaneNoReference",
        "for over an hour",
        {f"echoplane_drift_watched{{{MODEL}}}": "0x70"},
        "65m",
        VERSION,
        "echo-view-video 3: the evaluation of its bundle is not in ECHOPLANE_EVALUATIONS.",
    ),
    Case("EchoplaneNoReference", "there is one", {f"echoplane_drift_watched{{{MODEL}}}": "1x70"}, "65m"),
    Case(
        "EchoplaneModelOld",
        "for 181 days",
        {f"echoplane_model_first_answer_timestamp_seconds{{{MODEL}}}": "-15638400x70"},
        "65m",
        VERSION,
        "echo-view-video 3: evaluate it on recent studies, or train again.",
    ),
    Case(
        "EchoplaneModelOld",
        "for 179 days",
        {f"echoplane_model_first_answer_timestamp_seconds{{{MODEL}}}": "-15465600x70"},
        "65m",
    ),
    Case(
        "EchoplaneLogIncomplete",
        "6 lines in an hour",
        {"echoplane_monitor_bad_lines_total": "0+1x6"},
        "60m",
        {},
        "6 lines are no rows; a service of another version may write the log.",
        "10m",
    ),
    Case("EchoplaneLogIncomplete", "all lines are rows", {"echoplane_monitor_bad_lines_total": "3x60"}, "60m"),
    Case(
        "EchoplaneRetrainingWaits",
        "for over 6 hours",
        {"echoplane_retraining_waiting": "1x100"},
        "370m",
        {},
        "1 requests wait; `echoplane retrain list` shows them.",
        "4m",
    ),
    Case("EchoplaneRetrainingWaits", "for 5 hours", {"echoplane_retraining_waiting": "1x100"}, "5h", interval="4m"),
    Case(
        "EchoplaneRetrainingFailed",
        "one of two runs failed",
        {"echoplane_retraining_failed_total": "0x10 1x20", "echoplane_retraining_runs_total": "1x10 2x20"},
        "20m",
        {},
        "`echoplane retrain list` says how it ended; its output is beside the audit file.",
    ),
    Case(
        "EchoplaneRetrainingFailed",
        "a run ended well",
        {"echoplane_retraining_failed_total": "0x30", "echoplane_retraining_runs_total": "0x10 1x20"},
        "20m",
    ),
    Case(
        "EchoplaneRolledBack",
        "one task was rolled back",
        {f"echoplane_automatic_rollbacks_total{{{VIEW}}}": "0x10 1x20"},
        "20m",
        {"task": "echo-view-video"},
        "echo-view-video: the new model was certainly worse; `echoplane why echo-view-video` names the reason.",
    ),
    Case(
        "EchoplaneRolledBack",
        "the last rollback was hours ago",
        {f"echoplane_automatic_rollbacks_total{{{VIEW}}}": "0x10 1x300"},
        "3h",
    ),
    Case(
        "EchoplaneGatewayQueueOld",
        "for 20 minutes",
        {"echoplane_gateway_oldest_waiting_seconds": "1200x20"},
        "6m",
        {},
        "The oldest item has waited for 20m 0s.",
    ),
    Case(
        "EchoplaneGatewayQueueOld",
        "for 10 minutes",
        {"echoplane_gateway_oldest_waiting_seconds": "600x20"},
        "6m",
    ),
    Case(
        "EchoplaneGatewayStuck",
        "2 results",
        {'echoplane_gateway_work{kind="send", state="stuck"}': "2x20"},
        "11m",
        {"kind": "send"},
        "send: 2 items are stuck, and a person must decide.",
    ),
    Case(
        "EchoplaneGatewayStuck",
        "some wait",
        {
            'echoplane_gateway_work{kind="send", state="stuck"}': "0x20",
            'echoplane_gateway_work{kind="send", state="waiting"}': "9x20",
        },
        "11m",
    ),
    Case(
        "EchoplaneGatewayDiskFull",
        "1 GiB is free",
        {"echoplane_gateway_free_bytes": "1073741824x20"},
        "6m",
        {},
        "1GiB are free; the gateway soon refuses studies.",
    ),
    Case("EchoplaneGatewayDiskFull", "100 GB are free", {"echoplane_gateway_free_bytes": "1e11x20"}, "6m"),
    Case(
        "EchoplaneEdgeStatusOld",
        "the job died 80 minutes ago",
        {"echoplane_edge_status_timestamp_seconds": "0x100"},
        "80m",
        {},
        "`echoplane edge status --act --metrics` does not run, so a bad bundle is not halted.",
    ),
    Case(
        "EchoplaneEdgeStatusOld",
        "it runs every minute",
        {"echoplane_edge_status_timestamp_seconds": "0+60x100"},
        "80m",
    ),
    Case(
        "EchoplaneEdgeUnseen",
        "a report 25 hours ago, and one an hour ago",
        {
            f"echoplane_edge_last_seen_timestamp_seconds{{{BOX}}}": "0x600",
            'echoplane_edge_last_seen_timestamp_seconds{channel="stable", device="box-2"}': "86400x600",
        },
        "25h",
        {"channel": "stable", "device": "box-1"},
        "box-1 of channel stable has sent no report; it may still serve.",
        "4m",
    ),
    Case(
        "EchoplaneEdgeUnseen",
        "a report 23 hours ago",
        {f"echoplane_edge_last_seen_timestamp_seconds{{{BOX}}}": "7200x600"},
        "25h",
        interval="4m",
    ),
    Case(
        "EchoplaneEdgeHalted",
        "one of two tasks",
        {
            f'echoplane_edge_rollout_halted{{channel="stable", {VIEW}}}': "0x5 1x5",
            'echoplane_edge_rollout_halted{channel="stable", task="cmr-segmentation"}': "0x10",
        },
        "6m",
        {"channel": "stable", "task": "echo-view-video"},
        "echo-view-video of channel stable: devices returned to the stable bundle.",
    ),
    Case(
        "EchoplaneEdgeHalted",
        "it was resumed",
        {f'echoplane_edge_rollout_halted{{channel="stable", {VIEW}}}': "1x5 0x5"},
        "8m",
    ),
    Case(
        "EchoplaneEdgeRepositoryExpires",
        "in 4 days",
        {"echoplane_edge_repository_expires_timestamp_seconds": "352800x120"},
        "2h",
        {},
        "4d 0h 0m 0s are left; `echoplane edge refresh` should run daily.",
    ),
    Case(
        "EchoplaneEdgeRepositoryExpires",
        "in 14 days",
        {"echoplane_edge_repository_expires_timestamp_seconds": "1216800x120"},
        "2h",
    ),
    Case(
        "EchoplaneEdgeDiskFull",
        "512 MiB",
        {f"echoplane_edge_free_bytes{{{BOX}}}": "536870912x120"},
        "2h",
        {"channel": "stable", "device": "box-1"},
        "box-1 of channel stable has 512MiB free; it may not take the next bundle.",
    ),
    Case(
        "EchoplaneEdgeDiskFull",
        "it was full for half an hour",
        {f"echoplane_edge_free_bytes{{{BOX}}}": "536870912x30 1e10x90"},
        "2h",
    ),
)
