"""Reports of devices, the view of the fleet, and the policy that halts or widens a roll-out.

A report is a small JSON object: the present state of one device, without patient, study or answer.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.edge.rollout import Candidate, Ring, place
from echoplane.errors import ConfigError

State = Literal["serving", "waiting", "refused", "nothing"]
"""serving the wanted bundle; waiting for it (network, space); refused after a failed check; nothing to serve."""
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
    time: datetime
    """Time by the device's clock."""
    version: str
    """Version of echoplane on the device."""
    tasks: dict[str, TaskReport]
    problem: str = ""
    """Why the plan could not be fetched or was refused; empty if it was accepted."""
    clock: str = ""
    """Fault of the clock; empty if none is known."""
    free_mib: int = Field(ge=0)
    waiting_mib: float = Field(default=0, ge=0)
    """Size of the results that wait to be sent."""


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


def decide(candidate: Candidate, task: str, reports: Iterable[Report], policy: Policy, now: datetime) -> Decision:
    """Returns what to do with the roll-out of `candidate`, from the newest report of each device."""
    ring = [r.tasks[task] for r in reports if task in r.tasks and place(r.device) <= candidate.cut]
    tried = [one for one in ring if (one.wanted, one.attempt) == (candidate.bundle, candidate.attempt)]
    failed = [one for one in tried if one.state == "refused"]
    serving = [one for one in tried if one.state == "serving"]
    counts = f"{len(serving)} of {len(ring)} devices serve it, {len(failed)} refused it"
    if candidate.halted:
        return Decision(action="wait", reason=f"halted: {candidate.halted}")
    if failed and len(failed) / (len(failed) + len(serving)) > policy.max_failed_share:
        return Decision(action="halt", reason=f"{counts}; the first reason: {failed[0].reason}")
    if not ring or len(serving) / len(ring) < policy.min_serving_share:
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
