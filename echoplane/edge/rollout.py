"""The signed plan of a channel: which bundle each device should serve, by rings.

A device's place is the first 16 digits of the SHA-256 of its id. A ring is all places up to a cut, so that each ring
contains the one before it, a device knows its ring without a list of devices, and no device is named in the plan.
"""

import hashlib
import math
from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.errors import BundleError, ConfigError

Ring = Literal["first", "tenth", "all"]
RINGS: tuple[Ring, ...] = ("first", "tenth", "all")
"""One device, 10 % of the devices, all devices."""
PLACE_DIGITS = 16
ALL = "f" * PLACE_DIGITS
BundleId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
"""Name of a channel or a task: it becomes part of a path."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Candidate(_Frozen):
    """A bundle that is being rolled out."""

    bundle: BundleId
    ring: Ring
    cut: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    """Largest place that belongs to the ring."""
    since: datetime
    """Time at which the ring was opened."""
    attempt: int = Field(default=1, ge=1)
    """Number of the attempt; a device tries a bundle that it refused again only in a new attempt."""
    halted: str = ""
    """Reason for which the roll-out is halted; empty if it is not."""


class TaskPlan(_Frozen):
    """The bundle that every device may serve, and the one that is being rolled out."""

    stable: BundleId | None = None
    candidate: Candidate | None = None


class Plan(_Frozen):
    """The plan of one channel."""

    schema_version: Literal[1] = 1
    channel: Name
    tasks: dict[Name, TaskPlan] = {}

    def bundles(self) -> set[str]:
        """Returns every bundle that a device may serve under this plan."""
        plans = self.tasks.values()
        return {plan.stable for plan in plans if plan.stable} | {p.candidate.bundle for p in plans if p.candidate}


class Wanted(_Frozen):
    """The bundle that one device should serve now."""

    bundle: BundleId
    attempt: int = 0
    """Number of the attempt; 0 for a stable bundle."""
    reason: str
    """Why the device should serve it."""


def place(device: str) -> str:
    """Returns the place of a device: 16 hexadecimal digits, uniform over devices."""
    return hashlib.sha256(device.encode()).hexdigest()[:PLACE_DIGITS]


def ring_cut(ring: Ring, devices: Collection[str]) -> str:
    """Returns the cut of `ring` among the known `devices`. Raises ConfigError if none is known."""
    if ring == "all":
        return ALL
    places = sorted(map(place, devices))
    if not places:
        raise ConfigError("no device has reported yet, so no ring can be cut; name devices, or publish to ring all.")
    return places[0 if ring == "first" else math.ceil(len(places) / 10) - 1]


def wanted(plan: TaskPlan, device_place: str) -> Wanted | None:
    """Returns what a device at `device_place` should serve; None if the plan has nothing for it."""
    candidate = plan.candidate
    if candidate and not candidate.halted and device_place <= candidate.cut:
        return Wanted(bundle=candidate.bundle, attempt=candidate.attempt, reason=f"ring {candidate.ring}")
    if plan.stable is None:
        return None
    reason = f"the roll-out was halted: {candidate.halted}" if candidate and candidate.halted else "the stable bundle"
    return Wanted(bundle=plan.stable, reason=reason)


def read_plan(content: bytes) -> Plan:
    """Reads a plan. Raises BundleError if this version does not know its schema."""
    try:
        return Plan.model_validate_json(content)
    except ValidationError:
        raise BundleError("the plan of the channel has a schema that this version does not know; update it.") from None
