"""Worker processes that end at once if the process that waits for them is stopped or gone, and limits of processes."""

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Literal

import cv2

from echoplane.confinement import calls
from echoplane.parent import end_with_parent, killed_with_parent

KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""Environment variables that a process which decodes files gets; all others may be a key, a password or a token."""
MAX_OPEN_FILES = 64
_NO_NEW_PRIVILEGES = 38  # of prctl(2)


@dataclass(frozen=True)
class WorkerLimits:
    """Limits of a worker that decodes untrusted files and writes others. It also reaches no network, if the machine can
    hold that."""

    data_bytes: int
    """Memory of its own."""
    cpu_s: float
    """Time of one core for one file; `limit_next_file` starts it."""


@contextlib.contextmanager
def processes(
    workers: int, start: Literal["spawn", "forkserver"] = "spawn", limits: WorkerLimits | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Yields a pool of workers with one thread each. They are never forked from this process, whose thread locks they
    would inherit.

    If the caller leaves by an exception, such as Ctrl-C, the workers are killed: a pool's own shutdown would wait for
    all submitted work. If this process is ended or killed, the workers end by themselves. So whatever they write must
    survive a kill.
    """
    others = multiprocessing.active_children()
    context = multiprocessing.get_context(start)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(limits,)) as pool:
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


def forbid_core_dumps() -> None:
    """Switches off core dumps of this process and those it starts: they would hold patients' data and keys."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_process(data_bytes: int, file_bytes: int) -> None:
    """Limits this process, which is about to decode untrusted files; nothing raises these limits again.

    `data_bytes` is the memory of its own, `file_bytes` the size of a file that it may write. It is killed once its
    parent ends.
    """
    forbid_core_dumps()
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    killed_with_parent()
    ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def environment_without_keys() -> dict[str, str]:
    """Returns the environment for a Python process that decodes untrusted files: KEPT_VARIABLES, the path of modules,
    and one thread for each numeric library."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return kept | threads | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def limit_next_file(limits: WorkerLimits) -> None:
    """Kills this worker once it has worked too long on the file that it begins with now; also inside a codec."""
    signal.setitimer(signal.ITIMER_PROF, limits.cpu_s)


def _begin(limits: WorkerLimits | None) -> None:
    """Runs in a new worker: it ends with its parent, writes no core dumps, has one thread for OpenCV and `limits`."""
    forbid_core_dumps()
    if limits:
        resource.setrlimit(resource.RLIMIT_DATA, (limits.data_bytes, limits.data_bytes))
        if calls.is_supported():
            calls.forbid_network()
    cv2.setNumThreads(1)
    if parent := multiprocessing.parent_process():
        end_with_parent(parent.pid)


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Blocks Ctrl-C in processes that are started in this context; they would answer it with tracebacks."""
    resource_tracker.ensure_running()  # started now: it would otherwise start with the workers and unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
