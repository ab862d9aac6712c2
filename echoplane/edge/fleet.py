"""Reports of devices, and the policy that halts or widens a roll-out.

A report is a small JSON object: the present state of one device, without patient, study or answer.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from echoplane.edge.rollout import Candidate, Ring, place
from echoplane.errors import ConfigError

State = Literal["serving", "waiting", "refused", "nothing"]
"""serving the wanted bundle; waiting for it (network, space); refused after a failed check; nothing to serve."""
MAX_MIB = 1 << 40
TEXT_LENGTH = 300
DEVICE_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TaskReport(_Frozen):
    """State of one task on one device."""

    state: State
    bundle: str | None = None
    """Id of the bundle that serves."""
    wanted: str | None = None
    """Id of the bundle that the plan names for the device."""
    attempt: int = 0
    """Number of the attempt at `wanted`."""
    reason: str = ""
    """Why it does not serve what it should; empty if it does."""
    last_change: str = ""
    """The last change of bundle and its reason."""


class Report(_Frozen):
    """State of one device."""

    schema_version: Literal[1] = 1
    device: Annotated[str, Field(pattern=DEVICE_ID)]
    channel: str
    time: AwareDatetime
    """Time by the device's clock."""
    version: str
    """Version of echoplane on the device."""
    tasks: dict[str, TaskReport]
    problem: str = ""
    """Why the plan could not be fetched or was refused; empty if it was accepted."""
    clock: str = ""
    """Fault of the clock; empty if none is known."""
    free_mib: int = Field(ge=0, le=MAX_MIB)
    waiting_mib: float = Field(default=0, ge=0, le=MAX_MIB, allow_inf_nan=False)
    """Size of the results that wait to be sent."""


@dataclass(frozen=True)
class Seen:
    """A report, and the time at which it arrived by the store's clock: the device's own clock may be wrong."""

    report: Report
    at: datetime


@dataclass(frozen=True)
class Received:
    """What lies in the store of reports."""

    seen: list[Seen]
    unreadable: list[str]
    """Names of files that are no report of the device that their name says."""

    @property
    def reports(self) -> list[Report]:
        return [one.report for one in self.seen]


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


class Policy(_Frozen):
    """Limits of a roll-out."""

    max_failed_share: float = Field(default=0.1, ge=0, lt=1)
    """Halt if a larger share of the ring's devices that tried the bundle refused it."""
    min_serving_share: float = Field(default=0.9, gt=0, le=1)
    """Widen only if at least this share of the ring's known devices serves the bundle."""
    soak_h: float = Field(default=24, ge=0)
    """Widen only after this many hours in a ring."""


class Decision(_Frozen):
    """Decision of the policy on a roll-out as it stands."""

    action: Literal["halt", "widen", "wait", "done"]
    ring: Ring | None = None
    """Ring to open, for `widen`."""
    reason: str


def read_report(content: bytes) -> Report | None:
    """Reads a report; None if it is none, since anybody who reaches the store may have written it."""
    try:
        return Report.model_validate_json(content)
    except ValidationError:
        return None


def plain(text: str) -> str:
    """Returns a device's text on one line, without characters that change what stands around it, and not too long."""
    shown = "".join(one if one.isprintable() else " " for one in text[: TEXT_LENGTH + 1])
    return shown if len(shown) <= TEXT_LENGTH else f"{shown[:TEXT_LENGTH]} ..."


def tally(candidate: Candidate, task: str, reports: Iterable[Report]) -> Tally:
    """Counts the devices of the candidate's ring, from the newest report of each device."""
    ring = [r.tasks[task] for r in reports if task in r.tasks and place(r.device) <= candidate.cut]
    tried = [one for one in ring if (one.wanted, one.attempt) == (candidate.bundle, candidate.attempt)]
    refused = [one for one in tried if one.state == "refused"]
    serving = sum(one.state == "serving" and one.bundle == candidate.bundle for one in tried)
    return Tally(len(ring), serving, len(refused), plain(refused[0].reason) if refused else "")


def decide(candidate: Candidate, task: str, reports: Iterable[Report], policy: Policy, now: datetime) -> Decision:
    """Returns what to do with the roll-out of `candidate`, from the newest report of each device."""
    found = tally(candidate, task, reports)
    counts = f"{found.serving} of {found.ring} devices serve it, {found.refused} refused it"
    if candidate.halted:
        return Decision(action="wait", reason=f"halted: {candidate.halted}")
    if found.refused and found.refused_share > policy.max_failed_share:
        return Decision(action="halt", reason=f"{counts}; the first reason: {found.reason}")
    if not found.ring or found.serving / found.ring < policy.min_serving_share:
        return Decision(action="wait", reason=counts)
    if candidate.ring == "all":
        return Decision(action="done", reason=counts)
    soaked_h = (now - candidate.since).total_seconds() / 3600
    if soaked_h < policy.soak_h:
        return Decision(action="wait", reason=f"{counts}, for {soaked_h:.1f} h of {policy.soak_h:g}")
    return Decision(action="widen", ring="tenth" if candidate.ring == "first" else "all", reason=counts)


def check_device(device: str) -> str:
    """Returns `device`. Raises ConfigError if it cannot be a device's id."""
    if not re.match(DEVICE_ID, device):
        raise ConfigError("a device's id has up to 63 letters, digits, dots, dashes and underscores.")
    return device


def summary(reports: Sequence[Report], task: str) -> dict[str, int]:
    """Counts the devices by state."""
    counts = dict.fromkeys(("serving", "waiting", "refused", "nothing"), 0)
    for report in reports:
        if task in report.tasks:
            counts[report.tasks[task].state] += 1
    return counts
