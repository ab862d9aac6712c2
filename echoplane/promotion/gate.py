"""The promotion gate: the checks that a candidate model must pass before it serves. A refusal is a result, not an
error."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from echoplane.errors import ConfigError
from echoplane.evaluation.intervals import bootstrap_difference, take
from echoplane.evaluation.record import EvaluationRecord, Figure, Size
from echoplane.promotion.decision import Check, Decision
from echoplane.promotion.policy import Policy
from echoplane.tasks import Rows, by_name

GroupSize = TypeVar("GroupSize", bound=Size)


@dataclass(frozen=True)
class Champion:
    """The champion model: its version, bundle, split, and scores on its test set."""

    version: str
    bundle_id: str
    split_id: str
    scores: Rows


def decide(found: EvaluationRecord, scores: Rows, policy: Policy, champion: Champion | None) -> Decision:
    """Runs every check of `policy` on the candidate's evaluation; it passes if all do. Without a champion the
    comparison with it is left out."""
    reasons = (
        *_data_checks(found, policy),
        *_floor_checks(found, policy),
        *_group_checks(found, policy),
        *_ceiling_checks(found, policy),
        *(_champion_checks(found, scores, policy, champion) if champion else ()),
    )
    return Decision(all(check.passed for check in reasons), reasons)


def _data_checks(found: EvaluationRecord, policy: Policy) -> Iterator[Check]:
    unproven, samples = found.data.without_deid, found.data.samples
    sentence = f"{unproven} of {samples} samples have neither proof of de-identification nor a public source"
    yield _at_most("data/without_deid", unproven, 0, sentence)
    shared = found.data.patients_in_two_splits
    yield _at_most("data/patients_in_two_splits", shared, 0, f"{shared} patients are in more than one split")
    yield _at_least("data/test_patients", found.patients, policy.min_patients, f"{found.patients} patients were tested")


def _floor_checks(found: EvaluationRecord, policy: Policy) -> Iterator[Check]:
    for name, floor in policy.floors_low.items():
        figure = _figure(found.figures, name)
        sentence = f"{name} is {figure.value:.3f}, lower end of its 95% interval {figure.low:.3f}"
        yield _at_least(f"floor/{name}", figure.low, floor, sentence)


def _group_checks(found: EvaluationRecord, policy: Policy) -> Iterator[Check]:
    for name, floor in policy.label_floors.items():
        for label, size in _large(found.labels, policy):
            value = _figure(found.figures, f"{name}/{label}").value
            sentence = f"{name} of {label} is {value:.3f} ({size.patients} patients)"
            yield _at_least(f"{name}/{label}", value, floor, sentence)
    for name, floor in policy.subgroup_floors.items():
        for column, groups in found.subgroups.items():
            for group, measured in _large(groups, policy):
                value = _figure(measured.figures, name).value
                sentence = f"{name} for {column} {group} is {value:.3f} ({measured.patients} patients)"
                yield _at_least(f"{column}/{group}/{name}", value, floor, sentence)


def _large(groups: Mapping[str, GroupSize], policy: Policy) -> Iterator[tuple[str, GroupSize]]:
    """Returns the groups with enough patients to be judged."""
    return ((name, group) for name, group in groups.items() if group.patients >= policy.min_group_patients)


def _ceiling_checks(found: EvaluationRecord, policy: Policy) -> Iterator[Check]:
    for name, ceiling in policy.ceilings.items():
        value = _figure(found.figures, name).value
        yield _at_most(name, value, ceiling, f"{name} is {value:.3f}")
    p95 = found.latency_ms.p95
    sentence = f"the 95th percentile of latency is {p95:.0f} ms on {found.runtime} at {found.precision}"
    yield _at_most("latency_p95_ms", p95, policy.latency_p95_ms, sentence)


def _champion_checks(found: EvaluationRecord, scores: Rows, policy: Policy, champion: Champion) -> Iterator[Check]:
    """Yields the checks that the candidate is not inferior to the champion, paired by sample, with patients as
    clusters."""
    same = found.split_id == champion.split_id
    yield Check(
        "champion/same_split",
        same,
        float(same),
        1.0,
        f"version {champion.version}, which serves, was tested on {'the same' if same else 'another'} split"
        + ("." if same else ": the two can't be compared. Train on its split, or move the alias by hand."),
    )
    ours, theirs = paired(scores, champion.scores)
    share = len(ours["sample"]) / len(scores["sample"])
    sentence = (
        f"version {champion.version} answered {100 * share:.1f}% of these clips too, on which the two are compared; "
        "a policy of your own may ask for less (min_shared)"
    )
    shared = _at_least("champion/shared_clips", share, policy.min_shared, sentence)
    yield shared
    if same and shared.passed:
        yield from _differences(by_name(found.task).summary, ours, theirs, policy, champion)


def _differences(
    summary: Callable[[Rows], dict[str, float]], ours: Rows, theirs: Rows, policy: Policy, champion: Champion
) -> Iterator[Check]:
    intervals = bootstrap_difference(ours, theirs, summary)
    mine, other = summary(ours), summary(theirs)
    for name, margin in policy.margins.items():
        if name not in intervals:
            raise _unknown(name, intervals)
        low, high = intervals[name]
        yield _at_least(
            f"champion/{name}",
            low,
            -margin,
            f"{name} is {mine[name] - other[name]:+.3f} against version {champion.version} on the same "
            f"{len(ours['sample'])} clips (95% interval {low:+.3f} to {high:+.3f})",
        )


def paired(scores: Rows, others: Rows) -> tuple[Rows, Rows]:
    """Returns both on their common samples, in one order, and with the ground truth of `scores`: labels may have been
    corrected since `others` was scored. A study whose mask was corrected is a different sample."""
    _, mine, other = np.intersect1d(scores["sample"], others["sample"], return_indices=True)
    ours = take(scores, mine)
    corrected = {name: ours[name] for name in ("truth", "patient") if name in ours}
    return ours, {**take(others, other), **corrected}


def _figure(figures: Mapping[str, Figure], name: str) -> Figure:
    if name not in figures:
        raise _unknown(name, figures)
    return figures[name]


def _unknown(name: str, figures: Iterable[str]) -> ConfigError:
    return ConfigError(f"the policy asks for {name}; the evaluation has {', '.join(figures)}.")


def _at_least(name: str, value: float, limit: float, finding: str) -> Check:
    passed = value >= limit
    return Check(name, passed, float(value), float(limit), f"{finding}; at least {limit:g} is asked.")


def _at_most(name: str, value: float, limit: float, finding: str) -> Check:
    passed = value <= limit
    return Check(name, passed, float(value), float(limit), f"{finding}; at most {limit:g} is allowed.")
