"""A warm pool of decoder processes: each reads one file at a time, and is killed at the deadline and replaced.

Content goes through memory that the service and one decoder share. The service copies out of it and checks what it
reads, since a decoder may have been taken over by the file.
"""

import contextlib
import fcntl
import io
import json
import mmap
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
import psutil

from echoplane.errors import NotAnImage, TooLarge, Unsupported, UnusableStudy
from echoplane.study.limits import MIB
from echoplane.study.study import Study
from serving.api.decoding import process, wire
from serving.api.decoding.deadline import Deadline, DeadlineReached
from serving.api.decoding.template import TEMPLATE
from serving.api.failures import log

MIN_SHARED_BYTES = 1024 * MIB
"""Minimum size of the memory that is shared with one decoder. Only the pages that are in use take memory."""
KEPT_BYTES = 16 * MIB
"""Part of the shared memory whose pages stay in use: new ones would cost milliseconds per file."""
DATA_BYTES = 1024 * MIB
"""Memory that one decoder may use beside the copy of the file."""
REFUSALS = {kind.__name__: kind for kind in (NotAnImage, TooLarge, Unsupported, UnusableStudy)}
CPU_S = 10.0
"""Time of one core that a file may take to be read and decoded. It is less than the default deadline, so that such a
file is refused as one that can't be used; a deadline says that the service was late."""
LONG_S = 0.5
"""Time for one answer after which a decoder has a lower priority than others, until it is replaced after this file."""
LOWER_BY = 10
"""Steps of nice(2): about a tenth of the share of a process with the usual priority."""
LARGE_CPU_S = 2.0
"""Time of one core after which a file is too large for its deadline; below, it is the service that was late."""
OBJECT_NAME = re.compile(r"[0-9]{2,6}-[a-z-]{1,40}\.dcm")
"""Names of the DICOM files that a decoder makes; another one could write outside the folder that a zip is opened in."""
DIED = (
    "the file ended the process that reads it: it is damaged, or takes more memory or time than one file may use. "
    "Export it again as JPEG or uncompressed DICOM."
)


class Decoders:
    """At most `size` decoders, for files of at most `max_file_bytes`."""

    def __init__(self, size: int, max_file_bytes: int) -> None:
        self._max_file_bytes = max_file_bytes
        self._free = threading.Semaphore(size)
        self._idle: list[_Decoder] = []
        self._size = size

    def start(self) -> None:
        """Starts all decoders, without waiting for them; otherwise each starts when it is first needed."""
        self._idle += [_Decoder(self._max_file_bytes) for _ in range(self._size - len(self._idle))]

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @contextlib.contextmanager
    def reading(self, file: BinaryIO, deadline: Deadline, request_id: str = "") -> Iterator[Study]:
        """Yields the study in a file; its frames are decoded on demand while the context lasts.

        Raises InputError with the reason if there is none, DeadlineReached at the deadline; frames raise the same.
        """
        with self._place(deadline):
            decoder = self._living(self._idle.pop() if self._idle else None)  # an idle one can have been ended
            lease = _Lease(decoder, deadline, request_id)
            try:
                yield lease.study(file)
            finally:
                lease.ended = True
                self._idle.append(self._living(decoder))

    def dicom_objects(
        self, answered: Sequence[tuple[BinaryIO, Sequence[Mapping[str, Any]]]], deadline: Deadline, request_id: str = ""
    ) -> tuple[dict[str, bytes], list[str]]:
        """Returns the answers to files as DICOM files by name, and a sentence for each answer that none was made of;
        see `echoplane.dicom_results`. Raises InputError if none can be made, DeadlineReached at the deadline."""
        with self._place(deadline), contextlib.closing(_Decoder(self._max_file_bytes, makes_objects=True)) as decoder:
            return _Lease(decoder, deadline, request_id).dicom_objects(answered)

    @contextlib.contextmanager
    def _place(self, deadline: Deadline) -> Iterator[None]:
        """Limits how many decoders work at once."""
        if not self._free.acquire(timeout=deadline.left_s()):
            raise DeadlineReached(deadline)
        try:
            yield
        finally:
            self._free.release()

    def _living(self, decoder: "_Decoder | None") -> "_Decoder":
        """Returns the decoder if it lives, else one in its place."""
        if decoder is not None:
            if decoder.alive():
                return decoder
            decoder.close()
        return _Decoder(self._max_file_bytes)


class _Decoder:
    """One process, the socket on which it answers, and the memory shared with it."""

    def __init__(self, max_file_bytes: int, *, makes_objects: bool = False) -> None:
        self._pid: int | None = None
        self._alive, self._low_priority = True, False
        self._cpu_before_s = 0.0
        size = max(MIN_SHARED_BYTES, max_file_bytes)
        number = os.memfd_create("decoder", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(number, size)
            # without the seal, a decoder could shrink the memory under this process
            fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._memory = mmap.mmap(number, size)
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                limits = {"data_bytes": DATA_BYTES, "cpu_s": CPU_S}
                TEMPLATE.fork([theirs.fileno(), number], {**limits, "makes_objects": makes_objects})
        finally:
            os.close(number)

    def alive(self) -> bool:
        """Returns False if it has ended, has a low priority, or does not behave as a decoder does."""
        if self._low_priority:
            return False
        if self._alive and self._pid is not None:
            self._socket.setblocking(False)
            try:
                self._socket.recv(1, socket.MSG_PEEK)  # nothing, not even the end, is to be read between requests
                self._alive = False
            except OSError as error:
                self._alive = isinstance(error, BlockingIOError)
        return self._alive

    def close(self) -> None:
        if self._pid is not None:
            TEMPLATE.kill(self._pid)
        self._alive = False
        self._socket.close()
        self._memory.close()

    def put(self, file: Any, size: int, start: int = 0) -> int:
        """Copies a file of `size` bytes to the shared memory from `start`; returns the end. Raises TooLarge if the
        memory is too small."""
        if start + size > len(self._memory):
            raise TooLarge(f"the files have more than {len(self._memory) // MIB} MiB together; send fewer.")
        with memoryview(self._memory) as whole, whole[start : start + size] as part:
            file.readinto(part)
        return start + size

    def ask(self, request: dict[str, Any], deadline: Deadline, descriptors: Sequence[int] = ()) -> Any:
        """Returns the answer. Raises at the deadline TooLarge if it was at work, else DeadlineReached; UnusableStudy if
        the process ends or answers nonsense. It is then not alive any more."""
        self._wait_for_start(deadline)
        if "size" in request:
            self._cpu_before_s = self._cpu_s()
        try:
            self._socket.settimeout(max(0.001, deadline.left_s()))
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            (length,) = process.LENGTH.unpack(self._received(deadline))
            answer = wire.read(self._memory, length)
        except TimeoutError:
            self._alive = False
            if self._cpu_s() - self._cpu_before_s >= LARGE_CPU_S:
                raise TooLarge(f"it takes more than {deadline.limit_s:g} s to decode; send fewer frames.") from None
            raise DeadlineReached(deadline) from None
        except (OSError, ValueError, KeyError, TypeError, IndexError, struct.error):
            self._alive = False
            raise UnusableStudy(DIED) from None
        self._memory.madvise(mmap.MADV_REMOVE, KEPT_BYTES)
        return answer

    def _received(self, deadline: Deadline) -> bytes:
        """Returns the message that ends an answer. A decoder that works long makes way for those with short work."""
        with contextlib.suppress(TimeoutError):
            self._socket.settimeout(max(0.001, min(LONG_S, deadline.left_s())))
            return self._socket.recv(process.LENGTH.size)
        self._low_priority = True  # only a privileged user could raise it again
        with contextlib.suppress(psutil.Error):  # it ended just now
            decoder = psutil.Process(self._pid)
            decoder.nice(min(19, decoder.nice() + LOWER_BY))
        self._socket.settimeout(max(0.001, deadline.left_s()))
        return self._socket.recv(process.LENGTH.size)

    def _cpu_s(self) -> float:
        """Returns the time of one core that the process has used; 0 if it has ended."""
        try:
            times = psutil.Process(self._pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def _wait_for_start(self, deadline: Deadline) -> None:
        if self._pid is not None:
            return
        self._socket.settimeout(max(0.001, deadline.left_s()))
        try:
            self._pid = int(self._socket.recv(process.MAX_MESSAGE_BYTES))
        except TimeoutError:
            raise DeadlineReached(deadline) from None
        except (OSError, ValueError):
            self._alive = False
            raise RuntimeError("the process that forks decoders did not start; its standard error says why.") from None


class _Lease:
    """One file in one decoder, until the deadline."""

    def __init__(self, decoder: _Decoder, deadline: Deadline, request_id: str) -> None:
        self._decoder, self._deadline, self._request_id = decoder, deadline, request_id
        self.ended = False

    def study(self, file: BinaryIO) -> Study:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if on_disk := getattr(file, "_rolled", not isinstance(file, io.BytesIO)):  # a SpooledTemporaryFile knows it
            file.flush()
        else:
            self._decoder.put(file, size)
        study = self.ask({"size": size}, [file.fileno()] if on_disk else [])
        if not isinstance(study, Study):
            raise UnusableStudy(DIED)
        instances = enumerate(study.instances)
        return replace(study, instances=tuple(replace(one, frames=_Frames(self, i)) for i, one in instances))

    def dicom_objects(
        self, answered: Sequence[tuple[BinaryIO, Sequence[Mapping[str, Any]]]]
    ) -> tuple[dict[str, bytes], list[str]]:
        sizes, end = list[int](), 0
        answers = io.BytesIO(json.dumps([list(each) for _, each in answered]).encode())
        for file in (*(file for file, _ in answered), answers):
            sizes.append(file.seek(0, os.SEEK_END))
            file.seek(0)
            end = self._decoder.put(file, sizes[-1], end)
        answer = self.ask({"size": end, "sizes": sizes})
        try:
            names, contents, left_out = answer
            objects = {name: content.tobytes() for name, content in zip(names, contents, strict=True)}
            if not all(OBJECT_NAME.fullmatch(name) for name in objects):
                raise ValueError("a name that no object has")
            return objects, [str(sentence) for sentence in left_out]
        except (TypeError, ValueError, AttributeError):
            raise UnusableStudy(DIED) from None

    def ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> Any:
        if self.ended:
            raise RuntimeError("frames are decoded while the file is open only; its decoder may read another by now.")
        answer = self._decoder.ask(request, self._deadline, descriptors)
        if isinstance(answer, dict):
            if "unexpected" in answer:
                log.error("request %s failed: %.300r", self._request_id, answer["unexpected"])
            raise REFUSALS.get(answer.get("error", ""), UnusableStudy)(str(answer.get("message", DIED)))
        return answer


@dataclass(frozen=True)
class _Frames:
    """Frames of one instance, decoded by the process that has read it."""

    lease: _Lease
    instance: int

    def grey(self, indices: Sequence[int], smallest_side: int | None = None) -> np.ndarray:
        """Returns frames `indices` as uint8 (frame, row, column); see `echoplane.study.study.Frames`."""
        asked = {"instance": self.instance, "indices": list(map(int, indices)), "smallest_side": smallest_side}
        frames_THW = self.lease.ask(asked)
        if not isinstance(frames_THW, np.ndarray) or frames_THW.dtype != np.uint8 or frames_THW.ndim != 3:
            raise UnusableStudy(DIED)
        return frames_THW
