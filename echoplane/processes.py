"""Processes that work side by side, and that end at once when whoever waits for them is stopped or gone."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import resource_tracker
from typing import Literal

import cv2


@contextlib.contextmanager
def processes(workers: int, start: Literal["spawn", "forkserver"] = "spawn") -> Iterator[ProcessPoolExecutor]:
    """A pool of workers with one thread each; never forked from this process, whose threads' locks they would inherit.

    When the caller leaves by an exception, Ctrl-C above all, the workers are killed: a pool's own end would wait for
    all that was handed to it. Where this process itself is ended or killed, the workers end by themselves. What they
    write must stand a kill anyway.
    """
    others = multiprocessing.active_children()
    context = multiprocessing.get_context(start)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        try:
            with _deaf_to_ctrl_c():
                for _ in range(workers):
                    pool.submit(int)  # starts one worker each, for none is idle so soon
            yield pool
        except BaseException:
            for process in multiprocessing.active_children():
                if process not in others:
                    process.kill()
            raise


def _begin() -> None:
    """In a worker: one thread for OpenCV, and another that waits for the end of whoever waits for the worker."""
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that are started here never see the terminal's Ctrl-C, which they would answer with tracebacks."""
    resource_tracker.ensure_running()  # now: it is started with the workers otherwise, and unblocks the signal then
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
