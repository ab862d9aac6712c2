"""The service's side of the process that forks decoders."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from echoplane.processes import environment_without_keys
from serving.api.decoding import process


class Template:
    """The process that forks decoders, shared by all pools of this process, started at first use and again if it
    ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, descriptors: Sequence[int], order: Mapping[str, float]) -> None:
        """Orders a decoder with the limits `data_bytes` and `cpu_s` that has these descriptors: a socket, and shared
        memory. With `makes_objects` it can make DICOM objects at once."""
        with self._lock:
            try:
                self._send(order, descriptors)
            except OSError:
                self._start()
                self._send(order, descriptors)

    def kill(self, pid: int) -> None:
        with self._lock, contextlib.suppress(OSError):  # a template that has ended took its decoders with it
            self._send({"kill": pid}, ())

    def _send(self, order: Mapping[str, float], descriptors: Sequence[int]) -> None:
        if self._orders is None:
            self._start()
        assert self._orders is not None  # noqa: S101
        socket.send_fds(self._orders, [json.dumps(dict(order)).encode()], descriptors)

    def _start(self) -> None:
        if self._orders and self._process:
            self._orders.close()
            self._process.kill()
            self._process.wait()
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", process.__name__, str(theirs.fileno())],
                env=environment_without_keys(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )


TEMPLATE = Template()
