"""Who may come in, and for how long: the limit of studies in flight, the threads that answer, the deadline.

BentoML's own limiter and timeout answer before our problem bodies can, and would refuse /v1/models as well."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, TypeVar

from echoplane.monitoring import metrics
from serving.api.http import problems

T = TypeVar("T")


class Admission:
    """Lives on one event loop; only `work` runs on threads."""

    def __init__(self, most_in_flight: int, threads: int) -> None:
        self._most, self._in_flight = most_in_flight, 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="answer")

    @contextlib.contextmanager
    def ticket(self) -> Iterator["Ticket"]:
        """A place among the requests in flight; Problem 429 where none is free.

        It is given back when the request is over and its threads are too: a thread can't be stopped, and work that
        outlived its deadline still takes memory and a core.
        """
        if self._in_flight >= self._most:
            raise problems.busy(self._most)
        self._in_flight += 1
        metrics.IN_FLIGHT.inc()
        ticket = Ticket(self._pool, self._leave)
        try:
            yield ticket
        finally:
            ticket.end()

    def _leave(self) -> None:
        self._in_flight -= 1
        metrics.IN_FLIGHT.dec()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Ticket:
    """One request in flight, with the files it holds."""

    def __init__(self, pool: ThreadPoolExecutor, leave: Callable[[], None]) -> None:
        self._pool, self._at_end = pool, contextlib.ExitStack()
        self._at_end.callback(leave)
        self._running: set[asyncio.Future] = set()
        self._ended = False

    def hold(self, files: list[BinaryIO]) -> None:
        """Close `files` when the ticket is given back."""
        for file in files:
            self._at_end.callback(file.close)

    async def run(self, work: Callable[[], T], limit_s: float) -> T:
        """What `work` gives on a thread; Problem 504 after `limit_s`, waiting for a free thread included."""
        started = self._pool.submit(work)
        future = asyncio.wrap_future(started)
        self._running.add(future)
        future.add_done_callback(self._done)
        await asyncio.wait({future}, timeout=limit_s)
        if future.done():
            return future.result()
        if started.cancel():
            self._running.discard(future)
        raise problems.deadline(limit_s)

    def end(self) -> None:
        self._ended = True
        self._close_if_over()

    def _done(self, future: asyncio.Future) -> None:
        if not future.cancelled():
            future.exception()  # seen, or asyncio would log it with values of the file in it
        self._running.discard(future)
        self._close_if_over()

    def _close_if_over(self) -> None:
        """Also after a deadline or a client that left: a request can have left several threads at work."""
        if self._ended and not self._running:
            self._at_end.close()
