"""HTTP downloads that resume at the byte where they were cut, in this run or a later one."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from echoplane.errors import EchoplaneError

TRIES = 3
"""Consecutive tries without a new byte, after which the download waits for the agent's next cycle."""
PAUSE_S = 1.0


class Interrupted(EchoplaneError):
    """Raised if a download could not finish now; what has arrived is kept, and the next call continues there."""


def download(
    client: httpx.Client, url: str, path: Path, size_bytes: int, wait: Callable[[float], None] = time.sleep
) -> None:
    """Completes `path`, unverified. Raises Interrupted after TRIES without progress, or if more than that is sent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tries, have = 0, _size(path)
    while have != size_bytes:
        problem = _continue(client, url, path, have, size_bytes)
        now = _size(path)
        if now > size_bytes:
            path.unlink()
            raise Interrupted(f"the repository sends more than the {size_bytes:,} bytes that were signed.")
        tries = 0 if now > have else tries + 1
        have = now
        if problem and tries >= TRIES:
            raise Interrupted(
                f"the download stopped at byte {have:,} of {size_bytes:,} ({problem}); it continues there."
            )
        if problem:
            wait(PAUSE_S * 2**tries)


def _continue(client: httpx.Client, url: str, path: Path, have: int, size_bytes: int) -> str:
    """Appends what arrives and returns why it ended early, or an empty text."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with client.stream("GET", url, headers=headers) as response:
            continued = response.status_code == httpx.codes.PARTIAL_CONTENT and _starts_at(response, have)
            if not continued and response.status_code != httpx.codes.OK:
                return f"HTTP {response.status_code}"
            with path.open("ab" if continued else "wb") as file:
                _copy(response, file.write, size_bytes - (have if continued else 0))
                file.flush()
                os.fsync(file.fileno())
    except httpx.HTTPError as error:
        return type(error).__name__
    return "" if _size(path) >= size_bytes else "the connection was closed"


def _copy(response: httpx.Response, write: Callable[[bytes], object], at_most: int) -> None:
    """Writes the body, at most one byte more than expected: a longer file is then found to be wrong."""
    left = at_most + 1
    for chunk in response.iter_raw():  # without a size: httpx would hold back bytes that a cut then loses
        write(chunk[:left])
        left -= len(chunk)
        if left <= 0:
            return


def _starts_at(response: httpx.Response, have: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
