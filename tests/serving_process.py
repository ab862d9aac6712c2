"""The service as a user starts it: `bentoml serve` in a process of its own, on a free port of this machine."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

CHECKOUT = Path(__file__).resolve().parents[1]
START_S = 60


@dataclass(frozen=True)
class Running:
    """A service that is up; `log` is all that it has written."""

    url: str
    pid: int
    log_file: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def memory_mib(self) -> float:
        """Of the process and its workers."""
        process = psutil.Process(self.pid)
        return sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]) / (1 << 20)


@contextlib.contextmanager
def serve(
    folder: Path, env: Mapping[str, str], *, python: Path = Path(sys.executable), ready: bool = True
) -> Iterator[Running]:
    """The service with `env` on top of a bare environment; its files lie in `folder`. Waits until it is ready."""
    port, log_file = free_port(), folder / "service.log"
    command = [str(python), "-m", "bentoml", "serve", "serving.service:EchoplaneService"]
    bare = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=CHECKOUT,
            env={
                **bare,
                "HOME": str(folder),
                "BENTOML_HOME": str(folder / "bentoml"),
                "BENTOML_DO_NOT_TRACK": "True",
                "PYTHONPATH": str(CHECKOUT),
                **env,
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Running(f"http://127.0.0.1:{port}", process.pid, log_file)
    try:
        wait_for(running, "/readyz" if ready else "/livez", process)
        yield running
    finally:
        _stop(process)


def wait_for(running: Running, path: str, process: subprocess.Popen | None = None) -> None:
    """Until `path` answers 200."""
    deadline = time.monotonic() + START_S
    with running.client() as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if client.get(path).status_code == 200:
                    return
            if process and process.poll() is not None:
                break
            time.sleep(0.1)
    raise AssertionError(f"{path} did not answer 200 within {START_S} s:\n{running.log}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _stop(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=5)
