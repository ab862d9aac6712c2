"""Edge devices as processes of their own, as systemd starts them, their publisher, and a slow link between them."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from echoplane import bundle as bundles
from echoplane import parent
from echoplane.edge.fleet import Report
from echoplane.edge.upload import receive
from serving.edge.slots import Slots
from tests.edge_site import TASK
from tests.minio_process import Store
from tests.serving_process import CHECKOUT, Running, _stop, free_port, wait_for

REPOSITORY, REPORTS = "edge-repository", "edge-reports"
"""Buckets: of the first devices may read, into the second they may write."""
BARE = ("PATH", "LANG", "TMPDIR", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
PIECE_S = 0.1


class Box:
    """A device whose processes have the environment that `edge.env` would give them; `settings` by their names without
    ECHOPLANE_EDGE_."""

    def __init__(self, folder: Path, device: str, url: str, root_file: Path, **settings: str) -> None:
        self.folder, self.device, self.port = folder, device, free_port()
        self.process: subprocess.Popen | None = None
        folder.mkdir(parents=True)
        given = {
            "REPOSITORY_URL": url,
            "ROOT_FILE": str(root_file),
            "FOLDER": str(folder / "edge"),
            "DEVICE": device,
            "TASKS": TASK,
            "RESERVE_MIB": "1",
            "POLL_S": "0.5",
        }
        bare = {name: os.environ[name] for name in BARE if name in os.environ}
        home = {"HOME": str(folder), "BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
        self.environment = bare | home | {"PYTHONPATH": str(CHECKOUT), "ECHOPLANE_POLL_S": "0.5"}
        self.set(**(given | settings))
        self.slots = Slots(folder / "edge", 0)

    def set(self, **settings: str) -> None:
        """Changes settings for the processes that start from now on."""
        self.environment |= {f"ECHOPLANE_EDGE_{name}": value for name, value in settings.items()}

    @property
    def url(self) -> str:
        """Address of the service on the device."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that the agent has written."""
        path = self.folder / "agent.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Starts the agent. It is killed when the thread that calls this ends."""
        with (self.folder / "agent.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving.edge", "run"],
                cwd=CHECKOUT,
                env=self.environment,
                stdout=log,
                stderr=log,
                preexec_fn=parent.killed_with_parent,
            )

    def kill(self) -> None:
        """Ends the agent by SIGKILL, as a crash would."""
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def once(self) -> dict[str, Any]:
        """Runs one cycle of the agent and returns its report."""
        command = [sys.executable, "-m", "serving.edge", "once"]
        done = subprocess.run(command, cwd=CHECKOUT, env=self.environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def bundle(self) -> str | None:
        """Returns the bundle behind the link that the service reads, every digest checked; None before the first."""
        link = self.slots.link(TASK)
        return bundles.read(link.resolve()).id if link.exists() else None

    @contextlib.contextmanager
    def serving(self) -> Iterator[Running]:
        """Runs the service of the device."""
        log = self.folder / "service.log"
        command = [sys.executable, "-m", "serving.edge", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        with log.open("w") as file:
            process = subprocess.Popen(
                command, cwd=CHECKOUT, env=self.environment, stdout=file, stderr=file, start_new_session=True
            )
        running = Running(self.url, process.pid, log)
        try:
            wait_for(running, "/livez", process)
            yield running
        finally:
            _stop(process)


class Publisher:
    """The programs of the publishing machine, whose repository is copied to a bucket of `store`."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.repository, self.keys, self._store = folder / "repository", folder / "keys", store
        for bucket, access in ((REPOSITORY, "download"), (REPORTS, "upload")):
            store.files().create_dir(bucket)
            store.allow(access, bucket)
        self._edge("init", "--new-keys", str(self.keys))

    @property
    def root_file(self) -> Path:
        return self.repository / "metadata" / "1.root.json"

    def publish(self, bundle: Path, ring: str, devices: list[str]) -> str:
        """Offers a bundle to a ring and returns its id."""
        options = ("--bundle", str(bundle), "--ring", ring, "--devices", ",".join(devices))
        return self._edge("publish", *options, *self._copied)["bundle"]

    def act(self, soak_h: float = 0) -> dict[str, Any]:
        """Does what the policy decides, and returns how the roll-out stood before.

        Times are not judged: the devices are processes of one machine, and slow each other down.
        """
        reports = ("--reports", f"s3://{REPORTS}", "--max-slower", "1000", "--soak-h", str(soak_h), "--act")
        return self._edge("status", *reports, *self._copied)[TASK]

    def halt(self, reason: str) -> None:
        self._edge("halt", "--task", TASK, "--reason", reason, *self._copied)

    def reports(self) -> dict[str, Report]:
        """Reads the last report of each device; the environment must name the store."""
        return {report.device: report for report in receive(f"s3://{REPORTS}").reports}

    @property
    def _copied(self) -> tuple[str, ...]:
        return ("--keys", str(self.keys), "--to", f"s3://{REPOSITORY}")

    def _edge(self, action: str, *options: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "echoplane.cli", "edge", action, str(self.repository), *options, "--json"]
        environment: Mapping[str, str] = os.environ | self._store.access
        done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


class SlowLink:
    """A TCP relay to a port of this machine: answers pass at `bytes_per_s`. `requests` holds what passed the other way:
    path and Range header of each GET."""

    def __init__(self, port: int, bytes_per_s: int) -> None:
        self._port, self._piece = port, int(bytes_per_s * PIECE_S)
        self.requests: list[tuple[str, str]] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._port)) as server:
            threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
            while answer := server.recv(self._piece):
                client.sendall(answer)
                time.sleep(PIECE_S)

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        """Passes requests on; a GET of the agent comes in one piece, since it has no body."""
        with contextlib.suppress(OSError):
            while asked := client.recv(1 << 16):
                if found := re.match(rb"GET (\S+) HTTP/1.1\r\n", asked):
                    start = re.search(rb"\r\nrange: (\S+)", asked, re.IGNORECASE)
                    self.requests.append((found[1].decode(), start[1].decode() if start else ""))
                server.sendall(asked)
            server.shutdown(socket.SHUT_RDWR)
