"""Reports of devices: what devices write, and the publisher reads.

A report is a small JSON object: the present state of one device, without patient, study or answer.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from echoplane.errors import ConfigError

State = Literal["serving", "waiting", "refused", "nothing"]
"""serving the wanted bundle; waiting for it (network, space); refused after a failed check; nothing to serve."""
MAX_MIB = 1 << 40
TEXT_LENGTH = 300
DEVICE_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


LATENCY_MS = tuple(2 ** (step / 4) for step in range(80))
"""Upper bounds in ms of the latency's buckets, from 1 ms to 15 minutes, each 19 % above the one before it."""
Count = Annotated[int, Field(ge=0, le=1 << 53)]


class ServiceCounts(_Frozen):
    """Answers of a device's service with one bundle since the device took it, from the service's prediction log."""

    bundle: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    attempt: int = Field(default=0, ge=0)
    """Number of the roll-out's attempt in which the device took it; 0 if it was stable then."""
    since: AwareDatetime
    answers: Count = 0
    abstained: Count = 0
    """Answers that were "cannot tell"."""
    latency: tuple[Count, ...] = (0,) * (len(LATENCY_MS) + 1)
    """Number of answers by the time from the received file to the answer: buckets of LATENCY_MS, then longer ones."""
    told: Count = 0
    """Answers with a label to which a person gave the label that is right."""
    wrong: Count = 0
    """Those of them whose label the person found wrong."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if len(self.latency) != len(LATENCY_MS) + 1 or sum(self.latency) != self.answers:
            raise ValueError("every answer has one latency")
        if self.abstained > self.answers:
            raise ValueError("more abstentions than answers")
        if self.wrong > self.told:
            raise ValueError("more wrong answers than people spoke of")
        return self

    def quantile_ms(self, share: float) -> float:
        """Returns the time in ms that `share` of the answers took at most, as the upper bound of its bucket; infinite
        beyond the last bound, NaN without answers."""
        passed = 0
        for count, bound_ms in zip(self.latency, (*LATENCY_MS, float("inf")), strict=True):
            passed += count
            if self.answers and passed >= share * self.answers:
                return bound_ms
        return float("nan")

    def slower_than(self, limit_ms: float) -> int:
        """Returns the number of answers that certainly took longer than `limit_ms`: those in buckets above it."""
        return sum(self.latency[bisect_left(LATENCY_MS, limit_ms) + 1 :])


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
    service: tuple[ServiceCounts, ...] = Field(default=(), max_length=2)
    """What the service answered with the present bundle and the one before it."""


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
    """The contents of the store of reports."""

    seen: list[Seen]
    unreadable: list[str]
    """Names of files that are no report of the device that their name says."""

    @property
    def reports(self) -> list[Report]:
        return [one.report for one in self.seen]

    def of_channel(self, channel: str) -> "Received":
        """Returns the reports of one channel, and every unreadable one: it may be of any."""
        return Received([one for one in self.seen if one.report.channel == channel], self.unreadable)


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


def check_device(device: str) -> str:
    """Returns `device`. Raises ConfigError if it cannot be a device's id."""
    if not re.fullmatch(DEVICE_ID, device):
        raise ConfigError("a device's id has up to 63 letters, digits, dots, dashes and underscores.")
    return device


def summary(reports: Sequence[Report], task: str) -> dict[str, int]:
    """Counts the devices by state."""
    counts = dict.fromkeys(("serving", "waiting", "refused", "nothing"), 0)
    for report in reports:
        if task in report.tasks:
            counts[report.tasks[task].state] += 1
    return counts
