"""Turns alerts into retraining runs: at most as many as the policy allows, and only as approved.

Alertmanager's webhook says which alerts fire. An alert that lasts asks for a run; the audit file records the request;
`echoplane retrain approve` approves it; then the trigger starts the retraining command and watches it to its end.
"""

import logging
import shlex
import subprocess
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, BaseModel

from echoplane.monitoring.alerts import RETRAINS
from echoplane.monitoring.retraining import (
    MONITOR,
    AuditFile,
    Event,
    LoopPolicy,
    Request,
    loop_of,
    new_request,
    now,
    why_not_request,
    why_not_start,
)
from echoplane.parent import start, stop

FORGET = timedelta(hours=12)
"""Time after which an alert that Alertmanager no longer repeats counts as resolved."""

log = logging.getLogger("echoplane.monitor")


class Alert(BaseModel):
    """One alert of a notification, as far as it is used."""

    status: str
    labels: dict[str, str]
    startsAt: AwareDatetime


class Notification(BaseModel):
    """Body of Alertmanager's webhook, version 4."""

    version: str
    alerts: list[Alert]


@dataclass(frozen=True)
class Firing:
    name: str
    since: datetime
    heard: datetime


@dataclass
class Run:
    request: str
    task: str
    process: subprocess.Popen[bytes]
    started_s: float = field(default_factory=time.monotonic)


class Trigger:
    """One per installation. `command` retrains a task; empty: nothing is started."""

    def __init__(
        self, folder: Path, policy: LoopPolicy, command: str, timeout_s: float, tasks: Collection[str]
    ) -> None:
        self.audit, self._folder, self._policy = AuditFile(folder), folder, policy
        self._command, self._timeout_s, self._tasks = shlex.split(command), timeout_s, tasks
        self._firing: dict[tuple[str, str], Firing] = {}
        self._lock = threading.Lock()
        self._run: Run | None = None
        self._warned_of: set[str] = set()
        self._end_lost_runs()

    def notify(self, notification: Notification) -> int:
        """Notes which alerts fire and which are resolved; returns the number of alerts that concern retraining."""
        concerned = [one for one in notification.alerts if self._concerns(one)]
        with self._lock:
            for alert in concerned:
                key = (alert.labels["task"], alert.labels["alertname"])
                if alert.status == "firing":
                    self._firing[key] = Firing(alert.labels["alertname"], alert.startsAt, now())
                else:
                    self._firing.pop(key, None)
        return len(concerned)

    def _concerns(self, alert: Alert) -> bool:
        return alert.labels.get("alertname") in RETRAINS and alert.labels.get("task") in self._tasks

    def step(self) -> None:
        """Requests what lasting alerts ask for, starts what is approved, and notes what has ended."""
        self._watch_run()
        for task in sorted({task for task, _ in self._forget_old()}):
            self._request(task)
        if self._run is None:
            self._start_next()

    def _forget_old(self) -> list[tuple[str, str]]:
        with self._lock:
            self._firing = {key: one for key, one in self._firing.items() if now() - one.heard < FORGET}
            return list(self._firing)

    def _request(self, task: str) -> None:
        with self._lock:
            firing = [one for (of, _), one in self._firing.items() if of == task]
        if not firing:
            return
        oldest = min(firing, key=lambda one: one.since)

        def decide(events: list[Event]) -> Event | None:
            loop = loop_of(events, self._policy, now())
            refused = why_not_request(loop, self._policy, task, oldest.since, now())
            return None if refused else new_request(task, oldest.name)

        if event := self.audit.append(decide):
            log.warning("%s asks for retraining of %s: request %s", oldest.name, task, event.request)

    def _start_next(self) -> None:
        loop = loop_of(self.audit.events(), self._policy, now())
        if not self._command:
            for request in loop.with_status("approved"):
                self._warn_of_no_command(request.id)
            return
        for request in [*loop.with_status("approved"), *loop.with_status("waiting")]:
            if not why_not_start(loop, self._policy, request.id, now()) and self._start(request):
                return

    def _warn_of_no_command(self, request_id: str) -> None:
        if request_id not in self._warned_of:
            log.warning("request %s is approved, and nothing starts: ECHOPLANE_RETRAIN_COMMAND is not set", request_id)
            self._warned_of.add(request_id)

    def _start(self, request: Request) -> bool:
        """Records the start under the lock, then starts the command: a run that is not recorded is never started."""

        def decide(events: list[Event]) -> Event | None:
            loop = loop_of(events, self._policy, now())
            if why_not_start(loop, self._policy, request.id, now()):
                return None
            return self._event("started", request, "")

        if self.audit.append(decide) is None:
            return False
        arguments = [one.replace("{task}", request.task) for one in self._command]
        output = self._folder / f"retrain-{request.id}.log"
        try:
            with output.open("wb") as file:
                process = start(arguments, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        except OSError as error:
            self._finish(request.id, request.task, f"the command can't be started: {error.strerror}")
            return True
        self._run = Run(request.id, request.task, process)
        log.warning("retraining of %s started: request %s", request.task, request.id)
        return True

    def _watch_run(self) -> None:
        run = self._run
        if run is None:
            return
        status = run.process.poll()
        if status is not None:
            self._end(run, f"exit status {status}")
        elif time.monotonic() - run.started_s > self._timeout_s:
            stop(run.process)
            self._end(run, f"ended after {self._timeout_s:.0f} s, the time limit")
        elif stopped_by := loop_of(self.audit.events(), self._policy, now()).stopped_by:
            stop(run.process)
            self._end(run, f"ended because {stopped_by} stopped the loop")

    def _end(self, run: Run, outcome: str) -> None:
        self._run = None
        self._finish(run.request, run.task, outcome)

    def _finish(self, request_id: str, task: str, outcome: str) -> None:
        event = Event(time=now(), kind="finished", by=MONITOR, task=task, request=request_id, reason=outcome)
        self.audit.append(lambda _: event)
        log.warning("retraining of %s ended: %s", task, outcome)

    def _end_lost_runs(self) -> None:
        """Notes the end of runs whose monitor was killed; they ended with it."""
        for request in loop_of(self.audit.events(), self._policy, now()).with_status("running"):
            self._finish(request.id, request.task, "the monitor restarted during the run")

    def _event(self, kind: str, request: Request, reason: str) -> Event:
        return Event(time=now(), kind=kind, by=MONITOR, task=request.task, request=request.id, reason=reason)  # type: ignore[arg-type]

    def close(self) -> None:
        """Ends a run that is not finished."""
        if self._run:
            stop(self._run.process)
            self._end(self._run, "the monitor was stopped during the run")
