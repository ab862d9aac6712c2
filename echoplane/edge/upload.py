"""A copy of the repository in a folder or below `s3://BUCKET/PREFIX`, and the reports of devices there.

The files that no metadata mentions yet are copied first and `timestamp.json` last, so a device sees either the old
state or the new one.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from echoplane import storage
from echoplane.edge.fleet import Received, Seen, read_report
from echoplane.edge.identity import is_signed, unsealed
from echoplane.errors import ConfigError
from echoplane.files import write_atomically

ORDER = ("targets/", "metadata/")
LAST = "metadata/timestamp.json"
SUFFIX = ".json"
MAX_REPORT_BYTES = 64 << 10


def upload(folder: Path, place: str) -> int:
    """Copies what `place` lacks and returns the number of files. Raises ConfigError if the bucket does not exist."""
    write = _writer(place)
    present = _names(place)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    files = [name for start in ORDER for name in files if name.startswith(start) and name != LAST]
    missing = [name for name in files if name not in present]  # a file with a version or a digest in its name is final
    for name in [*missing, LAST]:
        write(name, (folder / name).read_bytes())
    return len(missing) + 1


def receive(place: str, keys: Mapping[str, str] | None = None) -> Received:
    """Reads the report of each device in `place`. A report counts only under the name of its device, since devices may
    write to their own name alone; with the public `keys` (PEM) of enrolled devices, only if that device signed it."""
    listed = [one for one in storage.listed(place) if one.name.endswith(SUFFIX) and "/" not in one.name]
    found = {one.name: _seen(place, one, keys) for one in listed}
    return Received([seen for seen in found.values() if seen], [name for name, seen in found.items() if not seen])


def _seen(place: str, file: storage.Stored, keys: Mapping[str, str] | None) -> Seen | None:
    if file.size > MAX_REPORT_BYTES:
        return None
    try:
        content, signature = unsealed(storage.content(place, file.name))
    except FileNotFoundError:  # it was replaced or removed meanwhile
        return None
    report = read_report(content)
    if report is None or f"{report.device}{SUFFIX}" != file.name:
        return None
    if keys is not None and not (report.device in keys and is_signed(content, signature, keys[report.device])):
        return None
    return Seen(report, datetime.fromtimestamp(file.changed_ns / 1e9, UTC))


def _names(place: str) -> set[str]:
    try:
        return {one.name for one in storage.listed(place)}
    except ConfigError:
        return set()


def _writer(place: str) -> Callable[[str, bytes], None]:
    if not place.startswith(storage.BUCKET):
        return lambda name, content: write_atomically(Path(place) / name, content)
    return lambda name, content: storage.write(place, name, content)
