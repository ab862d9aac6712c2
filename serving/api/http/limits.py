"""Limits of the requests that are received and answered concurrently, and the deadline of each.

A request first receives its body, then takes a place (one of `max_in_flight`): a slow client holds bytes, never a
place. Places and threads are taken in turns of callers (see `turns`). BentoML's own limiter and timeout would answer
before our problem bodies can, and would refuse /v1/models as well.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from echoplane.monitoring import metrics
from serving.api.decoding.deadline import Deadline
from serving.api.http import problems
from serving.api.http.turns import Turns

T = TypeVar("T")

MAX_RECEIVING = 256
"""Maximum number of bodies that one process receives at once; further requests get 429. Each holds at most
uploads.SPOOL_BYTES of memory."""


@dataclass(frozen=True)
class Limits:
    """Limits of one process."""

    max_in_flight: int
    """Maximum number of studies that are answered at once."""
    max_queued: int
    """Maximum number of received requests that wait for a place; further requests get 429."""
    queue_timeout_s: float
    max_held_bytes: int
    """Maximum size in bytes of all bodies that are received, waiting or being answered."""
    threads: int
    """Files that are decoded and answered at once; half as many more, at least one, for callers with none at work."""
    deadline_s: float
    """Time to answer all files of a request once it has a place."""


class Admission:
    """Admission of requests. It lives on one event loop; only `work` runs on threads."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.places, self.threads = Turns(limits.max_in_flight), Turns(limits.threads)
        self._pool = ThreadPoolExecutor(self.threads.most, thread_name_prefix="answer")
        self._receiving = self._queued = self.held_bytes = 0

    @contextlib.asynccontextmanager
    async def request(self, caller: str) -> AsyncIterator["InFlight"]:
        """Admits a request of `caller` to send its body. Raises Problem 429 if too many do.

        Its place and files are released when both the request and its threads have ended: a thread cannot be stopped,
        and work that outlives its deadline still uses memory and a core.
        """
        if self._receiving >= MAX_RECEIVING:
            raise problems.busy()
        self._receiving += 1
        request = InFlight(self, self._pool, caller)
        try:
            yield request
        finally:
            request.end()

    def received(self) -> None:
        self._receiving -= 1

    async def take_place(self, caller: str) -> None:
        """Waits for a place. Raises Problem 429 if the queue is full or the wait is too long."""
        if not self.places.is_free_for(caller) and self._queued >= self.limits.max_queued:
            raise problems.busy()
        self._queued += 1
        metrics.QUEUED.inc()
        try:
            async with asyncio.timeout(self.limits.queue_timeout_s):
                await self.places.take(caller)
        except TimeoutError:
            raise problems.busy() from None
        finally:
            self._queued -= 1
            metrics.QUEUED.dec()
        metrics.IN_FLIGHT.inc()

    def give_back_place(self, caller: str) -> None:
        self.places.give_back(caller)
        metrics.IN_FLIGHT.dec()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class InFlight:
    """One admitted request: its bytes, files, place, threads and deadline."""

    def __init__(self, admission: Admission, pool: ThreadPoolExecutor, caller: str) -> None:
        self._admission, self._pool, self._caller = admission, pool, caller
        self._at_end = contextlib.ExitStack()
        self._running: set[asyncio.Future[Any]] = set()
        self._receiving, self._ended = True, False
        self._held_bytes = 0
        self.deadline = Deadline.after(admission.limits.deadline_s)

    def hold_bytes(self, count: int) -> None:
        """Counts bytes of the body. Raises Problem 429 if all requests together hold too many."""
        if self._admission.held_bytes + count > self._admission.limits.max_held_bytes:
            raise problems.busy()
        self._admission.held_bytes += count
        self._held_bytes += count

    def hold(self, files: list[BinaryIO]) -> None:
        """Registers `files` to be closed when the request is over."""
        for file in files:
            self._at_end.callback(file.close)

    async def start(self) -> None:
        """Takes a place once the body is received; the deadline of the whole request begins here."""
        self._end_receiving()
        await self._admission.take_place(self._caller)
        self._at_end.callback(self._admission.give_back_place, self._caller)
        self.deadline = Deadline.after(self._admission.limits.deadline_s)

    async def run(self, work: Callable[[], T]) -> T:
        """Runs `work` on a thread. Raises Problem 504 at the request's deadline, 429 if no thread was free by then."""
        if self.deadline.left_s() <= 0:
            raise problems.deadline(self.deadline.limit_s)
        try:
            async with asyncio.timeout(self.deadline.left_s()):
                await self._admission.threads.take(self._caller)
        except TimeoutError:
            raise problems.busy() from None
        future = asyncio.wrap_future(self._pool.submit(work))
        self._running.add(future)
        future.add_done_callback(self._done)
        await asyncio.wait({future}, timeout=self.deadline.left_s())
        if future.done():
            return future.result()
        raise problems.deadline(self.deadline.limit_s)

    def end(self) -> None:
        self._end_receiving()
        self._ended = True
        self._close_if_over()

    def _end_receiving(self) -> None:
        if self._receiving:
            self._receiving = False
            self._admission.received()

    def _done(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled():
            future.exception()  # retrieved; otherwise asyncio would log it with values of the file in it
        self._running.discard(future)
        self._admission.threads.give_back(self._caller)
        self._close_if_over()

    def _close_if_over(self) -> None:
        """Releases the place and files once no thread works any more; a request past its deadline, or whose client has
        left, can still have several threads at work."""
        if self._ended and not self._running:
            self._admission.held_bytes -= self._held_bytes
            self._held_bytes = 0
            self._at_end.close()
