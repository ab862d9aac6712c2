"""Worker processes that end at once if the process that waits for them is stopped or gone."""

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
    """Yields a pool of workers with one thread each. They are never forked from this process, whose thread locks they
    would inherit.

    If the caller leaves by an exception, such as Ctrl-C, the workers are killed: a pool's own shutdown would wait for
    all submitted work. If this process is ended or killed, the workers end by themselves. So whatever they write must
    survive a kill.
    """
    others = multiprocessing.active_children()
    context = multiprocessing.get_context(start)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        try:
            with _deaf_to_ctrl_c():
                for _ in range(workers):
                    pool.submit(int)  # starts one worker each, since none is idle so soon
            yield pool
        except BaseException:
            for process in multiprocessing.active_children():
                if process not in others:
                    process.kill()
            raise


def _begin() -> None:
    """Runs in a new worker: limits OpenCV to one thread, and starts a thread that ends the worker if its parent
    ends."""
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Blocks Ctrl-C in processes that are started in this context; they would answer it with tracebacks."""
    resource_tracker.ensure_running()  # started now: it would otherwise start with the workers and unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
