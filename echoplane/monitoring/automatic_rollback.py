"""When a new champion is worse than the model before it, so that the monitor rolls it back by itself.

Both signals compare the two models' own answers in service, so a change of the studies that both would suffer from is
told from a bad model only as far as it did not come with the promotion. They err towards doing nothing: the exact
99.9 % intervals of the two shares must lie apart by a margin.
"""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from echoplane.binomial import exact_interval
from echoplane.monitoring.model_monitor import ModelMonitor

LEVEL = 0.999


class RollbackPolicy(BaseModel):
    """Limits of automatic rollback."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    min_studies: int = Field(default=200, ge=50)
    """Studies that each of the two models must have answered before their shares of "cannot tell" are compared."""
    min_feedback: int = Field(default=30, ge=10)
    """Studies with feedback that each must have before their shares of right labels are compared."""
    margin: float = Field(default=0.05, gt=0, lt=1)
    """Share by which the new model must be worse, beyond both intervals."""
    young_s: float = Field(default=14 * 86_400, gt=0)
    """Time in seconds since its first answer after which a champion is no longer rolled back automatically."""


def reason_to_roll_back(current: ModelMonitor, previous: ModelMonitor, policy: RollbackPolicy, now: datetime) -> str:
    """Returns in a sentence why `current` is worse than `previous`; empty if it is not, or if that is not certain."""
    if (now - current.first).total_seconds() > policy.young_s:
        return ""
    if min(current.studies, previous.studies) >= policy.min_studies:
        new, old = (current.abstained, current.studies), (previous.abstained, previous.studies)
        if _lies_above(new, old, policy.margin):
            return f'It answered "cannot tell" to {_of(*new)}, the previous model to {_of(*old)}.'
    told, told_before = current.agreement, previous.agreement
    if told and told_before and min(told.studies, told_before.studies) >= policy.min_feedback:
        new, old = ((one.studies - one.agreeing, one.studies) for one in (told, told_before))
        if _lies_above(new, old, policy.margin):
            return f"Feedback finds it wrong in {_of(*new)}, the previous model in {_of(*old)}."
    return ""


def _lies_above(new: tuple[int, int], old: tuple[int, int], margin: float) -> bool:
    return exact_interval(*new, LEVEL)[0] > exact_interval(*old, LEVEL)[1] + margin


def _of(count: int, studies: int) -> str:
    return f"{count} of {studies:,} studies ({count / studies:.0%})"
