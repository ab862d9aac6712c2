"""The MLflow server beside a run: killed before its tables are complete, it comes up all the same the next time."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

from echoplane.adapters.local_mlflow import DATABASE, WHOLE, local_server

START = """
import sys, time
from echoplane.adapters.local_mlflow import start_server
start_server(sys.argv[1])
time.sleep(99)
"""
PATIENCE_S = 60


def test_a_server_killed_while_it_makes_its_tables_is_whole_the_next_time(tmp_path: Path) -> None:
    runner = subprocess.Popen([sys.executable, "-c", START, str(tmp_path)])
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / DATABASE).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    servers = psutil.Process(runner.pid).children(recursive=True)
    runner.kill()
    runner.wait()
    _, alive = psutil.wait_procs(servers, timeout=PATIENCE_S)
    assert servers
    assert not alive  # the server ends with its runner
    assert not (tmp_path / WHOLE).exists()
    with local_server(tmp_path) as uri:
        assert uri.startswith("http://127.0.0.1:")
        assert (tmp_path / WHOLE).exists()
