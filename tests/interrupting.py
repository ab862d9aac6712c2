"""Killing a run in the middle, as a power cut or an impatient person does."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil


def kill_once(run: subprocess.Popen[bytes], begun: Callable[[], bool], log: Path) -> list[psutil.Process]:
    """SIGKILL to `run` as soon as `begun`; what it had started. AssertionError with the log's end if it ends before."""
    while not begun():
        assert run.poll() is None, log.read_text()[-3000:]
        time.sleep(0.02)
    started = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.wait()
    return started
