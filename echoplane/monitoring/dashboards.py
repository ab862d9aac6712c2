"""Panels of the service's dashboard, as data: each is drawn from the service's own metrics.

A title is a sentence with its unit. `metric` is a family's name without the suffix of its samples.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from echoplane.monitoring import metrics

Kind = Literal["rate", "share", "quantile", "gauge", "table"]


class Panel(BaseModel):
    """One chart or table."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    title: str
    kind: Kind
    """rate: a counter's increase per minute; share: the percentage of a counter's increase that `where` selects;
    quantile: that of a histogram in ms; gauge: the value; table: the labels of the samples whose value is 1."""
    metrics: tuple[str, ...]
    """Names of the metric families, one line for each and each value of `by`."""
    by: str = ""
    """Label by whose values the lines are told apart; empty for one line per metric."""
    where: tuple[str, tuple[str, ...]] | None = None
    """Label and values of the samples that count."""
    of: tuple[str, tuple[str, ...]] | None = None
    """Label and values of the samples that a share is of; None for all."""
    quantile: float | None = None
    columns: tuple[str, ...] = ()
    """Labels that a table shows."""


def _name(metric: Any) -> str:
    """Returns the name of a metric family as the exposition has it, without the suffix of its samples."""
    return str(next(iter(metric.describe())).name)


def _stage_time(share: str, quantile: float) -> Panel:
    return Panel(
        title=f"Time of {share} of the studies in each stage (ms)",
        kind="quantile",
        metrics=(_name(metrics.STAGE_SECONDS),),
        by="stage",
        quantile=quantile,
    )


SERVICE: tuple[Panel, ...] = (
    Panel(title="Requests per minute, by route", kind="rate", metrics=(_name(metrics.REQUESTS),), by="route"),
    Panel(title="Requests per minute, by status", kind="rate", metrics=(_name(metrics.REQUESTS),), by="status"),
    _stage_time("95 %", 0.95),
    _stage_time("half", 0.5),
    Panel(
        title='Studies answered "cannot tell", by task (%)',
        kind="share",
        metrics=(_name(metrics.ANSWERS),),
        by="task",
        where=("outcome", ("abstained",)),
    ),
    Panel(title="Problems per minute, by type", kind="rate", metrics=(_name(metrics.PROBLEMS),), by="type"),
    Panel(
        title="Studies being answered, and waiting",
        kind="gauge",
        metrics=(_name(metrics.IN_FLIGHT), _name(metrics.QUEUED)),
    ),
    Panel(
        title="Studies on which the challenger agrees with the champion (%)",
        kind="share",
        metrics=(_name(metrics.SHADOW),),
        by="task",
        where=("outcome", ("agreed",)),
        of=("outcome", ("agreed", "differed")),
    ),
    Panel(
        title="Models that answer",
        kind="table",
        metrics=(_name(metrics.MODEL_INFO),),
        columns=("task", "version", "bundle", "runtime", "precision"),
    ),
    Panel(
        title="Tasks whose newest model does not answer",
        kind="table",
        metrics=(_name(metrics.SLOT_STALE),),
        columns=("task",),
    ),
)
"""Panels of `/dashboard`, in order."""
