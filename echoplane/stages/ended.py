"""The stage `ended`: the last step of a pipeline, which says how the run ended and why, whatever became of the rest."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from echoplane.stages.stage import flat
from echoplane.stages.step import Record, records

WELL = ("SUCCEEDED", "COMPLETE", "CACHED")
"""What Kubeflow calls steps that all ended well: its API, its metadata store, and a run found in its cache."""


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    root: str
    """Folder under which all stages keep their data."""
    run: str
    """The run, as its pods are named."""
    state: str
    """What Kubeflow says of the steps before this one."""


def run(config: Config) -> str:
    """How the run ended, as Markdown: a headline, what to do, a row a step."""
    return report(config.run, config.state, records(config.root, config.run))


def report(run: str, state: str, steps: Sequence[Record]) -> str:
    return "\n".join([*_headline(run, state, steps), "", *_table(steps), *_remarks(steps), ""])


def _headline(run: str, state: str, steps: Sequence[Record]) -> Iterator[str]:
    failed = [step for step in steps if step.reason]
    yield f"# {run}: {'failed' if failed or state not in WELL else 'ended well'}"
    yield ""
    if failed:
        yield from (f"**{step.stage}**: {step.reason}" for step in failed)
        yield ""
        yield "Put right what it names and start the run again: finished steps answer from their folders."
    elif state not in WELL:
        yield f"Kubeflow says {state}, and no step said why: one was killed (memory, time, node), never started, or "
        yield f"the run was terminated. `kubectl get pods -l workflows.argoproj.io/workflow={run}` shows which pod, "
        yield "`kubectl describe pod` why."


def _table(steps: Sequence[Record]) -> Iterator[str]:
    if not steps:
        yield "No step came to an end."
        return
    yield "| step | seconds | what came of it |"
    yield "|---|---|---|"
    for step in steps:
        told = "failed" if step.reason else ", ".join(f"{name} {value}" for name, value in _plain(step.counts))
        yield f"| {step.stage} | {step.duration_s:.0f} | {told or 'done'} |"


def _plain(counts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in flat(counts):
        if isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif isinstance(value, int | float):
            yield name, f"{value:.4g}" if isinstance(value, float) else str(value)


def _remarks(steps: Sequence[Record]) -> Iterator[str]:
    """Lists of sentences among the counts, such as why the gate refused a model."""
    for step in steps:
        for name, value in step.counts.items():
            if isinstance(value, list) and value and all(isinstance(one, str) and " " in one for one in value):
                yield from ("", f"{step.stage}, {name.replace('_', ' ')}:", "", *(f"- {one}" for one in value))
