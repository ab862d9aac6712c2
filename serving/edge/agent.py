"""One cycle of the agent: plan, download, check, swap or return, report. If it fails, what serves stays as it is."""

import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from echoplane import __version__
from echoplane.bundle.spec import FILES
from echoplane.edge.fleet import Report, TaskReport
from echoplane.edge.rollout import Plan, Wanted, place, wanted
from echoplane.errors import ConfigError, EchoplaneError, explained
from serving.edge.check import Refused, check
from serving.edge.feedback_counts import forget, remember, told
from serving.edge.identity import root_path
from serving.edge.service_log import added, new_rows, started, with_feedback
from serving.edge.settings import EdgeSettings, bearer
from serving.edge.slots import Slots
from serving.edge.state import Refusal, device_id, read_state, write_state
from serving.edge.trust import CLOCK_SLACK, Trust, View

log = logging.getLogger("echoplane.edge")

Check = Callable[[str, Path], None]
LOOK_S = 0.5
"""Interval in seconds at which the service is asked whether it has taken a bundle."""


@dataclass(frozen=True)
class Task:
    """One task in a cycle: its name, the bundle that the plan wants, and the files that verified metadata lists."""

    name: str
    wanted: Wanted
    view: View


class Agent:
    """The agent of one device. `check` raises Refused if a bundle may not serve; `clock` gives the present time."""

    def __init__(
        self,
        settings: EdgeSettings,
        client: httpx.Client,
        check_bundle: Check | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings, self._client, self._clock = settings, client, clock
        self._check = check_bundle or (lambda task, folder: check(task, folder, settings.check_timeout_s))
        settings.folder.mkdir(parents=True, exist_ok=True)
        self.device = device_id(settings.folder, settings.device)
        self.slots = Slots(settings.folder, settings.reserve_mib)
        self.state = read_state(settings.folder)
        root = _root(settings)
        self._trust = Trust(settings.folder / "metadata", settings.repository_url, root, client)
        self._answers = settings.folder / "answers.sqlite"
        self._tasks = [task.strip() for task in settings.tasks.split(",") if task.strip()]

    def cycle(self) -> Report:
        """Follows the plan once and returns the report; never raises."""
        clock, begun = self._clock_problem(), self._clock()
        problem, tasks = "", {}
        try:
            plan, view = self._trust.plan(self.settings.channel, self.state.newest_time)
            self.slots.collect(self._mine(plan))
            tasks = {name: self._follow(name, plan, view) for name in self._tasks}
            for name, one in tasks.items():
                self._start_counting(name, one, begun)
            self.slots.collect(self._mine(plan))
        except Exception as error:  # the device must go on whatever the network or the disk does
            problem = explained(error)
            log.warning("%s", problem)
        self._count()
        self._remember()
        tasks = {name: self._with_counts(name, tasks.get(name)) for name in self._tasks}
        return Report(
            device=self.device,
            channel=self.settings.channel,
            time=self._clock(),
            version=__version__,
            tasks=tasks,
            problem=problem,
            clock=clock,
            free_mib=self.slots.free_mib(),
        )

    def _with_counts(self, name: str, report: TaskReport | None) -> TaskReport:
        """Returns the report of a task with the counts of its service; without one, that of a task without a plan."""
        counts = tuple(self.state.service.get(name, {}).values())
        return (report or self._report(name, None)).model_copy(update={"service": counts})

    def _mine(self, plan: Plan) -> set[str]:
        """Returns the bundles that the plan names for this device."""
        here = place(self.device)
        found = (wanted(plan.tasks[task], here) for task in self._tasks if task in plan.tasks)
        return {one.bundle for one in found if one}

    def _follow(self, name: str, plan: Plan, view: View) -> TaskReport:
        task_plan = plan.tasks.get(name)
        target = wanted(task_plan, place(self.device)) if task_plan else None
        if target is None:
            return self._report(name, None)
        refusal = self.state.refusals.get(name)
        if refusal and (refusal.bundle, refusal.attempt) == (target.bundle, target.attempt):
            return self._report(name, target, "refused", refusal.reason)
        if self.slots.current(name) == target.bundle:
            return self._report(name, target)
        try:
            self._take(Task(name, target, view))
        except Refused as error:
            refused = Refusal(bundle=target.bundle, attempt=target.attempt, reason=str(error))
            self._update(refusals=self.state.refusals | {name: refused})
            log.warning("task %s: bundle %s refused: %s", name, target.bundle[:12], error)
            return self._report(name, target, "refused", str(error))
        except (EchoplaneError, OSError) as error:
            log.warning("task %s: bundle %s waits: %s", name, target.bundle[:12], explained(error))
            return self._report(name, target, "waiting", explained(error))
        return self._report(name, target)

    def _start_counting(self, name: str, report: TaskReport, begun: datetime) -> None:
        """Begins the counts of what the service answers with a bundle that it has taken since `begun`."""
        if report.bundle is None or self.settings.prediction_log is None:
            return
        attempt = report.attempt if report.wanted == report.bundle else 0
        kept = {report.bundle, self.slots.previous(name)}
        counts = started(self.state.service.get(name, {}), report.bundle, attempt, kept, begun)
        self._update(service=self.state.service | {name: counts})
        if counts[report.bundle].since == begun:
            every = {bundle for known in self.state.service.values() for bundle in known}
            self._guarded(lambda: forget(self._answers, report.bundle or "", every))

    def _count(self) -> None:
        """Adds what the service has answered since the last cycle, and what people said of it."""
        folder = self.settings.prediction_log
        if folder is None:
            return
        self._guarded(lambda: self._count_rows(folder))
        self._guarded(lambda: self._count_feedback(folder))

    def _count_rows(self, folder: Path) -> None:
        for rows, counted in new_rows(folder, self.state.counted):
            service = {name: added(counts, rows) for name, counts in self.state.service.items()}
            since = {bundle: one.since for counts in service.values() for bundle, one in counts.items()}
            remember(self._answers, [row for row in rows if row.bundle in since and row.time >= since[row.bundle]])
            self.state = self.state.model_copy(update={"service": service, "counted": counted})

    def _count_feedback(self, folder: Path) -> None:
        found = told(self._answers, folder)
        service = {name: with_feedback(counts, found) for name, counts in self.state.service.items()}
        self.state = self.state.model_copy(update={"service": service})

    def _guarded(self, count: Callable[[], None]) -> None:
        try:
            count()
        except (OSError, sqlite3.Error) as error:
            log.warning("answers are not counted: %s", explained(error))

    def _take(self, task: Task) -> None:
        """Makes the wanted bundle serve. Raises Refused if it fails here; the one before it then serves on."""
        bundle, before = task.wanted.bundle, self.slots.current(task.name)
        files = task.view.files(bundle, FILES)
        folder = self.slots.ensure(files, self.settings.repository_url, self._client)
        try:
            self._check(task.name, folder)
        except Refused:
            self.slots.remove(bundle)
            raise
        self.slots.swap(task.name, bundle)
        problem = self._service_problem(task.name, bundle)
        if problem and before:
            self.slots.swap(task.name, before)
            self._changed(task.name, bundle, before, problem)
            raise Refused(problem)
        self._changed(task.name, before, bundle, task.wanted.reason)

    def _service_problem(self, task: str, bundle: str) -> str:
        """Returns why the service did not take `bundle` in time; empty if it did, or if no service is configured."""
        if not self.settings.service_url:
            return ""
        deadline_s, problem = time.monotonic() + self.settings.take_s, ""
        while time.monotonic() < deadline_s:
            problem = self._asked(task, bundle)
            if not problem:
                return ""
            time.sleep(LOOK_S)
        return f"the service did not take the bundle within {self.settings.take_s:g} s: {problem}"

    def _asked(self, task: str, bundle: str) -> str:
        """Returns why the service does not serve `bundle` yet, as it says itself; empty if it does."""
        try:
            url = f"{self.settings.service_url.rstrip('/')}/v1/models"
            found: Any = httpx.get(url, headers=bearer(self.settings.service_token_file), trust_env=False).json()
            slot = next(one for one in found["models"] if one["task"] == task)
            served = slot["model"]["bundle"] if slot["model"] else None
        except (httpx.HTTPError, ValueError, KeyError, TypeError, StopIteration) as error:
            return f"it does not answer ({type(error).__name__})."
        return "" if served == bundle else str(slot["problem"] or "it serves another bundle.")

    def _report(self, name: str, target: Wanted | None, state: Any = "serving", reason: str = "") -> TaskReport:
        current = self.slots.current(name)
        return TaskReport(
            state=state if current or state != "serving" else "nothing",
            bundle=current,
            wanted=target.bundle if target else None,
            attempt=target.attempt if target else 0,
            reason=reason,
            last_change=self.state.changes.get(name, ""),
        )

    def _changed(self, task: str, before: str | None, after: str, reason: str) -> None:
        change = f"{before[:12] if before else 'nothing'} to {after[:12]}: {reason}"
        log.info("task %s: %s", task, change)
        self._update(changes=self.state.changes | {task: change})

    def _clock_problem(self) -> str:
        newest = self.state.newest_time
        if newest and self._clock() < newest - CLOCK_SLACK:
            return (
                f"the clock shows {self._clock():%Y-%m-%d}, earlier than {newest:%Y-%m-%d}, which it has shown before."
            )
        return ""

    def _remember(self) -> None:
        newest = max(filter(None, (self.state.newest_time, self._clock())))
        self._update(newest_time=newest)

    def _update(self, **changed: Any) -> None:
        self.state = self.state.model_copy(update=changed)
        try:
            write_state(self.settings.folder, self.state)
        except OSError as error:  # a full disk: the state in memory goes on
            log.warning("the state is not written: %s", explained(error))

    def record_sent(self, sent: dict[str, int]) -> None:
        """Keeps how many bytes of each spooled file were sent."""
        self._update(sent=sent)


def _root(settings: EdgeSettings) -> bytes:
    """Returns the root metadata. Raises ConfigError if the device has none yet."""
    try:
        return root_path(settings).read_bytes()
    except OSError:
        raise ConfigError("the device has no root metadata: set ECHOPLANE_EDGE_ROOT_FILE, or invite it.") from None
