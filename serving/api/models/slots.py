"""Model slots: one per task, with the model that answers now.

A new model is read, checked, warmed up and swapped in between two requests; the old one is closed when its last request
is done. If anything fails, the old one keeps answering and `Slot.problem` states the reason.
"""

import contextlib
import gc
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from echoplane import bundle as bundles
from echoplane import runtimes
from echoplane.bundle.bundle import GOLDEN_SEED
from echoplane.errors import BundleError, EchoplaneError, RegistryUnavailable
from echoplane.monitoring import metrics
from echoplane.runtimes import OpenModel
from echoplane.tasks.label_shares import LabelShares
from serving.api.failures import log_failure
from serving.api.models.sources import ModelVersion, Source

if TYPE_CHECKING:
    from serving.api.models.shadow import Shadow

log = logging.getLogger("echoplane.serving")

RETRY_S = 60
"""Time after which a refused model is tried again: a folder may have been half copied."""


class NoModel(EchoplaneError):
    """Raised if no model of `task` is loaded yet."""

    def __init__(self, task: str) -> None:
        super().__init__(f"no model of {task} is loaded yet.")
        self.task = task


@dataclass(frozen=True)
class Model(OpenModel):
    """Serving model and its version."""

    version: str

    @cached_property
    def labels(self) -> metrics.ModelLabels:
        task = self.bundle.spec.task
        used = self.runtime.settings
        return metrics.ModelLabels(task, self.version, self.bundle.id[:12], used.runtime, used.precision)


class _LoadedModel:
    """Model with the number of requests that use it."""

    def __init__(self, model: Model) -> None:
        self.model, self.users, self.retired = model, 0, False


class Slot:
    """Model of one task. `refresh` is called by one thread, `lease` by many."""

    def __init__(
        self, task: str, source: Source, overrides: Mapping[str, Any], label_shares: LabelShares | None = None
    ) -> None:
        self.task, self.source = task, source
        self.problem: str | None = "no model was looked for yet"
        self._overrides, self._label_shares, self._key = overrides, label_shares, ""
        self._held: _LoadedModel | None = None
        self._refused, self._refused_until_s = "", 0.0
        self._lock = threading.Lock()
        self.shadow: Shadow | None = None
        metrics.SLOT_READY.labels(task).set(0)
        metrics.SLOT_STALE.labels(task).set(0)

    @property
    def model(self) -> Model | None:
        """Returns the model that answers now, for description only; a request takes a lease."""
        held = self._held
        return held.model if held else None

    @property
    def stale(self) -> bool:
        """Returns True if the latest model was refused or cannot be fetched, and an older one answers."""
        return self.problem is not None and self._held is not None

    @contextlib.contextmanager
    def lease(self) -> Iterator[Model]:
        """Yields the model that answers now, which stays open until the lease ends. Raises NoModel if there is none."""
        with self._lock:
            held = self._held
            if held is None:
                raise NoModel(self.task)
            held.users += 1
        try:
            yield held.model
        finally:
            self._give_back(held)

    def refresh(self) -> None:
        """Looks for another model and takes it if it passes; never raises."""
        try:
            candidate = self.source.latest()
            if candidate.key == self._refused and time.monotonic() < self._refused_until_s:
                return
            if candidate.key != self._key:
                self._refused, self._refused_until_s = candidate.key, time.monotonic() + RETRY_S
                self._swap(load(self.task, candidate, self._overrides, self._label_shares), candidate.key)
                self.source.keep(candidate)
            self._refused = ""
            self._note(None)
        except RegistryUnavailable as error:
            self._note(str(error))
            self._start_from_last_good()
        except EchoplaneError as error:
            self._note(str(error))
        except Exception as error:  # a registry or a runtime may raise anything; the old model must stay
            log_failure(f"slot {self.task}", error)
            self._note(f"{type(error).__name__} while looking for a model; the log has more.")

    def _start_from_last_good(self) -> None:
        """Loads the kept copy if the service started while the registry is unavailable; never raises."""
        if self._held is not None:
            return
        try:
            kept = self.source.last_good()
            if kept:
                self._swap(load(self.task, kept, self._overrides, self._label_shares), kept.key)
                self._note(f"{self.problem} The last good model answers from its local copy.")
        except Exception as error:  # a damaged copy is treated as absent
            log_failure(f"slot {self.task}: the local copy", error)

    def close(self) -> None:
        with self._lock:
            held, self._held = self._held, None
        if held:
            self._retire(held)

    def _swap(self, model: Model, key: str) -> None:
        with self._lock:
            old, self._held, self._key = self._held, _LoadedModel(model), key
        log.info("slot %s: version %s, bundle %s", self.task, model.version, model.bundle.id[:12])
        if old:
            self._retire(old)
        metrics.model_in_service(model.labels, serving=True)
        metrics.SLOT_READY.labels(self.task).set(1)
        metrics.MODEL_LOADS.labels(self.task, "loaded").inc()
        settle_memory()

    def _retire(self, held: _LoadedModel) -> None:
        with self._lock:
            held.retired = True
            idle = held.users == 0
        metrics.model_in_service(held.model.labels, serving=False)
        if idle:
            held.model.runtime.close()

    def _give_back(self, held: _LoadedModel) -> None:
        with self._lock:
            held.users -= 1
            last = held.retired and held.users == 0
        if last:
            held.model.runtime.close()

    def _note(self, problem: str | None) -> None:
        if problem and problem != self.problem:
            log.error("slot %s: %s", self.task, problem)
        if problem:
            metrics.MODEL_LOADS.labels(self.task, "refused").inc()
        self.problem = problem
        metrics.SLOT_STALE.labels(self.task).set(int(self.stale))


def load(
    task: str, candidate: ModelVersion, overrides: Mapping[str, Any], label_shares: LabelShares | None = None
) -> Model:
    """Loads `candidate`, checked and warmed up. Raises BundleError or ConfigError if it may not answer."""
    with candidate.folder() as folder:
        bundle = bundles.read(folder)
        if bundle.spec.task != task:
            raise BundleError(f"the bundle is of task {bundle.spec.task}, not {task}.")
        named = {name: value for name, value in overrides.items() if name != "order"}
        evaluated = candidate.evaluated.overridden(**named)
        model = runtimes.open_in_order(bundle, evaluated, overrides.get("order", ()))
        try:
            model = runtimes.declared(model, label_shares)
            runtimes.answer(bundle.task.example(GOLDEN_SEED), model)
        except BaseException:
            model.runtime.close()
            raise
    version = candidate.version or bundle.id[:12]
    return Model(bundle, model.runtime, version, fallback=model.fallback, label_shares=model.label_shares)


def settle_memory() -> None:
    """Excludes what is loaded from later garbage collections, whose pauses would lengthen the slowest responses."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class Refreshable(Protocol):
    def refresh(self) -> None:
        """Looks for another model; never raises."""
        ...


class ModelRefresher:
    """Thread that refreshes the slots and their challengers."""

    def __init__(self, slots: Sequence[Refreshable], poll_s: float) -> None:
        self._slots, self._poll_s, self._stop = slots, poll_s, threading.Event()
        self._thread = threading.Thread(target=self._follow, name="model-refresher", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._stop.is_set():
            for slot in self._slots:
                slot.refresh()
            self._stop.wait(self._poll_s)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
