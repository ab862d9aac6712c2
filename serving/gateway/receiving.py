"""Incoming files: written piece by piece into the store's folder, with their size and first error.

An error while writing is kept and not raised: pynetdicom writes on the thread of its network connection, where an
exception would end the association without a status. Whoever stores the file looks at `error` first.
"""

import functools
import os
import secrets
import weakref
from pathlib import Path
from typing import BinaryIO

from serving.gateway.instances import Refused, invalid, out_of_resources


class IncomingFile:
    """A new file with a random name, readable by its owner alone; it goes with this object unless the store takes it.

    It offers what pynetdicom uses of a named temporary file: `name`, `file`, `write`, `flush` and `close`.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.path = folder / secrets.token_hex(16)
        self.size_bytes = 0
        self.error: Refused | None = None
        self._max_bytes = max_bytes
        self._file: BinaryIO | None = None
        # pynetdicom forgets a file whose association ends before its last piece
        weakref.finalize(self, functools.partial(self.path.unlink, missing_ok=True))
        try:
            self._file = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        except OSError:
            self.error = out_of_resources()

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def file(self) -> "IncomingFile":
        return self

    def write(self, data: bytes) -> int:
        """Adds `data`; after an error, and beyond the maximum size, the rest is dropped."""
        if self.error is None and self._file is not None:
            self.size_bytes += len(data)
            try:
                if self.size_bytes > self._max_bytes:
                    raise invalid("the instance is too large")
                self._file.write(data)
            except OSError:
                self._stop(out_of_resources())
            except Refused as refused:
                self._stop(refused)
        return len(data)

    def flush(self) -> None:
        """Does nothing: the data are flushed once, by `sync`."""

    def sync(self) -> None:
        """Flushes the file to disk. Raises Refused if it could not be written whole."""
        if self.error is None and self._file is not None:
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError:
                self._stop(out_of_resources())
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                self.error = self.error or out_of_resources()
            self._file = None

    def discard(self) -> None:
        """Removes the file, unless the store has taken it."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _stop(self, error: Refused) -> None:
        """Keeps the error and frees the space."""
        self.error = error
        self.discard()
