"""The service of the demo: BentoML on a free port of this machine, which ends with whoever started it."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from echoplane.adapters.local_mlflow import free_port
from echoplane.errors import StageError

HOST = "127.0.0.1"
READY_S = 90
POLL_S = 0.2


@contextlib.contextmanager
def service(tracking_uri: str, log: Path, port: int | None = None) -> Iterator[str]:
    """The address of a service that follows the registry's champion; it may not be ready yet."""
    port = port or free_port()
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": tracking_uri,
        "ECHOPLANE_POLL_S": "0.5",
        "ECHOPLANE_RUNNER_PID": str(os.getpid()),
        "BENTOML_HOME": str(log.parent.resolve() / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "true",
    }
    command = ["-m", "bentoml", "serve", "serving.service:EchoplaneService", "--host", HOST, "--port", str(port)]
    with log.open("a") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo.die_with_parent", sys.executable, *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield f"http://{HOST}:{port}"
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()


def wait_ready(address: str, log: Path) -> None:
    """Until the champion answers; StageError where that takes too long."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/readyz", timeout=2).status_code == 200:
                return
        time.sleep(POLL_S)
    raise StageError(f"the service was not ready after {READY_S} s; its log is {log}.")
