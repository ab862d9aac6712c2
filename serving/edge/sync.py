"""Sends the report of the device, and spooled results, to the installation when it can be reached.

Spooled results are the files of the prediction log. A part of a file is sent under the file's name and the byte where
it begins, so a part that is sent again replaces itself: nothing is counted twice, and nothing is deleted before it
has arrived.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from echoplane.edge.fleet import Report
from echoplane.errors import EchoplaneError
from echoplane.files import write_atomically
from echoplane.monitoring.prediction_log import SUFFIX

log = logging.getLogger("echoplane.edge")

MIB = 1 << 20
MAX_PART_BYTES = 4 * MIB
IDLE_S = 7 * 86_400
Put = Callable[[str, bytes], None]


class Unsent(EchoplaneError):
    """Raised if the installation cannot be reached; what was to be sent is kept."""


def putter(place: str, client: httpx.Client) -> Put:
    """Returns a function that writes an object by its name below `place`, an address or a folder."""
    if not place.startswith(("http://", "https://")):
        return lambda name, content: write_atomically(Path(place) / name, content)

    def put(name: str, content: bytes) -> None:
        try:
            response = client.put(f"{place.rstrip('/')}/{name}", content=content)
        except httpx.HTTPError as error:
            raise Unsent(f"the installation is out of reach ({type(error).__name__}).") from None
        if not response.is_success:
            raise Unsent(f"the installation refused an object with HTTP {response.status_code}.")

    return put


def send_report(put: Put, report: Report, sealed: Callable[[bytes], bytes]) -> None:
    """Writes the report, `sealed` by the device's signature, in place of the one before it. Raises Unsent or OSError if
    it does not arrive."""
    put(f"{report.device}.json", sealed(report.model_dump_json(indent=1).encode()))


def send_results(
    put: Put, device: str, folder: Path, sent: Mapping[str, int], record: Callable[[dict[str, int]], None]
) -> None:
    """Sends the complete lines of the files in `folder` that were not sent, oldest first; deletes files that arrived
    whole and to which the service no longer writes. `record` keeps how far each file was sent.

    Raises Unsent or OSError if a part does not arrive; the next call continues there.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
    done = {path.name: sent.get(path.name, 0) for path in paths}
    for path in paths:
        while part := next_part(path, done[path.name]):
            put(f"{device}/{path.stem}-{done[path.name]:012d}{SUFFIX}", part)
            done[path.name] += len(part)
            record(dict(done))
    for path in _finished(paths):
        if done[path.name] == path.stat().st_size:
            path.unlink()
            del done[path.name]
    record(done)


def _finished(paths: list[Path]) -> list[Path]:
    """Returns the files to which nobody writes any more: a process writes to its newest file alone, and one that has
    written nothing for IDLE_S while another did has ended. `paths` are oldest first."""
    newest = {path.stem.rpartition("-")[2]: path for path in paths}
    latest_s = paths[-1].stat().st_mtime if paths else 0.0
    return [path for path in paths if path not in newest.values() or path.stat().st_mtime < latest_s - IDLE_S]


def waiting_bytes(folder: Path, sent: Mapping[str, int]) -> int:
    """Returns the number of spooled bytes that were not sent."""
    return sum(max(0, path.stat().st_size - sent.get(path.name, 0)) for path in folder.glob(f"*{SUFFIX}"))


def next_part(path: Path, start: int) -> bytes:
    """Returns the next complete lines of a file, at most MAX_PART_BYTES unless one line is longer."""
    with path.open("rb") as file:
        file.seek(start)
        content = file.read(MAX_PART_BYTES)
        if len(content) == MAX_PART_BYTES and b"\n" not in content:
            content += file.readline()
    return content[: content.rfind(b"\n") + 1]
