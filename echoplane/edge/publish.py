"""Operations of the publisher on a repository: publish a bundle, widen, halt and resume its roll-out, refresh."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from tuf.api.metadata import Targets

from echoplane.bundle import read
from echoplane.bundle.spec import FILES, OPTIONAL
from echoplane.edge.policy import Share
from echoplane.edge.repository import PLAN, EdgeRepository
from echoplane.edge.rollout import RINGS, Candidate, Plan, Ring, TaskPlan, read_plan, ring_cut
from echoplane.errors import ConfigError

EVALUATION = "evaluation.json"
"""Evaluation beside a bundle; the service follows the inference settings in it."""
ABSTAINED = ("abstained", "flagged")
"""Figures of an evaluation that are the share of studies answered with "cannot tell"."""


@dataclass(frozen=True)
class Rollout:
    """Repository, channel and task that a change of the plan applies to."""

    repository: EdgeRepository
    channel: str
    task: str


def plan_of(repository: EdgeRepository, channel: str) -> Plan:
    content = repository.target_content(_path(channel), PLAN)
    return Plan(channel=channel) if content is None else read_plan(content)


def channels(repository: EdgeRepository) -> set[str]:
    """Returns the names of the channels that have a plan."""
    return {path.split("/")[1].removesuffix(".json") for path in repository.targets(PLAN).targets}


def abstained_in_evaluation(repository: EdgeRepository, bundle: str) -> Share | None:
    """Returns how often a bundle abstained in its own evaluation; None if no evaluation that says so lies beside it."""
    from echoplane.evaluation.record import EvaluationRecord

    content = repository.target_content(f"bundles/{bundle}/{EVALUATION}")
    try:
        record = EvaluationRecord.model_validate_json(content or b"")
    except ValidationError:
        return None
    shares = [record.figures[name].value for name in ABSTAINED if name in record.figures]
    return Share(round(shares[0] * record.clips), record.clips) if shares and record.bundle_id == bundle else None


def publish(repository: EdgeRepository, channel: str, folder: Path, ring: Ring, devices: Collection[str]) -> Candidate:
    """Offers the bundle in `folder` to `ring`; a bundle that is on offer already is offered to a wider ring.

    A new bundle takes the place of the one on offer, which becomes the stable one if all devices had it and it was not
    halted. Raises ConfigError if another bundle is still being rolled out, or the ring would become narrower.
    """
    bundle = read(folder)
    where = Rollout(repository, channel, bundle.spec.task)
    plan = _task_plan(where)
    offered = plan.candidate
    if offered and offered.bundle == bundle.id:
        return widen(where, ring, devices)
    if offered and not offered.halted and offered.ring != "all":
        raise ConfigError(f"bundle {offered.bundle[:12]} is in ring {offered.ring}; widen it to all, or halt it first.")
    stable = offered.bundle if offered and not offered.halted else plan.stable
    candidate = Candidate(bundle=bundle.id, ring=ring, cut=ring_cut(ring, devices), since=repository.now)
    changed = TaskPlan(stable=stable, candidate=candidate)
    with repository.edit_targets() as targets:
        _add_bundle(repository, targets, folder, bundle.id)
        _drop_unused(targets, _bundles_in_use(where, changed))
    _write(where, changed)
    return candidate


def widen(where: Rollout, ring: Ring, devices: Collection[str]) -> Candidate:
    """Opens a wider ring to the bundle on offer; needs no offline key."""
    candidate = _candidate(where)
    if candidate.halted:
        raise ConfigError(f"the roll-out is halted ({candidate.halted}); resume it first.")
    if RINGS.index(ring) < RINGS.index(candidate.ring):
        raise ConfigError(f"the roll-out has reached ring {candidate.ring}; halt it to take the bundle back.")
    cut = max(candidate.cut, ring_cut(ring, devices))
    return _change(where, candidate.model_copy(update={"ring": ring, "cut": cut, "since": where.repository.now}))


def halt(where: Rollout, reason: str) -> Candidate:
    """Halts the roll-out: devices return to the stable bundle and give this reason."""
    if not reason.strip():
        raise ConfigError("a halt needs a reason, which every device reports; name no patient.")
    return _change(where, _candidate(where).model_copy(update={"halted": reason.strip()}))


def resume(where: Rollout) -> Candidate:
    """Continues a halted roll-out as a new attempt, which devices that refused the bundle join."""
    candidate = _candidate(where)
    if not candidate.halted:
        raise ConfigError("the roll-out is not halted.")
    changed = {"halted": "", "attempt": candidate.attempt + 1, "since": where.repository.now}
    return _change(where, candidate.model_copy(update=changed))


def refresh(repository: EdgeRepository) -> None:
    """Signs plan, snapshot and timestamp again, so that they do not expire; to be run daily. Needs no offline key."""
    with repository.edit_targets(PLAN):
        pass
    repository.finish()


def _task_plan(where: Rollout) -> TaskPlan:
    return plan_of(where.repository, where.channel).tasks.get(where.task, TaskPlan())


def _candidate(where: Rollout) -> Candidate:
    candidate = _task_plan(where).candidate
    if candidate is None:
        raise ConfigError(f"channel {where.channel} has no roll-out of {where.task}; publish a bundle first.")
    return candidate


def _change(where: Rollout, candidate: Candidate) -> Candidate:
    _write(where, _task_plan(where).model_copy(update={"candidate": candidate}))
    return candidate


def _with_plan(where: Rollout, changed: TaskPlan) -> Plan:
    plan = plan_of(where.repository, where.channel)
    return plan.model_copy(update={"tasks": plan.tasks | {where.task: changed}})


def _write(where: Rollout, changed: TaskPlan) -> None:
    content = _with_plan(where, changed).model_dump_json(indent=1).encode()
    with where.repository.edit_targets(PLAN) as targets:
        where.repository.add_target(targets, _path(where.channel), content)
    where.repository.finish()


def _add_bundle(repository: EdgeRepository, targets: Targets, folder: Path, bundle_id: str) -> None:
    optional = [name for name in (*OPTIONAL, EVALUATION) if (folder / name).is_file()]
    names = ["bundle.json", *FILES, *optional]
    for name in names:
        repository.add_target(targets, f"bundles/{bundle_id}/{name}", (folder / name).read_bytes())


def _bundles_in_use(where: Rollout, changed: TaskPlan) -> set[str]:
    others = channels(where.repository) - {where.channel}
    plans = [plan_of(where.repository, channel) for channel in others] + [_with_plan(where, changed)]
    return set().union(*(plan.bundles() for plan in plans))


def _drop_unused(targets: Targets, bundles: set[str]) -> None:
    """Removes bundles that no plan mentions, so a stolen online key cannot send devices back to an old one."""
    targets.targets = {path: info for path, info in targets.targets.items() if path.split("/")[1] in bundles}


def _path(channel: str) -> str:
    return f"plans/{channel}.json"
