"""Reads a prediction log bit by bit: each row once, whatever process reads on.

The log is a folder, or the objects under an `s3://` address. Lines are appended to `.jsonl` files; `.jsonl.gz` files
and objects never change. `Positions` says how many bytes of each have been read; who stores it together with what it
made of the rows loses no row and counts none twice.
"""

import gzip
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from echoplane import storage
from echoplane.collection import collection_paused
from echoplane.errors import EchoplaneError
from echoplane.monitoring.prediction_log import COMPRESSED, SUFFIX, Row
from echoplane.storage import BUCKET, Stored

MAX_STEP_BYTES = 32 << 20
"""Maximum number of bytes that one step reads; it bounds the memory."""
DAMAGED = b"damaged\n"
"""Content that stands for a compressed file that cannot be read; it counts as a line that is no row."""

Positions = Mapping[str, int]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """New rows, oldest first; the positions after them; the number of lines that are no rows; True if there is more."""

    rows: list[Row]
    positions: dict[str, int]
    bad_lines: int
    more: bool


@collection_paused()
def read_step(place: str, positions: Positions) -> Step:
    """Returns the next rows of the log at `place` after `positions`; none if the folder does not exist yet."""
    files = _files(place)
    after = {one.name: positions.get(one.name, 0) for one in files}
    rows: list[Row] = []
    bad_lines = step_bytes = 0
    for one in files:
        if after[one.name] >= one.size:
            continue
        if step_bytes >= MAX_STEP_BYTES:
            return Step(_sorted(rows), after, bad_lines, more=True)
        content, after[one.name], is_rest = _content(place, one, after[one.name], MAX_STEP_BYTES - step_bytes)
        step_bytes += len(content)
        found, bad = _rows(content)
        rows += found
        bad_lines += bad
        if not is_rest:
            return Step(_sorted(rows), after, bad_lines, more=True)
    return Step(_sorted(rows), after, bad_lines, more=False)


def _files(place: str) -> list[Stored]:
    if not place.startswith(BUCKET) and not Path(place).is_dir():
        return []
    return [one for one in storage.listed(place) if one.name.endswith((SUFFIX, COMPRESSED))]


def _content(place: str, file: Stored, start: int, limit: int) -> tuple[bytes, int, bool]:
    """Returns whole lines from byte `start` on, the position after them, and whether they are the rest of the file."""
    try:
        if file.name.endswith(COMPRESSED):
            return gzip.decompress(storage.content(place, file.name)), file.size, True
        if place.startswith(BUCKET):
            return storage.content(place, file.name), file.size, True
        with (Path(place) / file.name).open("rb") as opened:
            opened.seek(start)
            content = opened.read(max(limit, 1 << 16))
    except FileNotFoundError:  # it was shipped and removed meanwhile
        return b"", file.size, True
    except (EOFError, gzip.BadGzipFile):
        return DAMAGED, file.size, True
    whole = content[: content.rfind(b"\n") + 1]
    return whole, start + len(whole), start + len(content) >= file.size


def _rows(content: bytes) -> tuple[list[Row], int]:
    rows, bad_lines = [], 0
    for line in content.splitlines():
        try:
            rows.append(Row.model_validate_json(line))
        except ValidationError:
            bad_lines += 1
    return rows, bad_lines


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.time)


def log_size_bytes(place: str) -> int:
    """Returns the size of the log, 0 if it can't be listed."""
    try:
        return sum(one.size for one in _files(place))
    except EchoplaneError:
        return 0
