"""The retraining loop's decisions: who asked for a run, who approved it, and what keeps the loop from running away.

Every event is one line of an append-only audit file. The state is what the events add up to, so that a process that
restarts, and a person at the command line, decide on the same facts. All decisions are made under one file lock.
"""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.errors import ConfigError

AUDIT = "retraining.jsonl"
MONITOR = "monitor"
"""Name under which the monitor acts by itself."""
WEEK = timedelta(days=7)
SUCCESS = "exit status 0"
"""Outcome of a run that ended well."""

Kind = Literal["requested", "approved", "rejected", "started", "finished", "stopped", "resumed"]
Status = Literal["waiting", "approved", "rejected", "running", "finished", "expired"]


class LoopPolicy(BaseModel):
    """Limits of the retraining loop."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    debounce_s: float = Field(default=900, ge=0)
    """Time in seconds that an alert must last before it asks for a run."""
    runs_per_week: int = Field(default=2, ge=0)
    """Maximum number of runs started within 7 days, over all tasks."""
    cool_down_s: float = Field(default=86_400, ge=0)
    """Time in seconds after the end of a task's run, or its rejection, during which alerts ask for no other."""
    request_expires_s: float = Field(default=7 * 86_400, gt=0)
    """Time in seconds after which a request that has not led to a run is dropped."""
    approval: Literal["person", "automatic"] = "person"
    """`person`: a named person approves each run. `automatic`: the monitor starts it within the limits above."""


class Event(BaseModel):
    """One line of the audit file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    time: datetime
    kind: Kind
    by: str = Field(min_length=1, max_length=100)
    """Person who decided, or "monitor"."""
    user: str = ""
    """Account of the process that wrote the line."""
    task: str = ""
    request: str = ""
    """Id of the request; empty for `stopped` and `resumed`."""
    reason: str = Field(default="", max_length=500)
    """Alert, reason given by the person, or outcome of the run. It names no patient."""


class Request(BaseModel):
    """One request for a run, as its events leave it."""

    id: str
    task: str
    reason: str
    status: Status
    requested: datetime
    decided_by: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    outcome: str = ""


class Loop(BaseModel):
    """State of the loop."""

    stopped_by: str = ""
    requests: dict[str, Request] = {}

    def open_request(self, task: str) -> Request | None:
        """Returns the task's request that is not ended, or None."""
        unfinished = ("waiting", "approved", "running")
        return next((one for one in self.requests.values() if one.task == task and one.status in unfinished), None)

    def with_status(self, status: Status) -> list[Request]:
        return [one for one in self.requests.values() if one.status == status]

    def runs_left(self, policy: LoopPolicy, now: datetime) -> int:
        recent = [one for one in self.requests.values() if one.started and now - one.started < WEEK]
        return max(0, policy.runs_per_week - len(recent))


def loop_of(events: Sequence[Event], policy: LoopPolicy, now: datetime) -> Loop:
    """Returns the state that `events` add up to."""
    loop = Loop()
    for event in events:
        _apply(loop, event)
    for one in [*loop.with_status("waiting"), *loop.with_status("approved")]:
        if (now - one.requested).total_seconds() > policy.request_expires_s:
            one.status = "expired"
    return loop


def _apply(loop: Loop, event: Event) -> None:
    if event.kind in ("stopped", "resumed"):
        loop.stopped_by = event.by if event.kind == "stopped" else ""
    elif event.kind == "requested":
        loop.requests[event.request] = Request(
            id=event.request, task=event.task, reason=event.reason, status="waiting", requested=event.time
        )
    elif one := loop.requests.get(event.request):
        if event.kind in ("approved", "rejected"):
            one.status, one.decided_by = event.kind, event.by
        elif event.kind == "started":
            one.status, one.started = "running", event.time
        else:
            one.status, one.outcome = "finished", event.reason
        one.ended = event.time if event.kind in ("rejected", "finished") else None


def why_not_request(loop: Loop, policy: LoopPolicy, task: str, firing_since: datetime, now: datetime) -> str:
    """Returns why an alert of `task` must not ask for a run now; empty if it may."""
    if loop.stopped_by:
        return f"the loop was stopped by {loop.stopped_by}"
    if (now - firing_since).total_seconds() < policy.debounce_s:
        return "the alert has not lasted long enough"
    if loop.open_request(task):
        return "a request of this task is open"
    ended = [one.ended for one in loop.requests.values() if one.task == task and one.ended]
    if ended and (now - max(ended)).total_seconds() < policy.cool_down_s:
        return "the task's cool-down has not passed"
    return "" if loop.runs_left(policy, now) else "the week's runs are used up"


def why_not_start(loop: Loop, policy: LoopPolicy, request_id: str, now: datetime) -> str:
    """Returns why a request must not start its run now; empty if it may."""
    request = loop.requests.get(request_id)
    if request is None:
        return "there is no such request"
    if loop.stopped_by:
        return f"the loop was stopped by {loop.stopped_by}"
    allowed = ("approved",) if policy.approval == "person" else ("approved", "waiting")
    if request.status not in allowed:
        return f"the request is {request.status}"
    if loop.with_status("running"):
        return "another run has not ended"
    return "" if loop.runs_left(policy, now) else "the week's runs are used up"


def decision(events: Sequence[Event], kind: Kind, request_id: str, *, by: str, user: str, reason: str) -> Event:
    """Returns a person's decision as an event. Raises ConfigError if it does not concern a request that waits."""
    if kind in ("stopped", "resumed"):
        return Event(time=now(), kind=kind, by=by, user=user, reason=reason)
    request = loop_of(events, LoopPolicy(), now()).requests.get(request_id)
    if request is None:
        raise ConfigError(f"there is no request {request_id or 'without an id'}; see `echoplane retrain list`.")
    if request.status != "waiting":
        raise ConfigError(f"request {request_id} is {request.status}; only one that waits can be decided.")
    return Event(time=now(), kind=kind, by=by, user=user, task=request.task, request=request_id, reason=reason)


class AuditFile:
    """Append-only file of events below `folder`. Raises ConfigError if a line of it cannot be read: then nothing is
    decided."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / AUDIT

    def events(self) -> list[Event]:
        with self._locked() as file:
            return _read(file)

    def append(self, decide: Callable[[list[Event]], Event | None]) -> Event | None:
        """Appends what `decide` returns for the events so far, if not None. Nobody appends in between."""
        with self._locked() as file:
            event = decide(_read(file))
            if event is not None:
                os.lseek(file, 0, os.SEEK_END)
                os.write(file, event.model_dump_json().encode() + b"\n")
                os.fsync(file)
        return event

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)


def _read(file: int) -> list[Event]:
    """Returns the events; a last line that its process did not finish is cut off."""
    content = os.pread(file, os.fstat(file).st_size, 0)
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.ftruncate(file, len(whole))
    try:
        return [Event.model_validate_json(line) for line in whole.splitlines()]
    except ValidationError:
        raise ConfigError(f"{AUDIT} has a line that is no event; restore the file, then start again.") from None


def new_request(task: str, reason: str) -> Event:
    return Event(time=now(), kind="requested", by=MONITOR, task=task, request=secrets.token_hex(4), reason=reason)


def now() -> datetime:
    return datetime.now(UTC)
