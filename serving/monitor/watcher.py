"""The monitor's loop: reads the log, decides on retraining, and publishes what it knows."""

import logging
import threading
import time

from echoplane.errors import EchoplaneError
from echoplane.exposition import Values
from echoplane.monitoring.compaction import compact, remove_old
from echoplane.monitoring.drift import THRESHOLD, Alarm
from echoplane.monitoring.groups import in_words
from echoplane.monitoring.log_reader import log_size_bytes
from echoplane.monitoring.model_monitor import ModelMonitor, Monitors
from echoplane.monitoring.monitor_metrics import Gauges
from echoplane.monitoring.retraining import SUCCESS, Loop, LoopPolicy, loop_of, now
from serving.monitor.rollback import AutomaticRollback
from serving.monitor.trigger import Trigger

log = logging.getLogger("echoplane.monitor")

TIDY_S = 3600.0


class Watcher:
    """Runs until `close`. An error of one step is logged, and the next step tries again."""

    def __init__(
        self,
        monitors: Monitors,
        trigger: Trigger,
        policy: LoopPolicy,
        place: str,
        poll_s: float,
        retention_days: int,
        rollback: AutomaticRollback | None = None,
    ) -> None:
        self.monitors, self.trigger, self.policy = monitors, trigger, policy
        self._place, self._poll_s, self._retention_days = place, poll_s, retention_days
        self._tidied_s = -TIDY_S
        self._rollback = rollback
        self.gauges = Gauges()
        self._read_at = 0.0
        self._stop = threading.Event()
        self.lock = threading.Lock()
        """Held while monitors change; the page waits for it."""
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            more = False
            try:
                more = self.step()
            except EchoplaneError as error:
                log.warning("step failed, the next one tries again: %s", error)
            except Exception:
                log.exception("step failed, the next one tries again")
            self._stop.wait(0 if more else self._poll_s)

    def step(self) -> bool:
        """Makes one step and returns True if the log has more rows."""
        try:
            with self.lock:
                more = self.monitors.step().more
            if not more:
                self._read_at = time.time()
                self._tidy()
        finally:  # approvals are carried out while the log is unavailable
            if self._rollback:
                self._rollback.step(self.monitors.current(), self.monitors.models.values())
            self.trigger.step()
            self._publish()
        return more

    def _tidy(self) -> None:
        """Compacts closed days of a shipped log and removes old ones, once per TIDY_S."""
        if time.monotonic() - self._tidied_s < TIDY_S or not self.monitors.positions:
            return
        self._tidied_s = time.monotonic()
        compact(self._place, self.monitors.positions, now())
        remove_old(self._place, self._retention_days, now())

    def _publish(self) -> None:
        loop = loop_of(self.trigger.audit.events(), self.policy, now())
        self.gauges.publish(
            {
                "echoplane_monitor_last_step_timestamp_seconds": [((), self._read_at)],
                "echoplane_monitor_log_bytes": [((), log_size_bytes(self._place))],
                "echoplane_monitor_bad_lines": [((), self.monitors.bad_lines)],
                **model_values(self.monitors.current()),
                **loop_values(loop, self.policy),
                **rollback_values(self._rollback),
            }
        )

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.trigger.close()
        self.monitors.close()


def model_values(models: list[ModelMonitor]) -> Values:
    """Returns the values of the models in service."""
    watched = [one for one in models if one.monitor]
    return (
        feedback_values(models)
        | accuracy_values(models)
        | {
            "echoplane_monitor_studies": [(_labels(one), one.studies) for one in models],
            "echoplane_monitor_abstained": [(_labels(one), one.abstained) for one in models],
            "echoplane_model_first_answer_timestamp_seconds": [(_labels(one), one.first.timestamp()) for one in models],
            "echoplane_drift_watched": [(_labels(one), float(one.monitor is not None)) for one in models],
            "echoplane_drift_alarm": [
                ((*_labels(one), *_place(one.monitor.alarm)), float(one.monitor.alarm is not None))
                for one in watched
                if one.monitor
            ],
            "echoplane_drift_evidence_ratio": [
                ((*_labels(one), group), streams.mean_evidence / THRESHOLD)
                for one in watched
                if one.monitor
                for group, streams in one.monitor.groups.items()
            ],
            "echoplane_drift_stream_evidence_ratio": [
                ((*_labels(one), name), evidence / THRESHOLD)
                for one in watched
                if one.monitor
                for name, evidence in one.monitor.streams.evidence.items()
            ],
        }
    )


def accuracy_values(models: list[ModelMonitor]) -> dict[str, list[tuple[tuple[str, ...], float]]]:
    """Returns the estimated accuracy of each model with a full window of answers."""
    found = [(one, one.estimate, one.reference.accuracy_model) for one in models if one.reference]
    full = [(_labels(one), estimate, fitted) for one, estimate, fitted in found if estimate and fitted]
    known = [(labels, estimate.accuracy, fitted) for labels, estimate, fitted in full if estimate.accuracy is not None]
    return {
        "echoplane_accuracy_known": [(labels, float(estimate.accuracy is not None)) for labels, estimate, _ in full],
        "echoplane_accuracy_estimate_ratio": [(labels, accuracy) for labels, accuracy, _ in known],
        "echoplane_accuracy_estimate_error_ratio": [(labels, fitted.error_unseen) for labels, _, fitted in known],
        "echoplane_accuracy_validation_ratio": [(labels, fitted.accuracy) for labels, _, fitted in full],
    }


def feedback_values(models: list[ModelMonitor]) -> dict[str, list[tuple[tuple[str, ...], float]]]:
    """Returns how often feedback agrees with each model that has some."""
    known = [(_labels(one), one.agreement) for one in models if one.agreement]
    return {
        "echoplane_feedback_studies": [(labels, found.studies) for labels, found in known],
        "echoplane_feedback_agreement_ratio": [(labels, found.share) for labels, found in known],
        "echoplane_feedback_agreement_bound": [
            ((*labels, bound), value)
            for labels, found in known
            for bound, value in zip(("low", "high"), found.interval, strict=True)
        ],
    }


def _labels(model: ModelMonitor) -> tuple[str, str]:
    return model.task, model.version or model.bundle[:12]


def _place(alarm: Alarm | None) -> tuple[str, str]:
    """Returns the stream that changed and the groups in which it did; empty texts without an alarm."""
    return (alarm.stream, in_words(alarm.groups)) if alarm else ("", "")


def loop_values(loop: Loop, policy: LoopPolicy) -> Values:
    """Returns the values of the retraining loop."""
    ended = loop.with_status("finished")
    return {
        "echoplane_retraining_waiting": [((), len(loop.with_status("waiting")))],
        "echoplane_retraining_running": [((), len(loop.with_status("running")))],
        "echoplane_retraining_runs_left": [((), loop.runs_left(policy, now()))],
        "echoplane_retraining_stopped": [((), float(bool(loop.stopped_by)))],
        "echoplane_retraining_runs": [((), len(ended))],
        "echoplane_retraining_failed": [((), sum(one.outcome != SUCCESS for one in ended))],
    }


def rollback_values(rollback: AutomaticRollback | None) -> Values:
    """Returns the number of automatic rollbacks of each task; nothing if they are switched off."""
    return {"echoplane_automatic_rollbacks": [((task,), n) for task, n in rollback.done.items()]} if rollback else {}
