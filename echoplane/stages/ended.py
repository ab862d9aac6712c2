"""Stage `ended`: the last step of a pipeline, which reports how the run ended and why, even if other steps failed."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from echoplane.markdown import inline
from echoplane.stages.outputs import Promotion
from echoplane.stages.stage import flat
from echoplane.stages.step import Record, records

SUCCEEDED = ("SUCCEEDED", "COMPLETE", "CACHED")
"""Kubeflow's states for steps that all succeeded: in its API, in its metadata store, and for a run found in its
cache."""

Outcome = Literal["promoted", "challenger", "refused", "succeeded", "failed"]
HEADLINES: dict[Outcome, str] = {
    "promoted": "promoted: the model serves",
    "challenger": "passed the gate: the model waits as challenger for `echoplane approve`",
    "refused": "REFUSED: the model does not serve",
    "succeeded": "succeeded",
    "failed": "FAILED",
}


class Config(BaseModel):
    """The run to report on."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    root: str
    """Folder under which all stages keep their data."""
    run: str
    """Name of the run, with which the names of its pods begin."""
    state: str
    """Kubeflow's state for the end of the steps before this one."""


def run(config: Config) -> tuple[Outcome, str]:
    """Returns the outcome of a run, and its report in Markdown: a headline, what to do, a row per step."""
    steps = records(config.root, config.run)
    return outcome(config.state, steps), report(config.run, config.state, steps)


def outcome(state: str, steps: Sequence[Record]) -> Outcome:
    """Returns the outcome of the run. If the gate refused the model, the run succeeded but has an outcome of its
    own."""
    if state not in SUCCEEDED or any(step.reason for step in steps):
        return "failed"
    for step in steps:
        if step.stage == "promote":
            decision = step.stated(Promotion)
            return "refused" if not decision.passed else "challenger" if decision.waits else "promoted"
    return "succeeded"


def report(run: str, state: str, steps: Sequence[Record]) -> str:
    return "\n".join([*_headline(run, state, steps), "", *_table(steps), *_remarks(steps), ""])


def _headline(run: str, state: str, steps: Sequence[Record]) -> Iterator[str]:
    failed = [step for step in steps if step.reason]
    yield f"# {run}: {HEADLINES[outcome(state, steps)]}"
    yield ""
    if failed:
        yield from (f"**{inline(step.stage)}**: {inline(step.reason)}" for step in failed)
        yield ""
        yield "Fix what it names and start the run again: finished steps answer from their folders."
    elif state not in SUCCEEDED:
        yield f"Kubeflow reports {state}, and no step left a reason: one never started, or its root can't be written. "
        yield f"`kubectl get pods -l workflows.argoproj.io/workflow={run}` shows which pod, `kubectl describe pod` why."


def _table(steps: Sequence[Record]) -> Iterator[str]:
    if not steps:
        yield "No step left a record."
        return
    yield "| step | seconds | result |"
    yield "|---|---|---|"
    for step in steps:
        counts = ", ".join(f"{inline(name)} {value}" for name, value in _plain(step.counts))
        yield f"| {inline(step.stage)} | {step.duration_s:.0f} | {'**failed**' if step.reason else counts or 'done'} |"


def _plain(counts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in flat(counts):
        if isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif isinstance(value, int | float):
            yield name, f"{value:.4g}" if isinstance(value, float) else str(value)


def _remarks(steps: Sequence[Record]) -> Iterator[str]:
    """Yields the reasons why the gate refused a model."""
    for step in steps:
        if isinstance(step.output, Promotion) and step.output.refused_by:
            yield from ("", f"{inline(step.stage)}, refused by:", "")
            yield from (f"- {inline(sentence)}" for sentence in step.output.refused_by)
