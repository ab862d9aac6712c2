"""The policy of a roll-out: whether it is halted, widened, or waits. A pure function of reports and limits.

Answers of the offered bundle are compared with those of the stable one on the same devices, since devices differ in
studies and speed. All comparisons err towards doing nothing: shares are compared by their exact binomial 99.9 %
intervals (Clopper and Pearson), because they are looked at again and again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from echoplane.binomial import exact_interval
from echoplane.edge.fleet import Received, Report, ServiceCounts, plain
from echoplane.edge.rollout import Candidate, Ring, TaskPlan, place

LEVEL = 0.999
SLOW_SHARE = 0.05
"""Share of answers that take longer than the 95th percentile."""


Counts = Sequence[ServiceCounts]
Pairs = Sequence[tuple[ServiceCounts, ServiceCounts | None]]
"""Counts of devices with the offered bundle, and with the stable one if the device has some."""
SAME_DEVICES, STABLE = "the stable bundle on the same devices", "the stable bundle"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Policy(_Frozen):
    """Limits of a roll-out."""

    max_failed_share: float = Field(default=0.1, ge=0, lt=1)
    """Halt if a larger share of the ring's devices that tried the bundle refused it."""
    min_serving_share: float = Field(default=0.9, gt=0, le=1)
    """Widen only if at least this share of the ring's known devices serves the bundle."""
    soak_h: float = Field(default=24, ge=0)
    """Widen only after this many hours in a ring."""
    min_answers: int = Field(default=200, ge=50)
    """Answers with the offered bundle, and with what it is compared with, below which answers are not compared."""
    max_more_abstained: float = Field(default=0.05, gt=0, lt=1)
    """Halt if the share of "cannot tell" is certainly higher than before by more than this."""
    min_feedback: int = Field(default=30, ge=10)
    """Answers with feedback that both bundles must have before their shares of wrong labels are compared."""
    max_more_wrong: float = Field(default=0.05, gt=0, lt=1)
    """Halt if the share of labels that people find wrong is certainly higher than before by more than this."""
    max_slower: float = Field(default=1.5, ge=1)
    """Halt if the latency that 95 % of answers keep is certainly longer than before by more than this factor."""


class Decision(_Frozen):
    """Decision of the policy on a roll-out as it stands."""

    action: Literal["halt", "widen", "wait", "done"]
    ring: Ring | None = None
    """Ring to open, for `widen`."""
    reason: str


@dataclass(frozen=True)
class Tally:
    """Number of devices of a ring, of those that serve the candidate, and of those that refused it."""

    ring: int
    serving: int
    refused: int
    reason: str
    """Reason of the first refusal."""

    @property
    def refused_share(self) -> float:
        """Share of refusals among the devices that tried."""
        return self.refused / max(1, self.refused + self.serving)


@dataclass(frozen=True)
class Share:
    """`count` of `of` answers."""

    count: int
    of: int

    def __str__(self) -> str:
        return f"{self.count} of {self.of:,} answers ({self.count / self.of:.1%})"

    @property
    def low(self) -> float:
        return exact_interval(self.count, self.of, LEVEL)[0]

    @property
    def high(self) -> float:
        return exact_interval(self.count, self.of, LEVEL)[1]


def tally(candidate: Candidate, task: str, received: Received) -> Tally:
    """Counts the devices of the candidate's ring. A file that is no report counts as a device that has not tried, so
    that a ring with damaged reports is not widened."""
    ring = [one.tasks[task] for one in _in_ring(candidate, received.reports) if task in one.tasks]
    damaged = sum(place(PurePath(name).stem) <= candidate.cut for name in received.unreadable)
    tried = [one for one in ring if (one.wanted, one.attempt) == (candidate.bundle, candidate.attempt)]
    refused = [one for one in tried if one.state == "refused"]
    serving = sum(one.state == "serving" and one.bundle == candidate.bundle for one in tried)
    return Tally(len(ring) + damaged, serving, len(refused), plain(refused[0].reason) if refused else "")


def decide(
    plan: TaskPlan, task: str, received: Received, policy: Policy, now: datetime, tested: Share | None = None
) -> Decision | None:
    """Returns what to do with the roll-out of the plan's candidate; None if there is none.

    `tested` is how often the bundle abstained in its own evaluation; it stands in for a stable bundle's answers where
    there are too few of them.
    """
    candidate = plan.candidate
    if candidate is None:
        return None
    found = tally(candidate, task, received)
    counts = f"{found.serving} of {found.ring} devices serve it, {found.refused} refused it"
    if candidate.halted:
        return Decision(action="wait", reason=f"halted: {candidate.halted}")
    if found.refused and found.refused_share > policy.max_failed_share:
        return Decision(action="halt", reason=f"{counts}; the first reason: {found.reason}")
    if worse := worse_answers(plan, task, received.reports, policy, tested):
        return Decision(action="halt", reason=worse)
    if not found.ring or found.serving / found.ring < policy.min_serving_share:
        return Decision(action="wait", reason=counts)
    if candidate.ring == "all":
        return Decision(action="done", reason=counts)
    soaked_h = (now - candidate.since).total_seconds() / 3600
    if soaked_h < policy.soak_h:
        return Decision(action="wait", reason=f"{counts}, for {soaked_h:.1f} h of {policy.soak_h:g}")
    return Decision(action="widen", ring="tenth" if candidate.ring == "first" else "all", reason=counts)


def worse_answers(
    plan: TaskPlan, task: str, reports: Sequence[Report], policy: Policy, tested: Share | None = None
) -> str:
    """Returns in a sentence why the candidate's answers in service are worse than the stable bundle's; empty if they
    are not, or if that is not certain."""
    candidate = plan.candidate
    if candidate is None:
        return ""
    pairs = list(_pairs(plan, candidate, task, _in_ring(candidate, reports)))
    elsewhere = [one for report in reports for one in _counts(report, task) if one.bundle == plan.stable]
    return (
        _more_abstained(pairs, elsewhere, policy, tested)
        or _more_wrong(pairs, elsewhere, policy)
        or _slower(pairs, policy)
    )


def _more_abstained(pairs: Pairs, elsewhere: Counts, policy: Policy, tested: Share | None) -> str:
    known = [(one, old) for one, old in pairs if old and old.answers >= policy.min_answers]
    offered = _abstained(one for one, _ in pairs)
    choices = (
        (_abstained(one for one, _ in known), _abstained(old for _, old in known), SAME_DEVICES),
        (offered, _abstained(elsewhere), STABLE),
        (offered, tested or Share(0, 0), "its own test set"),
    )
    return _certainly_more('It answered "cannot tell" in', choices, policy.min_answers, policy.max_more_abstained)


def _more_wrong(pairs: Pairs, elsewhere: Counts, policy: Policy) -> str:
    known = [(one, old) for one, old in pairs if old and old.told >= policy.min_feedback]
    choices = (
        (_wrong(one for one, _ in known), _wrong(old for _, old in known), SAME_DEVICES),
        (_wrong(one for one, _ in pairs), _wrong(elsewhere), STABLE),
    )
    return _certainly_more("People found the label wrong in", choices, policy.min_feedback, policy.max_more_wrong)


def _certainly_more(what: str, choices: Sequence[tuple[Share, Share, str]], least: int, margin: float) -> str:
    """Compares by the first of `choices`, pairs of shares with a name of the second, of which both are of enough."""
    for new, old, whose in choices:
        if min(new.of, old.of) >= least:
            return f"{what} {new}; {whose}: {old}." if new.low > old.high + margin else ""
    return ""


def _slower(pairs: Pairs, policy: Policy) -> str:
    """Counts answers that took longer than the limit of their own device: devices differ in speed."""
    known = [(one, old) for one, old in pairs if old and old.answers >= policy.min_answers]
    count = sum(one.slower_than(policy.max_slower * old.quantile_ms(1 - SLOW_SHARE)) for one, old in known)
    slow = Share(count, sum(one.answers for one, _ in known))
    if slow.of >= policy.min_answers and slow.low > SLOW_SHARE:
        return f"{slow} took longer than {policy.max_slower:g} times what 95 % took with the stable bundle."
    return ""


def answered(plan: TaskPlan, task: str, reports: Iterable[Report]) -> dict[str, Share]:
    """Returns the share of "cannot tell" with the offered and with the stable bundle, over all devices."""
    every = [one for report in reports for one in _counts(report, task)]
    ids = {"offered": plan.candidate.bundle if plan.candidate else None, "stable": plan.stable}
    return {name: _abstained(one for one in every if one.bundle == bundle) for name, bundle in ids.items() if bundle}


def _in_ring(candidate: Candidate, reports: Iterable[Report]) -> list[Report]:
    return [report for report in reports if place(report.device) <= candidate.cut]


def _counts(report: Report, task: str) -> tuple[ServiceCounts, ...]:
    return report.tasks[task].service if task in report.tasks else ()


def _pairs(
    plan: TaskPlan, candidate: Candidate, task: str, reports: Iterable[Report]
) -> Iterator[tuple[ServiceCounts, ServiceCounts | None]]:
    """Yields each device's counts with the candidate, in this attempt, and with the stable bundle."""
    for report in reports:
        counts = _counts(report, task)
        before = next((one for one in counts if one.bundle == plan.stable), None)
        for one in counts:
            if (one.bundle, one.attempt) == (candidate.bundle, candidate.attempt):
                yield one, before


def _abstained(counts: Iterable[ServiceCounts]) -> Share:
    found = list(counts)
    return Share(sum(one.abstained for one in found), sum(one.answers for one in found))


def _wrong(counts: Iterable[ServiceCounts]) -> Share:
    found = list(counts)
    return Share(sum(one.wrong for one in found), sum(one.told for one in found))
