"""Processes that read and decode files for the service: `python -m serving.api.decoding.process FD`.

The first process, the template, loads the readers and never sees a file. For each order on the socket FD it forks a
decoder, or kills one; it has one thread, so a fork is safe. It ends, and its decoders with it, once the service does.
"""

import contextlib
import importlib
import itertools
import json
import mmap
import os
import select
import signal
import socket
import struct
import sys
import warnings
from typing import Any

import cv2
import numpy as np
import simplejpeg

from echoplane import confinement
from echoplane.errors import InputError, NotAnImage, TooLarge
from echoplane.processes import limit_process
from echoplane.study import reading
from echoplane.study.expansion import expansion_budget
from echoplane.study.limits import MIB
from echoplane.study.pydicom_setup import set_up_pydicom
from echoplane.study.study import Frames, Study
from serving.api.decoding import wire
from serving.api.failures import described

MAX_EXPANDED_BYTES = 256 * MIB
"""Maximum size that a client's file expands to, over all layers of compression."""
MAX_MESSAGE_BYTES = 128 << 10
LENGTH = struct.Struct("<Q")
OBJECTS_MODULE = "echoplane.dicom_results"
"""Module that makes DICOM objects. The template loads it, which takes seconds, before it forks the first decoder that
is to make any; all later ones then have it."""
REAP_S = 1.0
"""Interval at which the template looks for decoders that have ended."""


class Reader:
    """The study of one file, and the answers to requests for it; a new file replaces it.

    The process is killed once it has worked `cpu_s` seconds on one file; 0 sets no limit.
    """

    def __init__(self, cpu_s: float = 0.0) -> None:
        self._frames: list[Frames] = []
        self._cpu_s = cpu_s

    def answer(self, request: dict[str, Any], file: int | None, memory: mmap.mmap) -> Any:
        """Returns the study of the file with the descriptor `file`, or else in `memory`; or frames of the study; or
        DICOM objects of several files in `memory`. Returns the error as a dictionary if there is none."""
        try:
            if "sizes" in request:
                signal.setitimer(signal.ITIMER_PROF, self._cpu_s)
                self._frames = []
                return _dicom_objects(memory, request["sizes"])
            if "size" in request:
                signal.setitimer(signal.ITIMER_PROF, self._cpu_s)  # SIGPROF ends the process, inside a codec as well
                self._frames = []
                study = _read(memory[: request["size"]] if file is None else _content(file, request["size"]))
                self._frames = [instance.frames for instance in study.instances]
                return study
            return self._frames[request["instance"]].grey(request["indices"], request["smallest_side"])
        except InputError as error:
            return _refusal(error)
        except MemoryError:
            return _refusal(TooLarge("decoding the file takes more memory than one file may use; send less of it."))
        except Exception as error:  # a damaged file can make a reader fail in any way
            refused = NotAnImage(f"the file is damaged ({type(error).__name__} while reading it).")
            return {**_refusal(refused), "unexpected": described(error)}


def _content(file: int, size: int) -> bytes:
    with open(file, "rb") as source:
        source.seek(0)
        return source.read(size)


def _read(data: bytes) -> Study:
    with expansion_budget(MAX_EXPANDED_BYTES):
        return reading.read_study(data)


def _dicom_objects(memory: mmap.mmap, sizes: list[int]) -> tuple[list[str], list[np.ndarray], list[str]]:
    """Returns names and contents of the DICOM objects that the answers to files are, and what was left out. The files
    lie one after another in memory, and after them the answers to each as JSON."""
    from echoplane.dicom_results import objects_of_answers

    ends = list(itertools.accumulate(sizes))
    contents = [memory[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    answers = json.loads(contents.pop())
    parts = ((k, contents[k - 1], answers[k - 1]) for k in range(1, len(contents) + 1))
    objects, left_out = objects_of_answers(parts)
    return list(objects), [np.frombuffer(content, np.uint8) for content in objects.values()], left_out


def _refusal(error: InputError) -> dict[str, str]:
    return {"error": type(error).__name__, "message": str(error)}


def decode(requests: socket.socket, memory: mmap.mmap, cpu_s: float) -> None:
    """Answers requests until the service closes the socket: JSON on the socket, the content in `memory`."""
    reader = Reader(cpu_s)
    while True:
        message, passed, _, _ = socket.recv_fds(requests, MAX_MESSAGE_BYTES, 1)
        if not message:
            return
        answer = reader.answer(json.loads(message), passed[0] if passed else None, memory)
        try:
            length = wire.write(answer, memory)
        except TooLarge as error:
            length = wire.write(_refusal(error), memory)
        requests.send(LENGTH.pack(length))


def template(orders: socket.socket) -> None:
    """Follows orders until the service closes the socket."""
    decoders: set[int] = set()
    while True:
        readable, _, _ = select.select([orders], [], [], REAP_S)
        if readable:
            message, passed, _, _ = socket.recv_fds(orders, MAX_MESSAGE_BYTES, 2)
            order = json.loads(message or "{}")
            if "kill" in order:
                _kill(decoders & {order["kill"]})
            elif passed:
                if order["makes_objects"]:
                    importlib.import_module(OBJECTS_MODULE)
                decoders.add(_fork(orders, passed, order["data_bytes"], order["cpu_s"]))
            else:
                _kill(decoders)
                return
        decoders -= _ended(decoders)


def _fork(orders: socket.socket, passed: list[int], data_bytes: int, cpu_s: float) -> int:
    """Forks a decoder, which never returns; its process id is the first thing that it sends."""
    child = os.fork()
    if child:
        for number in passed:
            os.close(number)
        return child
    try:
        orders.close()
        requests, memory = socket.socket(fileno=passed[0]), mmap.mmap(passed[1], 0)
        limit_process(data_bytes, file_bytes=len(memory))
        confinement.confine()
        requests.send(str(os.getpid()).encode())
        decode(requests, memory, cpu_s)
    finally:
        os._exit(0)


def _kill(decoders: set[int]) -> None:
    for pid in decoders:
        os.kill(pid, signal.SIGKILL)  # not reaped yet, so the id is still theirs


def _ended(decoders: set[int]) -> set[int]:
    return {pid for pid in decoders if os.waitpid(pid, os.WNOHANG)[0]}


def load_decoders() -> None:
    """Loads what the readers load at first use, so that the first file does not wait for it, and silences warnings,
    which quote values of the file concerned."""
    warnings.simplefilter("ignore")
    set_up_pydicom()
    cv2.setNumThreads(1)
    picture_HWC = np.zeros((16, 16, 1), np.uint8)
    simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(picture_HWC, colorspace="GRAY"), "GRAY")
    cv2.resize(picture_HWC, (8, 8), interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    load_decoders()
    with contextlib.suppress(KeyboardInterrupt):
        template(socket.socket(fileno=int(sys.argv[1])))
