"""The MLflow server beside a run: killed before its tables are complete, it comes up all the same the next time."""

import subprocess
import sys
from pathlib import Path

import psutil

from echoplane.adapters.local_mlflow import DATABASE, WHOLE, local_server
from tests.interrupting import kill_once

START = """
import sys, time
from echoplane.adapters.local_mlflow import start_server
start_server(sys.argv[1])
time.sleep(99)
"""


def test_a_server_killed_while_it_makes_its_tables_is_whole_the_next_time(tmp_path: Path) -> None:
    runner = subprocess.Popen([sys.executable, "-c", START, str(tmp_path)])
    servers = kill_once(runner, (tmp_path / DATABASE).exists, tmp_path / "server.log")
    _, alive = psutil.wait_procs(servers, timeout=60)
    assert servers
    assert not alive  # the server ends with its runner
    assert not (tmp_path / WHOLE).exists()
    with local_server(tmp_path) as uri:
        assert uri.startswith("http://127.0.0.1:")
        assert (tmp_path / WHOLE).exists()
