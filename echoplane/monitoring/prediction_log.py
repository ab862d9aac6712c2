"""The prediction log: one row per answered study, without patient, UID or free text.

A row is one line of JSON (schema 1, `Row`). The service appends rows to files in a folder; `echoplane drift` reads
them. Writing does not delay a request: rows wait in a bounded queue for a thread that writes them at least once per
FLUSH_S. A row that cannot be kept is dropped and counted, and never delays or fails an answer.
"""

import base64
import binascii
import contextlib
import gzip
import logging
import os
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from echoplane.errors import ConfigError
from echoplane.monitoring import metrics

FLUSH_S = 0.5
"""Maximum time in seconds that a row waits for others; a process that is killed loses no older row."""
MAX_WAITING = 4_096
"""Maximum number of rows in memory. The thread writes some 50,000 per second, so more wait only if the disk stalls."""
MAX_FILE_BYTES = 64 << 20
MIB = 1 << 20
COUNT_AGAIN_S = 10.0
"""Time in seconds after which the size of the folder is counted again."""
SUFFIX, COMPRESSED = ".jsonl", ".jsonl.gz"

log = logging.getLogger(__name__)


class Row(BaseModel):
    """One answered study."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    time: datetime
    """Time of the answer, UTC."""
    request_id: str
    """Id of the request, by which feedback is joined to the answer."""
    task: str
    model_version: str
    """Version number in MLflow; empty for a bundle folder."""
    bundle: str
    """Id of the bundle."""
    site: str
    """Label of the caller's access token; "none" without authentication."""
    manufacturer: str = ""
    """Manufacturer of the scanner, in listed words: see `echoplane.monitoring.device`. Empty if it is not stated,
    and in rows of older services."""
    device_model: str = ""
    """Model of the scanner, likewise."""
    label: str | None
    """Predicted label; None for "cannot tell"."""
    confidence: float | None
    """Confidence; None for a task that gives none."""
    probabilities: tuple[float, ...] = ()
    """Probability of each label, in the order of the labels; empty for a task that gives none, and in rows of older
    services."""
    features: dict[str, float]
    """Features of the input: see `echoplane.runtimes.features`."""
    embedding: str
    """The network's embedding, float16, base64."""
    timings_ms: dict[str, float]
    warnings: int
    """Number of warnings that the answer carried."""


def now() -> datetime:
    return datetime.now(UTC)


def packed(embedding: np.ndarray) -> str:
    """Returns `embedding` as a row stores it."""
    return base64.b64encode(np.asarray(embedding, "<f2").tobytes()).decode()


def unpacked(texts: Sequence[str], size: int | None = None) -> np.ndarray:
    """Returns the embeddings of rows, (row, feature) float32; NaN for one that has not `size` features, by default as
    many as the first."""
    if size is None:
        size = len(base64.b64decode(texts[0])) // np.dtype("<f2").itemsize
    unknown = np.full(size, np.nan, "<f2").tobytes()
    packed_rows = map(binascii.a2b_base64, texts)
    content = b"".join(one if len(one) == len(unknown) else unknown for one in packed_rows)
    return np.frombuffer(content, "<f2").astype(np.float32).reshape(len(texts), size)


class PredictionLog:
    """Appends rows to files below `folder`, up to `max_mib` in total; one instance per process.

    With `file_s`, a file ends after that time in seconds, so that it can be shipped. Raises ConfigError if the folder
    cannot be written.
    """

    def __init__(self, folder: Path, max_mib: int, file_s: float | None = None) -> None:
        self.folder, self._max_bytes, self._file_s = folder, max_mib * MIB, file_s
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._open_next()
        except OSError as error:
            raise ConfigError(f"the prediction log can't be written ({error.strerror}); give another folder.") from None
        self._waiting: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._full = False
        self._thread = threading.Thread(target=self._write_all, name="prediction-log", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        """File that rows are appended to."""
        return Path(self._file.name)

    def add(self, row: Row) -> None:
        """Queues `row` for writing; drops and counts it if too many wait."""
        if self._waiting.qsize() >= MAX_WAITING:
            metrics.LOG_ROWS.labels("dropped").inc()
        else:
            self._waiting.put(row)

    def close(self) -> None:
        """Writes the waiting rows and ends."""
        self._waiting.put(None)
        self._thread.join()
        self._file.close()

    def _write_all(self) -> None:
        ended = False
        while not ended:
            try:
                rows = [self._waiting.get(timeout=self._file_s)]
            except queue.Empty:
                self._end_old_file()
                continue
            time.sleep(FLUSH_S if rows[0] is not None and self._waiting.empty() else 0)
            while not self._waiting.empty():
                rows.append(self._waiting.get())
            ended = rows[-1] is None
            self._write([row for row in rows if row is not None])

    def _write(self, rows: list[Row]) -> None:
        if not rows:
            return
        content = "".join(f"{row.model_dump_json()}\n" for row in rows).encode()
        try:
            self._check_space(len(content))
            self._end_old_file()
            if self._file.tell() + len(content) > MAX_FILE_BYTES:
                self._open_next()
            self._file.write(content)
            self._file.flush()
        except OSError as error:
            metrics.LOG_ROWS.labels("dropped").inc(len(rows))
            if not self._full:
                log.warning("rows of the prediction log are dropped: %s", error.strerror or error)
            self._full = True
        else:
            metrics.LOG_ROWS.labels("written").inc(len(rows))
            self._folder_bytes += len(content)
            self._full = False

    def _check_space(self, size_bytes: int) -> None:
        """Raises OSError if the folder is full. Its size is a running total, counted again every COUNT_AGAIN_S: other
        processes write into the folder too, and files are removed."""
        if time.monotonic() > self._counted_s + COUNT_AGAIN_S:
            self._count()
        if self._folder_bytes + size_bytes > self._max_bytes:
            raise OSError("the folder holds as much as it may")

    def _count(self) -> None:
        self._folder_bytes = 0
        for path in self.folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # shipped meanwhile
                self._folder_bytes += path.stat().st_size
        self._counted_s = time.monotonic()

    def _end_old_file(self) -> None:
        old = self._file_s is not None and time.monotonic() - self._opened_s > self._file_s
        if old and self._file.tell():
            self._open_next()

    def _open_next(self) -> None:
        """Opens a new file that no other process uses: its name holds the time and the process."""
        name = f"predictions-{now():%Y%m%dT%H%M%S%f}-{os.getpid()}{SUFFIX}"
        before = getattr(self, "_file", None)
        self._file: BinaryIO = (self.folder / name).open("ab")
        self._opened_s = time.monotonic()
        if before:
            before.close()
        self._count()


def first_of_each(rows: Iterable[Row], seen: dict[tuple[str, str, str], None]) -> Iterator[Row]:
    """Yields the rows of requests that are not in `seen`, and adds them: a client that lost an answer sends the study
    again under the same request id, and it counts once."""
    for row in rows:
        key = (row.request_id, row.task, row.bundle)
        if key not in seen:
            seen[key] = None
            yield row


def rows_of(content: bytes, name: str) -> Iterator[Row]:
    """Yields the rows of one file, without a last line that is incomplete because its process ended. Raises ConfigError
    if another line is no row."""
    lines = (gzip.decompress(content) if name.endswith(COMPRESSED) else content).split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            yield Row.model_validate_json(line)
        except ValidationError:
            raise ConfigError(f"line {number} of {name} is no row of a prediction log.") from None
