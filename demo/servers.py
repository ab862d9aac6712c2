"""Service of the demo: BentoML on a free port of this machine, which ends with the process that started it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from echoplane.adapters.local_mlflow import free_port
from echoplane.errors import StageError
from echoplane.parent import start, stop

HOST = "127.0.0.1"
READY_S = 90
POLL_S = 0.2


@dataclass(frozen=True)
class ServiceProcess:
    """Started service: its address, its process and its log."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def check_alive(self) -> None:
        """Raises StageError with the exit status if the service has ended."""
        status = self.process.poll()
        if status is not None:
            raise StageError(f"the service ended with status {status}; its log, {self.log}, says why.")


@contextlib.contextmanager
def service(tracking_uri: str, log: Path, port: int | None = None) -> Iterator[ServiceProcess]:
    """Starts a service that follows the registry's champion; it may not be ready yet. Raises StageError if `port` is
    taken."""
    if port:
        check_free(port)
    port = port or free_port()
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": tracking_uri,
        "ECHOPLANE_POLL_S": "0.5",
        "BENTOML_HOME": str(log.parent.resolve() / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "true",
    }
    command = ["-m", "bentoml", "serve", "serving.service:EchoplaneService", "--host", HOST, "--port", str(port)]
    with log.open("a") as file:
        process = start([sys.executable, *command], environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield ServiceProcess(f"http://{HOST}:{port}", process, log)
    finally:
        stop(process)


def check_free(port: int) -> None:
    """Raises StageError if another program listens on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise StageError(
                f"port {port} of {HOST} cannot be used ({os.strerror(error.errno or 0)}). End the program that listens "
                f"there, or choose another port: python -m demo serve --port {port + 1}"
            ) from None


def wait_ready(service: ServiceProcess) -> None:
    """Waits until the champion answers. Raises StageError if that takes too long or the service ends."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        service.check_alive()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{service.address}/readyz", timeout=2).status_code == 200:
                return
        time.sleep(POLL_S)
    raise StageError(f"the service was not ready after {READY_S} s; its log is {service.log}.")
