"""The gateway as a process of its own on free ports, and dcmtk's programs as its senders."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import generate_uid

from tests import dicom_files
from tests.serving_process import CHECKOUT, free_port

START_S = 60


@dataclass
class Gateway:
    """A gateway that is up; `log` is all that it has written."""

    store: Path
    port: int
    http_port: int
    process: subprocess.Popen
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)


@contextlib.contextmanager
def gateway(folder: Path, **settings: Any) -> Iterator[Gateway]:
    """A gateway whose store lies in `folder`; its settings as GatewaySettings names them."""
    port, log_file = free_port(), folder / "gateway.log"
    places = {"store": str(folder / "store"), "dicom_port": port, "http_port": free_port()}
    settings = {**places, "min_free_mib": 0, **settings}
    with log_file.open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.gateway"], cwd=CHECKOUT, env=environment(settings), stderr=log
        )
    running = Gateway(Path(settings["store"]), settings["dicom_port"], settings["http_port"], process, log_file)
    try:
        _wait(running)
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=30)


def environment(settings: dict[str, Any]) -> dict[str, str]:
    bare = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    named = {
        f"ECHOPLANE_GATEWAY_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in ({"callers": ["STORESCU", "ECHOSCU"]} | settings).items()
    }
    return {**bare, "PYTHONPATH": str(CHECKOUT), **named}


def _wait(running: Gateway) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and running.process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", running.port), 1):
            return
        time.sleep(0.1)
    raise AssertionError(f"the gateway did not start:\n{running.log}")


def make_study(folder: Path, count: int, frames: int = 8) -> list[Path]:
    """Files of one study, each with a UID of its own and the planted patient of `dicom_files`."""
    template = pydicom.dcmread(pydicom.filebase.DicomBytesIO(dicom_files.grey_clip(dicom_files.moving_disc(frames))))
    template.StudyInstanceUID, template.SeriesInstanceUID = generate_uid(), generate_uid()
    template.StudyDate, template.SeriesNumber = "20260102", 1
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        template.InstanceNumber = number + 1
        template.save_as(folder / f"{number:04d}.dcm")
    return sorted(folder.iterdir())


def storescu(port: int, files: Sequence[Path], *options: str) -> subprocess.Popen:
    """dcmtk's sender, which ends its association at the first file that is not acknowledged."""
    command = ["storescu", "-v", "-xe", "-aec", "ECHOPLANE", *options, "127.0.0.1", str(port), *map(str, files)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def acknowledged(sender: subprocess.Popen) -> list[Path]:
    """Files that were acknowledged with success, once the sender has ended."""
    said, _ = sender.communicate(timeout=120)
    files, current = [], Path()
    for line in said.splitlines():
        if "Sending file: " in line:
            current = Path(line.split("Sending file: ")[1].strip())
        if "Received Store Response (Success)" in line:
            files.append(current)
    return files


def answer() -> dict[str, Any]:
    """The service's answer to an apical four chamber clip."""
    model = {"name": "echo-view-video", "version": "3", "bundle": "5be0c2", "runtime": "openvino", "precision": "f32"}
    return {
        "request_id": "9f2c4e5a7b1d3c60",
        "task": "echo-view-video",
        "model": model,
        "label": "a4c",
        "code": {"value": "399214001", "scheme": "SCT", "meaning": "Apical four chamber"},
        "confidence": 0.97,
        "probabilities": {"a4c": 0.97, "a2c": 0.03},
        "warnings": [],
        "details": {},
        "files": {},
    }


class ServiceDouble(ThreadingHTTPServer):
    """A double of the service: answers every file with `replies`, one after the other, and keeps what it was sent."""

    def __init__(self, replies: list[tuple[int, dict[str, Any]]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies, self.requests = replies, list[tuple[str, str | None, bytes]]()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        double: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        double.requests.append((self.path, self.headers["Authorization"], body))
        status, reply = double.replies.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *_: object) -> None:
        pass
