"""`python -m demo serve` when it cannot serve: it says why and ends. Case E14."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.servers import HOST, ServiceProcess, check_free, wait_ready
from echoplane.errors import StageError


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_e14_a_taken_port_is_named_and_the_command_ends(taken_port: int, tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    command = [sys.executable, "-m", "demo", "serve", "--port", str(taken_port), "--folder", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert f"port {taken_port} of 127.0.0.1 cannot be used (Address already in use)" in ended.stderr
    assert "serving on" not in ended.stdout


def test_e14_a_free_port_can_be_used() -> None:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    check_free(port)


def test_e14_a_service_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    process.wait(20)
    service = ServiceProcess("http://127.0.0.1:9", process, tmp_path / "service.log")
    with pytest.raises(StageError, match=r"ended with status 7; its log, .*service\.log, says why"):
        wait_ready(service)
