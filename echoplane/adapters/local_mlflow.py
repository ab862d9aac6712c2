"""A local MLflow server for a run on one machine: SQLite, artifacts through the server, 127.0.0.1.

It ends, with all its workers, as soon as the process that started it is gone.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from echoplane.errors import StageError
from echoplane.parent import start, stop

SETTINGS = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # saves eight processes and 2 GB
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
DATABASE = "mlflow.db"
WHOLE = "whole"
"""Name of a file beside the database that marks its tables as complete."""
START_S = 180
POLL_S = 0.2


@contextlib.contextmanager
def local_server(folder: str | Path, port: int | None = None) -> Iterator[str]:
    """Yields the URI of a healthy server that keeps everything under `folder`; it ends with the context.

    It also ends if this process is killed. Raises StageError if it is not up in START_S seconds; `server.log` under
    `folder` has the reason. Starting takes about 10 s: to do other work meanwhile, call `start_server` and, later,
    `wait_until_healthy`.
    """
    server, uri = start_server(folder, port)
    try:
        wait_until_healthy(server, uri, Path(folder))
        yield uri
    finally:
        stop_server(server)


def start_server(folder: str | Path, port: int | None = None) -> tuple[subprocess.Popen[bytes], str]:
    """Starts the server without waiting; returns its process and its URI."""
    folder = Path(folder).resolve()
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    # killed while it made its tables: such a database can neither be used nor completed
    if not (folder / WHOLE).exists():
        (folder / DATABASE).unlink(missing_ok=True)
    port = port or free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / DATABASE}", "--serve-artifacts"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("ab") as log:
        server = start(command, os.environ | SETTINGS, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    return server, f"http://127.0.0.1:{port}"


def wait_until_healthy(server: subprocess.Popen[bytes], uri: str, folder: Path) -> None:
    """Returns when the server is healthy, and marks its database as complete: from now on it may be killed safely.

    Raises StageError if it ended or takes longer than START_S.
    """
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise StageError("the MLflow server ended while starting; server.log in its folder says why.")
        if answers(uri):
            (folder / WHOLE).touch()
            return
        time.sleep(POLL_S)
    stop_server(server)
    raise StageError(f"the MLflow server did not answer within {START_S} s; server.log in its folder says why.")


def answers(uri: str) -> bool:
    """Returns True if the server at `uri` is healthy; its tables are complete then."""
    with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{uri}/health", timeout=2):  # noqa: S310
        return True
    return False


def stop_server(server: subprocess.Popen[bytes]) -> None:
    """Ends the server and all its child processes."""
    stop(server, grace_s=0)  # uvicorn's worker would keep the port


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
