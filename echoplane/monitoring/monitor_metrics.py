"""Metrics of the monitor. Labels are bounded: tasks, model versions in service, at most 52 groups per model.

All values of a step are published at once, so that a scrape never sees half of them, and a model that no longer answers
disappears with its labels.
"""

from echoplane.exposition import Definition, Values, exposition

MODEL = ("task", "version")
DEFINITIONS = (
    Definition(
        "echoplane_monitor_last_step_timestamp_seconds", "gauge", "Time at which the monitor last read the whole log."
    ),
    Definition("echoplane_monitor_log_bytes", "gauge", "Size of the prediction log as the monitor sees it."),
    Definition("echoplane_monitor_bad_lines", "counter", "Lines of the prediction log that are no rows."),
    Definition("echoplane_monitor_studies", "gauge", "Answered studies of a model that the monitor has read.", MODEL),
    Definition("echoplane_monitor_abstained", "gauge", "Those of them that were answered with `cannot tell`.", MODEL),
    Definition(
        "echoplane_model_first_answer_timestamp_seconds", "gauge", "Time of the first answer of a model.", MODEL
    ),
    Definition("echoplane_drift_watched", "gauge", "1 if a model has a reference, 0 if not.", MODEL),
    Definition(
        "echoplane_drift_alarm",
        "gauge",
        "1 if studies have drifted from the accepted ones; then `stream` is what changed most, and `group` where.",
        (*MODEL, "stream", "group"),
    ),
    Definition(
        "echoplane_drift_evidence_ratio",
        "gauge",
        "Evidence of drift as a share of the threshold: 1 raises the alarm. Group `all` holds every study.",
        (*MODEL, "group"),
    ),
    Definition(
        "echoplane_drift_stream_evidence_ratio",
        "gauge",
        "The same for each stream of all studies: input features, confidence, embedding distance.",
        (*MODEL, "stream"),
    ),
    Definition("echoplane_feedback_studies", "gauge", "Answered studies of a model that have feedback.", MODEL),
    Definition(
        "echoplane_feedback_agreement_ratio",
        "gauge",
        "Share of them whose label the person found right. People choose the studies, so it is not the accuracy.",
        MODEL,
    ),
    Definition(
        "echoplane_feedback_agreement_bound",
        "gauge",
        "Ends of that share's 95 % interval: bound is low or high.",
        (*MODEL, "bound"),
    ),
    Definition(
        "echoplane_accuracy_known",
        "gauge",
        "1 if the accuracy of the last 1,000 studies can be estimated, 0 if they are outside what the estimate was "
        "fitted on.",
        MODEL,
    ),
    Definition(
        "echoplane_accuracy_estimate_ratio",
        "gauge",
        "Accuracy of the last 1,000 studies as estimated without labels.",
        MODEL,
    ),
    Definition(
        "echoplane_accuracy_estimate_error_ratio",
        "gauge",
        "Mean error of that estimate on kinds of corruption that it was not fitted on.",
        MODEL,
    ),
    Definition(
        "echoplane_accuracy_validation_ratio",
        "gauge",
        "Accuracy on the validation studies that the estimate was fitted on.",
        MODEL,
    ),
    Definition(
        "echoplane_automatic_rollbacks",
        "counter",
        "Times that the monitor returned a task to its previous model, since the monitor started.",
        ("task",),
    ),
    Definition("echoplane_retraining_waiting", "gauge", "Requests for retraining that wait for approval."),
    Definition("echoplane_retraining_running", "gauge", "1 while a retraining command runs."),
    Definition("echoplane_retraining_runs_left", "gauge", "Runs that may still start within the current 7 days."),
    Definition("echoplane_retraining_stopped", "gauge", "1 if a person has stopped the retraining loop."),
    Definition("echoplane_retraining_runs", "counter", "Retraining runs that have ended, since the audit file began."),
    Definition("echoplane_retraining_failed", "counter", "Those of them that did not end with exit status 0."),
)
DEFINED = frozenset(one.name for one in DEFINITIONS)


class Gauges:
    """The values of the last step."""

    def __init__(self) -> None:
        self._values: Values = {}

    def publish(self, values: Values) -> None:
        """Replaces all values at once. Raises KeyError if a metric is not defined."""
        if unknown := set(values) - DEFINED:
            raise KeyError(*sorted(unknown))
        self._values = values

    def exposition(self) -> bytes:
        """Returns the values as Prometheus reads them."""
        return exposition(DEFINITIONS, self._values)
