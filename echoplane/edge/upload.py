"""A copy of the repository in a folder or below `s3://BUCKET/PREFIX`, and the reports of devices there.

The files that no metadata mentions yet are copied first and `timestamp.json` last, so a device sees either the old
state or the new one.
"""

from collections.abc import Callable
from pathlib import Path

from echoplane import storage
from echoplane.edge.fleet import Report, read_report
from echoplane.errors import ConfigError
from echoplane.files import write_atomically

ORDER = ("targets/", "metadata/")
LAST = "metadata/timestamp.json"


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


def read_reports(place: str) -> list[Report]:
    """Returns the newest report of each device in `place`; what is no report is left out."""
    contents = [storage.content(place, one.name) for one in storage.listed(place) if one.name.endswith(".json")]
    reports = filter(None, map(read_report, contents))
    return list({r.device: r for r in sorted(reports, key=lambda report: report.time)}.values())


def _names(place: str) -> set[str]:
    try:
        return {one.name for one in storage.listed(place)}
    except ConfigError:
        return set()


def _writer(place: str) -> Callable[[str, bytes], None]:
    if not place.startswith(storage.BUCKET):
        return lambda name, content: write_atomically(Path(place) / name, content)
    return lambda name, content: storage.write(place, name, content)


def devices_of(reports: list[Report], named: str) -> list[str]:
    """Returns the ids of all known devices: those that reported, and those in the comma separated list `named`."""
    return sorted({report.device for report in reports} | {one.strip() for one in named.split(",") if one.strip()})
