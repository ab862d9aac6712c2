"""Started processes, and all that they start, end with the process that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from echoplane.parent import VARIABLE, start, stop

SLEEPS = "import pathlib, time; pathlib.Path('ready').touch(); time.sleep(600)"
FAMILY = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEPS!r}])"
"""A process with a child, as a server with a worker is; neither knows of echoplane."""
STEP = f"from echoplane.parent import end_with_parent; end_with_parent(); {FAMILY}"
LEAF = f"from echoplane.parent import killed_with_parent; killed_with_parent(); {SLEEPS}"
POOL = """
import multiprocessing
from echoplane.parent import end_with_parent

def work():
    end_with_parent(multiprocessing.parent_process().pid)
    {family}

if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=work)
    worker.start()
    worker.join()
"""
PARENTS = {
    "start": "import sys, time; from echoplane.parent import start; "
    f"start([sys.executable, '-c', {FAMILY!r}]); time.sleep(600)",
    "end_with_parent": "import os, subprocess, sys; "
    f"subprocess.run([sys.executable, '-c', {STEP!r}], env=os.environ | {{{VARIABLE!r}: str(os.getpid())}})",
    "end_with_parent by id": POOL.format(family=FAMILY),
    "killed_with_parent": f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LEAF!r}])",
}
COUNT = {"start": 3, "end_with_parent": 2, "end_with_parent by id": 3, "killed_with_parent": 1}
"""Number of descendants; multiprocessing has one more, its resource tracker."""


def descendants(process: subprocess.Popen[bytes], folder: Path) -> list[psutil.Process]:
    """Returns the descendants of a process once the youngest has made the file `ready` in `folder`."""
    deadline = time.monotonic() + 60
    while not (folder / "ready").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("way", PARENTS)
def test_a_killed_parent_leaves_nothing_behind(way: str, end: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENTS[way])
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], cwd=tmp_path)
    left = descendants(parent, tmp_path)
    assert len(left) == COUNT[way]
    parent.send_signal(end)
    assert parent.wait(timeout=60) == -end
    _, alive = psutil.wait_procs(left, timeout=20)
    for process in alive:
        process.kill()
    assert not alive


def test_a_process_whose_parent_has_ended_already_ends_at_once(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    environment = os.environ | {VARIABLE: str(gone.pid)}
    step = subprocess.run([sys.executable, "-c", STEP], cwd=tmp_path, env=environment, timeout=60, check=False)
    assert step.returncode == -signal.SIGKILL


def test_a_started_command_answers_its_exit_status_and_hears_sigterm() -> None:
    assert start([sys.executable, "-c", "raise SystemExit(7)"]).wait(timeout=60) == 7
    assert start([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]).wait(timeout=60) == -9
    says = "import signal, sys; signal.signal(15, lambda *_: sys.exit(5)); print('ready', flush=True); signal.pause()"
    process = start([sys.executable, "-c", says], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "ready\n"
        stop(process)
    assert process.returncode == 5


def test_what_does_not_end_when_told_is_killed_with_its_children(tmp_path: Path) -> None:
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FAMILY}"
    process = start([sys.executable, "-c", deaf], cwd=tmp_path)
    tree = descendants(process, tmp_path)
    assert len(tree) == 2
    stop(process, grace_s=0.5)
    assert not psutil.wait_procs(tree, timeout=20)[1]


def test_a_program_that_is_not_there_is_refused_before_anything_starts() -> None:
    with pytest.raises(FileNotFoundError, match="/nowhere/program"):
        start(["/nowhere/program"])
