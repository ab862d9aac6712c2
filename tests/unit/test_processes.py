"""Worker processes end with whoever waits for them."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import psutil
import pytest

from echoplane.confinement import calls
from echoplane.processes import WorkerLimits, limit_next_file, processes

WAITS = """
import pathlib, signal, sys, time
from echoplane.confinement import calls
from echoplane.processes import WorkerLimits, limit_next_file, processes

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests behind it ignores it
    with processes(2, sys.argv[2]) as pool:
        jobs = [pool.submit(time.sleep, 3) for _ in range(100)]
        pathlib.Path(sys.argv[1]).touch()
        for job in jobs:
            job.result()

if __name__ == "__main__":
    main()
"""


def waiting(folder: Path, start: str = "spawn") -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A process whose two workers have begun, in a session of its own, and what it has started."""
    (folder / "waits.py").write_text(WAITS)
    begun = folder / "begun"
    command = [sys.executable, str(folder / "waits.py"), str(begun), start]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not begun.exists():
        assert process.poll() is None
        time.sleep(0.05)
    return process, psutil.Process(process.pid).children(recursive=True)


def test_ctrl_c_ends_the_workers_at_once_and_none_of_them_complains(tmp_path: Path) -> None:
    process, workers = waiting(tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the parent and its workers
    try:
        _, said = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert said.count("Traceback") == 1  # the parent's own KeyboardInterrupt
    assert len(workers) >= 2
    assert not psutil.wait_procs(workers, timeout=10)[1]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_workers_end_also_when_the_process_that_waits_for_them_is_ended_or_killed(
    tmp_path: Path, start: str, end: signal.Signals
) -> None:
    process, workers = waiting(tmp_path, start)
    with process:
        process.send_signal(end)
        assert process.wait(timeout=60) == -end
    assert len(workers) >= 2
    left = psutil.wait_procs(workers, timeout=20)[1]
    for worker in left:
        worker.kill()
    assert not left


def test_an_error_of_one_job_does_not_wait_for_the_others() -> None:
    start = time.monotonic()
    with contextlib.suppress(ValueError), processes(1) as pool:
        jobs = [pool.submit(int, "no number"), *(pool.submit(time.sleep, 30) for _ in range(4))]
        jobs[0].result()
    assert time.monotonic() - start < 20


def test_s17_a_worker_writes_no_core_dump() -> None:
    with processes(1) as pool:
        assert pool.submit(resource.getrlimit, resource.RLIMIT_CORE).result() == (0, 0)


@pytest.mark.skipif(not calls.is_supported(), reason="no libseccomp, or a kernel without seccomp")
def test_s4_a_worker_with_limits_reaches_no_network_and_has_its_memory_limited() -> None:
    with processes(1, limits=WorkerLimits(data_bytes=1 << 30, cpu_s=60)) as pool:
        assert pool.submit(resource.getrlimit, resource.RLIMIT_DATA).result() == (1 << 30, 1 << 30)
        with pytest.raises(PermissionError):
            pool.submit(socket.socket).result()
        with pytest.raises(MemoryError):
            pool.submit(bytearray, 2 << 30).result()


def endless(limits: WorkerLimits) -> None:
    limit_next_file(limits)
    while True:
        pass


def test_s4_a_worker_that_works_too_long_on_a_file_is_killed() -> None:
    limits = WorkerLimits(data_bytes=1 << 30, cpu_s=0.3)
    with processes(1, limits=limits) as pool, pytest.raises(BrokenProcessPool):
        pool.submit(endless, limits).result(timeout=60)
