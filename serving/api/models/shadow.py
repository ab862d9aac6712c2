"""Shadow traffic: a task's challenger answers a share of the studies after the champion has; agreement is counted.

It never delays an answer: a study is offered without waiting, and dropped if the short queue is full. One thread of the
lowest priority answers, and rests after each study so that it takes at most `share` of one core's time.
"""

import io
import logging
import os
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from echoplane import runtimes
from echoplane.errors import EchoplaneError
from echoplane.monitoring import metrics
from echoplane.tasks.label_shares import LabelShares
from serving.api.decoding.deadline import Deadline
from serving.api.decoding.pool import Decoders
from serving.api.failures import log_failure
from serving.api.models.slots import Model, load
from serving.api.models.sources import NoVersion, RegistrySource

log = logging.getLogger("echoplane.serving")

MAX_WAITING = 2
MAX_STUDY_BYTES = 32 << 20
"""Maximum size of a file that is kept for the challenger: together with MAX_WAITING, this bounds its memory."""
LOWEST_PRIORITY = 19
DEADLINE_S = 30.0
"""Time to read one study."""


@dataclass(frozen=True)
class _Offer:
    content: bytes
    label: str | None
    """Label of the champion; None is "cannot tell"."""


class Shadow:
    """Challenger of one task."""

    def __init__(
        self,
        task: str,
        source: RegistrySource,
        overrides: Mapping[str, Any],
        share: float,
        label_shares: LabelShares | None = None,
    ) -> None:
        self.task, self._source, self._overrides, self._share = task, source, overrides, share
        self._label_shares = label_shares
        self._key, self._problem = "", ""
        self._model: Model | None = None
        self._decoders = Decoders(1, MAX_STUDY_BYTES)  # of its own, so that the champion never waits for one
        self._waiting: queue.Queue[_Offer] = queue.Queue(MAX_WAITING)
        self._in_use, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._answer_all, name=f"shadow-{task}", daemon=True)
        self._thread.start()

    @property
    def model(self) -> Model | None:
        return self._model

    def offer(self, file: BinaryIO, label: str | None) -> None:
        """Queues a study for the challenger, or drops it; never waits."""
        model = self._model
        if model is None:
            return
        try:
            if self._waiting.full() or file.seek(0, os.SEEK_END) > MAX_STUDY_BYTES:
                raise queue.Full
            file.seek(0)
            self._waiting.put_nowait(_Offer(file.read(), label))
        except queue.Full:
            metrics.SHADOW.labels(self.task, model.version, "dropped").inc()

    def refresh(self) -> None:
        """Follows the alias; a challenger that is refused is logged once, and the service keeps answering."""
        try:
            candidate = self._source.latest()
            if candidate.key != self._key:
                self._key = candidate.key
                self._swap(load(self.task, candidate, self._overrides, self._label_shares))
                self._source.keep(candidate)
            self._problem = ""
        except NoVersion:
            self._key = ""
            self._swap(None)
        except EchoplaneError as error:
            if str(error) != self._problem:
                log.warning("challenger of %s: %s", self.task, error)
            self._problem = str(error)
        except Exception as error:  # a runtime may raise anything
            log_failure(f"challenger of {self.task}", error)

    def close(self) -> None:
        self._stop.set()
        with self._in_use:
            self._close_model()
            self._decoders.close()

    def _swap(self, model: Model | None) -> None:
        with self._in_use:
            self._close_model()
            self._model = model
        if model:
            log.info("challenger of %s: version %s, bundle %s", self.task, model.version, model.bundle.id[:12])

    def _close_model(self) -> None:
        if self._model:
            self._model.runtime.close()
        self._model = None

    def _answer_all(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
        while not self._stop.is_set():
            try:
                offer = self._waiting.get(timeout=1)
            except queue.Empty:
                continue
            start_s = time.monotonic()
            self._answer(offer)
            self._stop.wait((time.monotonic() - start_s) * (1 / self._share - 1))

    def _answer(self, offer: _Offer) -> None:
        with self._in_use:
            model = self._model
            if model is None:
                return
            try:
                with self._decoders.reading(io.BytesIO(offer.content), Deadline.after(DEADLINE_S)) as study:
                    result = runtimes.answer(study, model).result
                outcome = "agreed" if result.label == offer.label else "differed"
            except Exception as error:  # nothing of a challenger reaches a client
                log_failure(f"challenger of {self.task}", error)
                outcome = "failed"
        metrics.SHADOW.labels(self.task, model.version, outcome).inc()
