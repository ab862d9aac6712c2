"""Processes that end with the process that started them, even if that one is killed.

`start` starts any command so; a Python process that others start calls `end_with_parent`, and the decoder of untrusted
files `killed_with_parent`. As a program (`python -m echoplane.parent COMMAND ...`) this module runs a command and ends
it with the process named by ECHOPLANE_RUNNER_PID: servers such as MLflow and BentoML would not notice its end.
"""

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

import psutil

VARIABLE = "ECHOPLANE_RUNNER_PID"
"""Environment variable with the id of the process to end with; whoever starts steps through others sets it."""
POLL_S = 0.2
GRACE_S = 20.0
"""Time in seconds that a command has to end by itself once it was told to."""
_SIGNAL_AT_PARENTS_END = 1  # of prctl(2)


@functools.cache
def end_with_parent(pid: int | None = None) -> None:
    """Kills this process and all its descendants once process `pid` has ended; by default the one named by VARIABLE,
    if set."""
    named = os.environ.get(VARIABLE) if pid is None else str(pid)
    if named:
        threading.Thread(target=_end_with, args=(int(named),), daemon=True).start()


def killed_with_parent() -> None:
    """Makes the kernel kill this process once the thread that started it has ended: also in the middle of C code.

    For a process without children whose parent has a single thread.
    """
    ctypes.CDLL(None).prctl(_SIGNAL_AT_PARENTS_END, signal.SIGKILL)


def start(command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[Any]:
    """Starts a command that is killed, with all that it starts, once this process has ended.

    It runs in a session of its own, where Ctrl-C does not reach it. `options` are those of Popen. SIGTERM is passed on
    to the command, and its exit status is that of the process returned. Raises FileNotFoundError if there is no such
    program.
    """
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(2, os.strerror(2), command[0])
    return subprocess.Popen(
        [sys.executable, "-m", __name__, *command],
        env={**(os.environ if env is None else env), VARIABLE: str(os.getpid())},
        start_new_session=True,
        **options,
    )


def stop(process: subprocess.Popen[Any], grace_s: float = GRACE_S) -> None:
    """Ends a started command and its descendants: by SIGTERM to the command, and by SIGKILL to what is left of them
    when it has ended, or after `grace_s` seconds; 0 kills at once."""
    tree = _tree(process.pid)
    if grace_s:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    for each in [*_tree(process.pid), *tree]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def _end_with(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
            time.sleep(POLL_S)
    tree = [process.pid for process in _tree(os.getpid())]
    sys.setswitchinterval(60)  # another thread that waits for a killed child could otherwise end this process too early
    for each in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def _tree(pid: int) -> list[psutil.Process]:
    """Returns a process after all its descendants; an empty list if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    return []


def main(command: Sequence[str]) -> int:
    """Runs `command` to its end and returns its exit status; ends by the signal that ended it, if one did."""
    end_with_parent()
    with subprocess.Popen(command) as process:

        def pass_on(number: int, _frame: FrameType | None) -> None:
            process.send_signal(number)

        signal.signal(signal.SIGTERM, pass_on)
        status = process.wait()
    if status < 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
