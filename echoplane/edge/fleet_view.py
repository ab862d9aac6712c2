"""The view of a fleet: each device, each roll-out, and who needs a look. Plain data, for a page and for metrics.

Everything in a report was written by a device and may be anything: texts are cut, and what is not printable is taken
out.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from echoplane.edge.fleet import Received, Report, Seen, ServiceCounts, TaskReport, plain
from echoplane.edge.policy import Decision, Policy, Share, Tally, answered, decide, tally
from echoplane.edge.rollout import RINGS, Plan, Ring, TaskPlan, place, ring_cut, wanted

UNSEEN_H = 24
"""Hours without a report after which a device needs a look."""
LOW_MIB = 1024
"""Free space in MiB below which a device needs a look."""
CLOCK_OFF = timedelta(hours=1)
"""Difference between a device's clock and the store's that is a fault."""

Stand = Literal["serving", "behind", "waiting", "refused", "nothing"]
"""A device's state in a task; behind: it serves a bundle, but not yet the one that the plan wants now."""
STANDS: tuple[Stand, ...] = ("serving", "behind", "waiting", "refused", "nothing")


@dataclass(frozen=True)
class TaskView:
    """One task on one device."""

    task: str
    stand: Stand
    bundle: str
    """Id of the bundle that serves; empty for none."""
    wanted: str
    """Id of the bundle that the plan wants now; empty for none."""
    reason: str
    last_change: str
    service: ServiceCounts | None
    """What was answered with the bundle that serves; None if the device keeps no log."""


@dataclass(frozen=True)
class DeviceView:
    """One device. `seen` is the time of its last report by the store's clock, None if it has never reported."""

    device: str
    channel: str
    ring: Ring
    version: str
    seen: datetime | None
    free_mib: int | None
    waiting_mib: float
    tasks: tuple[TaskView, ...]
    troubles: tuple[str, ...]
    """Why a person should look, in words; empty if all is well."""


@dataclass(frozen=True)
class RolloutView:
    """One task of one channel. `decision` and `tally` are None if no bundle is being rolled out; `answered` has the
    share of "cannot tell" with the offered and with the stable bundle."""

    channel: str
    task: str
    plan: TaskPlan
    decision: Decision | None
    tally: Tally | None
    answered: Mapping[str, Share]


@dataclass(frozen=True)
class Fleet:
    """All channels at one time; devices that need a look come first."""

    at: datetime
    rollouts: tuple[RolloutView, ...]
    devices: tuple[DeviceView, ...]
    unreadable: tuple[str, ...]
    """Names of files among the reports that are none."""
    expires: datetime
    """Time at which devices no longer follow the repository unless it is refreshed."""

    @property
    def unwell(self) -> int:
        return sum(bool(one.troubles) for one in self.devices)


@dataclass(frozen=True)
class Repository:
    """The plan of each channel, the time until which devices follow it, and how often each bundle abstained in its own
    evaluation."""

    plans: Mapping[str, Plan]
    expires: datetime
    tested: Mapping[str, Share | None] = field(default_factory=dict)


def fleet_of(
    repository: Repository,
    received: Received,
    expected: Mapping[str, Collection[str]],
    policy: Policy,
    now: datetime,
) -> Fleet:
    """Returns the fleet at `now`. `expected` names the devices of each channel that should have reported."""
    reports = received.reports
    silent = {channel: set(names) - {report.device for report in reports} for channel, names in expected.items()}
    known = _known(reports, silent)
    devices = [_device(seen, repository.plans.get(seen.report.channel), known, now) for seen in received.seen]
    devices += [_silent(name, channel, known[channel]) for channel, names in silent.items() for name in names]
    return Fleet(
        at=now,
        rollouts=tuple(_rollouts(repository, received, policy, now)),
        devices=tuple(sorted(devices, key=lambda one: (not one.troubles, one.channel, one.device))),
        unreadable=tuple(plain(name) for name in received.unreadable),
        expires=repository.expires,
    )


def _known(reports: Sequence[Report], silent: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    known = {channel: set(names) for channel, names in silent.items()}
    for report in reports:
        known.setdefault(report.channel, set()).add(report.device)
    return known


def _rollouts(repository: Repository, received: Received, policy: Policy, now: datetime) -> Iterable[RolloutView]:
    for channel, plan in sorted(repository.plans.items()):
        here = received.of_channel(channel)
        for task, one in sorted(plan.tasks.items()):
            offered = one.candidate
            share = repository.tested.get(offered.bundle) if offered else None
            decision = decide(one, task, here, policy, now, share)
            found = tally(offered, task, here) if offered else None
            yield RolloutView(channel, task, one, decision, found, answered(one, task, here.reports))


def _device(seen: Seen, plan: Plan | None, known: Mapping[str, Collection[str]], now: datetime) -> DeviceView:
    report = seen.report
    tasks = tuple(_task(name, one, report.device, plan) for name, one in sorted(report.tasks.items()))
    return DeviceView(
        device=report.device,
        channel=plain(report.channel),
        ring=_ring(report.device, known[report.channel]),
        version=plain(report.version),
        seen=seen.at,
        free_mib=report.free_mib,
        waiting_mib=report.waiting_mib,
        tasks=tasks,
        troubles=tuple(_troubles(seen, plan, tasks, now)),
    )


def _silent(device: str, channel: str, known: Collection[str]) -> DeviceView:
    return DeviceView(device, channel, _ring(device, known), "", None, None, 0, (), ("It has never reported.",))


def _ring(device: str, known: Collection[str]) -> Ring:
    return next(ring for ring in RINGS if place(device) <= ring_cut(ring, known))


def _task(name: str, report: TaskReport, device: str, plan: Plan | None) -> TaskView:
    target = wanted(plan.tasks[name], place(device)) if plan and name in plan.tasks else None
    bundle, due = plain(report.bundle or ""), target.bundle if target else ""
    behind = report.state == "serving" and due not in ("", bundle)
    stand: Stand = "behind" if behind else report.state
    service = next((one for one in report.service if one.bundle == report.bundle), None)
    return TaskView(plain(name), stand, bundle, due, plain(report.reason), plain(report.last_change), service)


def _troubles(seen: Seen, plan: Plan | None, tasks: Iterable[TaskView], now: datetime) -> Iterable[str]:
    report, unseen_h = seen.report, (now - seen.at).total_seconds() / 3600
    if unseen_h > UNSEEN_H:
        yield f"It has not been seen for {unseen_h:.0f} hours."
    if plan is None:
        yield "Its channel has no plan."
    if abs(report.time - seen.at) > CLOCK_OFF:
        yield f"Its clock showed {report.time:%Y-%m-%d %H:%M} when the report arrived."
    if report.free_mib < LOW_MIB:
        yield f"{report.free_mib} MiB are free."
    yield from (plain(text) for text in (report.clock, report.problem) if text)
    yield from (f"{one.task}: {one.stand}. {one.reason}".strip() for one in tasks if one.stand in STANDS[2:])
