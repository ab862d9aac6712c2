"""Hostile requests: what a client can do to a service with a body, a form, headers, or by being slow.

Each sends one request and returns the status of the answer, or None if the service closed the connection.
"""

import io
import json
import socket
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from benchmarks import hostile_files

MIB = 1 << 20
DEADLINE = 504
SLOW_S = 12.0
RAW_S = 3.0
STUDY_ROUTES = ("/v1/study", "/v1/dicom")
"""Routes that take several files."""
ROUTES = ("/v1/echo-view-video", "/v1/explain/echo-view-video", "/v1/frames", *STUDY_ROUTES)


@dataclass(frozen=True)
class Target:
    """The service, and the token that a hostile client has."""

    host: str
    port: int
    token: str

    def client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=f"http://{self.host}:{self.port}", headers=headers, timeout=300, trust_env=False)

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=60)

    def head(self, line: str, *headers: str) -> bytes:
        return "\r\n".join([line, "Host: x", f"Authorization: Bearer {self.token}", *headers, "", ""]).encode("latin-1")


Request = Callable[[Target, httpx.Client, np.random.Generator], int | None]


def file_request(data: bytes, change: Callable[[bytes, np.random.Generator], bytes]) -> Request:
    def send(_: Target, client: httpx.Client, rng: np.random.Generator) -> int | None:
        files = {"file": ("../../../etc/passwd", change(data, rng))}
        return _worst(client.post(ROUTES[rng.integers(len(ROUTES))], files=files))

    return send


def many_files(data: bytes) -> Request:
    """Sends the file 64 times to a route that takes as many."""

    def send(_: Target, client: httpx.Client, rng: np.random.Generator) -> int | None:
        files = [("file", (f"{number}", hostile_files.varied(data, rng))) for number in range(64)]
        return _worst(client.post(STUDY_ROUTES[rng.integers(len(STUDY_ROUTES))], files=files))

    return send


def _worst(response: httpx.Response) -> int:
    """Returns the status. For several files, whose status is 200, it is the highest of them, but for those that were
    not reached by the deadline, of which each says so."""
    if response.url.path not in STUDY_ROUTES or response.status_code != 200:
        return response.status_code
    problems = [entry["problem"]["status"] for entry in _entries(response) if entry.get("problem")]
    return max((status for status in problems if status != DEADLINE), default=200)


def _entries(response: httpx.Response) -> list[dict[str, Any]]:
    """Returns the entries of several files, in a body of JSON or in a zip with DICOM objects."""
    if response.headers["content-type"] != "application/zip":
        return response.json()["files"]
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        return json.loads(archive.read("answers.json"))["files"]


def large_body(_: Target, client: httpx.Client, rng: np.random.Generator) -> int | None:
    """Sends 200 MB of a DICOM prefix and zeros."""
    start = bytes(128) + b"DICM" + rng.bytes(64)

    pieces = iter([start, *[bytes(MIB)] * 190])
    return client.post(ROUTES[0], content=pieces, headers={"content-type": "application/dicom"}).status_code


def raw(*lines: bytes) -> Request:
    """Sends bytes as they are on a connection of its own; TOKEN stands for the token."""

    def send(target: Target, _: httpx.Client, rng: np.random.Generator) -> int | None:
        with target.connect() as connection:
            try:
                for line in lines:
                    connection.sendall(line.replace(b"TOKEN", target.token.encode()))
                connection.settimeout(RAW_S)
                try:
                    return _status(connection.recv(4096))
                except TimeoutError:  # the request is not complete: now the service knows that it never will be
                    connection.shutdown(socket.SHUT_WR)
                    return _status(connection.recv(4096))
            except ConnectionError:
                return None

    return send


def slow_body(target: Target, _: httpx.Client, rng: np.random.Generator) -> int | None:
    """Sends a byte of the body every half second."""
    head = target.head(f"POST {ROUTES[0]} HTTP/1.1", "Content-Type: application/dicom", "Content-Length: 900000")
    return _drip(target, head)


def slow_headers(target: Target, _: httpx.Client, rng: np.random.Generator) -> int | None:
    """Sends a byte of a header every half second."""
    return _drip(target, f"POST {ROUTES[0]} HTTP/1.1\r\nHost: x\r\nX-Slow: ".encode())


def _drip(target: Target, head: bytes) -> int | None:
    with target.connect() as connection:
        try:
            connection.sendall(head)
            connection.settimeout(0.5)
            end_s = time.monotonic() + SLOW_S
            while time.monotonic() < end_s:
                connection.sendall(b"a")
                try:
                    return _status(connection.recv(4096))
                except TimeoutError:
                    continue
        except ConnectionError:
            pass
        return None


def _status(answer: bytes) -> int | None:
    words = answer.split(b" ", 2)
    return int(words[1]) if answer.startswith(b"HTTP/1.1 ") and len(words) > 1 else None


_AUTHORIZED = b"Authorization: Bearer TOKEN\r\n"
_FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"


def _form(body: bytes) -> bytes:
    head = b"POST /v1/echo-view-video HTTP/1.1\r\nHost: x\r\n" + _AUTHORIZED + _FORM
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


MALFORMED: dict[str, Request] = {
    "two lengths": raw(b"POST /v1/study HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    "length and chunks": raw(
        b"POST /v1/study HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /"
    ),
    "a negative length": raw(b"POST /v1/study HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
    "a chunk of 2^64 bytes": raw(
        b"POST /v1/study HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\na"
    ),
    "a header of 1 MiB": raw(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: " + b"a" * MIB + b"\r\n\r\n"),
    "60,000 headers": raw(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 60_000 + b"\r\n"),
    "no HTTP": raw(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(300)),
    "a header with a zero byte": raw(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n"),
    "a path that leads out": raw(b"GET /../../../etc/passwd HTTP/1.1\r\nHost: x\r\n" + _AUTHORIZED + b"\r\n"),
    "an encoded path that leads out": raw(
        b"GET /static/%2e%2e/%2e%2e/etc/passwd%00.js HTTP/1.1\r\nHost: x\r\n" + _AUTHORIZED + b"\r\n"
    ),
    "a path of 60,000 characters": raw(b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a form of 10,000 parts": raw(
        _form(b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nb\r\n' * 10_000 + b"--x--\r\n")
    ),
    "a form with headers of 1 MiB": raw(_form(b"--x\r\nContent-Disposition: form-data; name=" + b"a" * MIB)),
    "a form that never ends": raw(
        _form(b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"\r\n--" * 100_000)
    ),
    "a body cut short": raw(
        b"POST /v1/echo-view-video HTTP/1.1\r\nHost: x\r\n" + _AUTHORIZED + b"Content-Type: application/dicom\r\n"
        b"Content-Length: 900000\r\n\r\nDICM"
    ),
    "a wrong token": raw(
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"\xff" * 4000 + b"\r\n\r\n"
    ),
}
SLOW: dict[str, Request] = {"a slow body": slow_body, "slow headers": slow_headers}


def all_requests(files: dict[str, bytes], ordinary: bytes) -> dict[str, Request]:
    """Returns every kind of request but slow ones and LONG ones, by what it is; `ordinary` is a good file, which some
    damage."""
    short = {name: data for name, data in files.items() if name not in hostile_files.LONG}
    random = {"an ordinary clip, damaged": file_request(ordinary, hostile_files.damaged)}
    return {**_files(short), **random, **MALFORMED}


def long_requests(files: dict[str, bytes]) -> dict[str, Request]:
    """Returns the kinds of requests that take a second of a core or more."""
    long = {name: data for name, data in files.items() if name in hostile_files.LONG}
    study = {"64 files in one request": many_files(files["deflated DICOM of 1.1 GiB"])}
    return {**_files(long), **study, "a body of 200 MB": large_body}


def _files(files: dict[str, bytes]) -> dict[str, Request]:
    whole = {name: file_request(data, hostile_files.varied) for name, data in files.items()}
    return whole | {f"{name}, damaged": file_request(data, hostile_files.damaged) for name, data in files.items()}
