"""An installation for edge tests: a real HTTP server on loopback with Range, PUT, and a network that can be cut."""

import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from echoplane.bundle import Golden, read, seal, write_golden
from echoplane.bundle.spec import GOLDEN, Contents
from echoplane.edge import publish, repository
from echoplane.edge.keys import read_keys
from serving.edge.check import Refused, open_bundle
from serving.edge.device import Device
from serving.edge.settings import EdgeSettings
from tests.tiny_bundle import make_tiny_bundle

TASK = "echo-view-video"


class Site:
    """A repository, its server, and the reports and results that devices send to it."""

    def __init__(self, folder: Path, context: ssl.SSLContext | None = None) -> None:
        """Makes the repository in `folder`, if it has none; with `context` the server speaks TLS, as it says."""
        self.folder, self.published = folder, folder / "published"
        if self.published.exists():
            self.repository = repository.EdgeRepository(self.published, read_keys([folder / "keys"]))
        else:
            self.repository = repository.create(self.published, folder / "keys")
        self.down, self.cut_after = False, 0
        self.client = httpx.Client(timeout=10, trust_env=False)
        self.requests: list[tuple[str, str, str]] = []
        self.sent_bytes = 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                site.answer(self)

            def do_PUT(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if not site.down:
                    path = site.folder / self.path.lstrip("/")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                self.send_response(503 if site.down else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Is silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a device that was killed resets its connection
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = f"https://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Serves a file from the byte that Range names; closes the connection after `cut_after` bytes of a bundle."""
        asked = handler.headers.get("Range", "")
        self.requests.append((handler.command, handler.path, asked))
        path = self.folder / handler.path.lstrip("/")
        if self.down or not path.is_file():
            handler.send_response(503 if self.down else 404)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        content, start = path.read_bytes(), 0
        if found := re.match(r"bytes=(\d+)-$", asked):
            start = int(found[1])
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        body = content[start:]
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if self.cut_after and "/bundles/" in handler.path and len(body) > self.cut_after:
            body, handler.close_connection = body[: self.cut_after], True
        self.sent_bytes += len(body)
        handler.wfile.write(body)

    def close(self) -> None:
        self.client.close()
        self._server.shutdown()
        self._server.server_close()

    def settings(self, name: str, **more: object) -> EdgeSettings:
        given = {
            "repository_url": f"{self.url}/published",
            "root_file": self.published / "metadata" / "1.root.json",
            "folder": self.folder / "devices" / name,
            "device": name,
            "tasks": TASK,
            "reserve_mib": 0,
            "reports": f"{self.url}/reports",
        }
        return EdgeSettings(**(given | more))

    def device(self, name: str, **more: object) -> Device:
        """A device that opens bundles in this process."""
        options = {key: more.pop(key) for key in ("check_bundle", "clock") if key in more}
        return Device(self.settings(name, **more), self.client, **({"check_bundle": check_here} | options))

    def rollout(self, channel: str = "stable") -> publish.Rollout:
        return publish.Rollout(self.repository, channel, TASK)


def make_bad_bundle(folder: Path) -> Path:
    """A bundle, sealed and whole, whose model does not give its golden outputs."""
    made = read(make_tiny_bundle(folder, 3))
    golden = made.golden
    (folder / GOLDEN).unlink()
    write_golden(folder, Golden(golden.batch, golden.output + 5, golden.embedding))
    seal(folder, Contents(**{name: getattr(made.spec, name) for name in Contents.model_fields}))
    return folder


def check_here(task: str, folder: Path) -> None:
    """The golden check, as `serving.edge.check` runs it, but in this process and once per bundle: the devices of a test
    are one machine."""
    if folder.name not in _reasons:
        _reasons[folder.name] = _open(task, folder)
    if _reasons[folder.name]:
        raise Refused(_reasons[folder.name])


_reasons: dict[str, str] = {}


def _open(task: str, folder: Path) -> str:
    try:
        open_bundle(task, folder)
    except Exception as error:
        return str(error)
    return ""
