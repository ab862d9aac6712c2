"""The promotion gate, a set of checks that a candidate model must pass before it serves: takes figures, scores and a
policy, and returns a decision with its reasons. A refusal is a result, not an error."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.errors import ConfigError, wrong_field
from echoplane.evaluation.intervals import bootstrap_difference, take
from echoplane.markdown import inline
from echoplane.renamed import AcceptsFormerNames
from echoplane.tasks import Rows, by_name

FIXED_POLICIES = "ECHOPLANE_GATE_POLICIES"
"""Variable with the policies of an installation; on a cluster it comes from a ConfigMap of the chart."""
Figures = Mapping[str, Any]
"""The content of `evaluation.json`."""


class ShadowDemand(BaseModel):
    """Evidence from shadow traffic that a challenger needs before it may become champion."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    min_studies: int = Field(ge=1)
    """Minimum number of studies that both models answered."""
    min_agreement: float = Field(ge=0, le=1)
    """Minimum share of these on which both gave the same label."""
    max_failed: float = Field(default=0.01, ge=0, le=1)
    """Maximum share of offered studies on which the challenger failed."""

    def missing(self, agreed: int, differed: int, failed: int) -> list[str]:
        """Returns one sentence per demand that the counts do not meet."""
        answered, offered = agreed + differed, agreed + differed + failed
        found = []
        if answered < self.min_studies:
            found.append(f"{answered} studies were answered; at least {self.min_studies} are asked.")
        if answered and agreed / answered < self.min_agreement:
            found.append(f"{agreed} of {answered} answers agree; at least {self.min_agreement:.1%} are asked.")
        if offered and failed / offered > self.max_failed:
            found.append(f"{failed} of {offered} studies failed; at most {self.max_failed:.1%} are allowed.")
        return found


class Policy(AcceptsFormerNames):
    """Requirements that a model must meet before it serves; `echoplane/policies/TASK.yaml` explains each."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = Field(alias="schema")
    min_patients: int = Field(ge=1)
    """Minimum number of test patients."""
    floors_low: dict[str, float]
    """Minimum lower end of the 95% interval, by figure."""
    margins: dict[str, float]
    """Maximum loss against the champion by figure, at the lower end of the 95% interval of the difference."""
    min_shared: float = Field(gt=0, le=1)
    """Minimum fraction of the test samples that the champion must have answered too."""
    label_floors: dict[str, float]
    """Minimum of FIGURE/LABEL by figure, for each label with at least `min_group_patients` patients."""
    subgroup_floors: dict[str, float]
    """Minimum in each subgroup with at least `min_group_patients` patients, by figure."""
    min_group_patients: int = Field(ge=1)
    ceilings: dict[str, float]
    """Maximum value, by figure."""
    latency_p95_ms: float = Field(gt=0)
    """Maximum 95th percentile in ms of the time from a study's files to the answer, on the evaluated runtime."""
    shadow: ShadowDemand | None = None
    """Shadow evidence that a model needs before it serves; if omitted, none."""
    approval: Literal["automatic", "person"] = "automatic"
    """"person": a model that passed waits as challenger until `echoplane approve`; "automatic": it serves at once,
    unless `shadow` asks for evidence."""

    @property
    def waits(self) -> bool:
        """Returns True if a model that passed does not serve at once."""
        return self.shadow is not None or self.approval == "person"


@dataclass(frozen=True)
class Champion:
    """The champion model: its version, bundle, split, and scores on its test set."""

    version: str
    bundle_id: str
    split_id: str
    scores: Rows


@dataclass(frozen=True)
class Check:
    """One check: the value found against its limit, and a sentence that explains it."""

    name: str
    passed: bool
    value: float
    limit: float
    sentence: str


@dataclass(frozen=True)
class Decision:
    passed: bool
    reasons: tuple[Check, ...]

    def as_data(self) -> dict[str, Any]:
        return asdict(self)

    def as_markdown(self) -> str:
        """Returns the decision as Markdown, failed checks first."""
        failed = [check for check in self.reasons if not check.passed]
        said = "passed the model" if self.passed else f"refused the model by {len(failed)} checks"
        rows = [*failed, *(check for check in self.reasons if check.passed)]
        return "\n".join(
            [
                f"# The gate {said}",
                "",
                "| check | outcome | found | limit | in words |",
                "|---|---|---|---|---|",
                *(
                    f"| {inline(c.name)} | {'passed' if c.passed else '**failed**'} | {c.value:.4g} | {c.limit:.4g} "
                    f"| {inline(c.sentence)} |"
                    for c in rows
                ),
                "",
            ]
        )


def read_policy(task: str, source: str = "default") -> Policy:
    """Reads the task's policy in the package ("default") or that of a YAML file.

    If ECHOPLANE_GATE_POLICIES has policies, in YAML by task, only these count: whoever starts a run cannot choose its
    gate. Raises ConfigError if it is no policy, or another one is asked for.
    """
    if fixed := os.environ.get(FIXED_POLICIES):
        return _fixed_policy(fixed, task, source)
    try:
        packaged = resources.files("echoplane").joinpath(f"policies/{task}.yaml")
        text = packaged.read_text() if source == "default" else Path(source).read_text()
        return _policy(text)
    except OSError as error:
        raise ConfigError(f"the promotion policy can't be read ({error.strerror}); give a YAML file.") from None
    except UnicodeDecodeError:
        raise ConfigError("the promotion policy is no YAML; echoplane/policies has examples.") from None


def _fixed_policy(fixed: str, task: str, source: str) -> Policy:
    if source != "default":
        raise ConfigError(f"the policies of this installation are fixed ({FIXED_POLICIES}): leave `policy` out.")
    try:
        policies = yaml.safe_load(fixed)
    except yaml.YAMLError:
        raise ConfigError(f"{FIXED_POLICIES} is no YAML: give one policy by task.") from None
    if not isinstance(policies, dict) or task not in policies:
        raise ConfigError(f"{FIXED_POLICIES} has no policy of {task}, so no model of it can be promoted.")
    return _policy(yaml.safe_dump(policies[task]))


def _policy(text: str) -> Policy:
    try:
        return Policy.model_validate(yaml.safe_load(text))
    except yaml.YAMLError:
        raise ConfigError("the promotion policy is no YAML; echoplane/policies has examples.") from None
    except ValidationError as error:
        raise ConfigError(f"the promotion policy: {wrong_field(error)}") from None


def decide(figures: Figures, scores: Rows, policy: Policy, champion: Champion | None) -> Decision:
    """Runs every check of `policy` on the candidate's evaluation; it passes if all do. Without a champion the
    comparison with it is left out."""
    reasons = (
        *_data_checks(figures, policy),
        *_floor_checks(figures, policy),
        *_group_checks(figures, policy),
        *_ceiling_checks(figures, policy),
        *(_champion_checks(figures, scores, policy, champion) if champion else ()),
    )
    return Decision(all(check.passed for check in reasons), reasons)


def _data_checks(figures: Figures, policy: Policy) -> Iterator[Check]:
    data = figures["data"]
    unproven, samples = data["without_deid"], data["samples"]
    sentence = f"{unproven} of {samples} samples have neither proof of de-identification nor a public source"
    yield _at_most("data/without_deid", unproven, 0, sentence)
    shared = data["patients_in_two_splits"]
    yield _at_most("data/patients_in_two_splits", shared, 0, f"{shared} patients are in more than one split")
    yield _at_least(
        "data/test_patients", figures["patients"], policy.min_patients, f"{figures['patients']} patients were tested"
    )


def _floor_checks(figures: Figures, policy: Policy) -> Iterator[Check]:
    for name, floor in policy.floors_low.items():
        found = _figure(figures, name)
        yield _at_least(
            f"floor/{name}",
            found["low"],
            floor,
            f"{name} is {found['value']:.3f}, lower end of its 95% interval {found['low']:.3f}",
        )


def _group_checks(figures: Figures, policy: Policy) -> Iterator[Check]:
    for name, floor in policy.label_floors.items():
        for label, size in _large(figures["labels"], policy):
            value = _figure(figures, f"{name}/{label}")["value"]
            sentence = f"{name} of {label} is {value:.3f} ({size['patients']} patients)"
            yield _at_least(f"{name}/{label}", value, floor, sentence)
    for name, floor in policy.subgroup_floors.items():
        for column, groups in figures["subgroups"].items():
            for group, found in _large(groups, policy):
                value = _figure(found, name)["value"]
                sentence = f"{name} for {column} {group} is {value:.3f} ({found['patients']} patients)"
                yield _at_least(f"{column}/{group}/{name}", value, floor, sentence)


def _large(groups: Mapping[str, Any], policy: Policy) -> Iterator[tuple[str, Any]]:
    """Returns the groups with enough patients to be judged."""
    return ((name, found) for name, found in groups.items() if found["patients"] >= policy.min_group_patients)


def _ceiling_checks(figures: Figures, policy: Policy) -> Iterator[Check]:
    for name, ceiling in policy.ceilings.items():
        value = _figure(figures, name)["value"]
        yield _at_most(name, value, ceiling, f"{name} is {value:.3f}")
    p95 = figures["latency_ms"]["p95"]
    sentence = f"the 95th percentile of latency is {p95:.0f} ms on {figures['runtime']} at {figures['precision']}"
    yield _at_most("latency_p95_ms", p95, policy.latency_p95_ms, sentence)


def _champion_checks(figures: Figures, scores: Rows, policy: Policy, champion: Champion) -> Iterator[Check]:
    """Yields the checks that the candidate is not inferior to the champion, paired by sample, with patients as
    clusters."""
    same = figures["split_id"] == champion.split_id
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
        yield from _differences(by_name(figures["task"]).summary, ours, theirs, policy, champion)


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


def _figure(figures: Figures, name: str) -> Mapping[str, float]:
    if name not in figures["figures"]:
        raise _unknown(name, figures["figures"])
    found: Mapping[str, float] = figures["figures"][name]
    return found


def _unknown(name: str, figures: Iterable[str]) -> ConfigError:
    return ConfigError(f"the policy asks for {name}; the evaluation has {', '.join(figures)}.")


def _at_least(name: str, value: float, limit: float, finding: str) -> Check:
    passed = value >= limit
    return Check(name, passed, float(value), float(limit), f"{finding}; at least {limit:g} is asked.")


def _at_most(name: str, value: float, limit: float, finding: str) -> Check:
    passed = value <= limit
    return Check(name, passed, float(value), float(limit), f"{finding}; at most {limit:g} is allowed.")
