"""Automatic rollback: returns a task to its previous champion when the new one's answers are certainly worse."""

import logging
import time
from collections.abc import Collection, Iterable

from echoplane.adapters.registry import PREVIOUS, Registry
from echoplane.adapters.rollback import roll_back, was_rolled_back
from echoplane.errors import EchoplaneError
from echoplane.monitoring.automatic_rollback import RollbackPolicy, reason_to_roll_back
from echoplane.monitoring.model_monitor import ModelMonitor
from echoplane.monitoring.retraining import MONITOR, now

RETRY_S = 60.0
"""Time in seconds before a rollback that failed is tried again."""

log = logging.getLogger("echoplane.monitor")


class AutomaticRollback:
    """One per installation. The registry is asked only when the log alone says that a model is worse than another."""

    def __init__(self, registry: Registry, policy: RollbackPolicy, tasks: Collection[str]) -> None:
        self._registry, self._policy = registry, policy
        self.done: dict[str, int] = dict.fromkeys(tasks, 0)
        """Number of rollbacks by task, since the process began."""
        self._not_before_s: dict[str, float] = {}

    def step(self, current: Iterable[ModelMonitor], every: Collection[ModelMonitor]) -> None:
        """Rolls back each model of `current` that is worse than the one of `every` that it replaced."""
        for model in current:
            worse_than = {
                other.bundle: reason
                for other in every
                if other.task == model.task and other.bundle != model.bundle
                if (reason := reason_to_roll_back(model, other, self._policy, now()))
            }
            if worse_than and time.monotonic() >= self._not_before_s.get(model.bundle, 0.0):
                self._not_before_s[model.bundle] = time.monotonic() + RETRY_S
                self._decide(model, worse_than)

    def _decide(self, model: ModelMonitor, worse_than: dict[str, str]) -> None:
        try:
            champion = self._registry.champion(model.task)
            previous = self._registry.by_alias(model.task, PREVIOUS)
            if champion is None or previous is None or champion.bundle_id != model.bundle:
                return  # a person has acted already, or this log is of services that follow another registry
            reason = worse_than.get(previous.bundle_id)
            if reason is None or was_rolled_back(champion, by=MONITOR):  # whoever promoted it again has decided
                return
            roll_back(self._registry, model.task, by=MONITOR, reason=reason)
        except EchoplaneError as error:
            log.warning("%s could not be rolled back, it is tried again in %.0f s: %s", model.task, RETRY_S, error)
            return
        self.done[model.task] = self.done.get(model.task, 0) + 1
        log.error("%s: version %s was rolled back to %s. %s", model.task, champion.number, previous.number, reason)
