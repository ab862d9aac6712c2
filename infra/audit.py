"""Known weaknesses of all that images hold: `make audit FILE=...`, against a database in the format of OSV.

FILE is the export of an ecosystem (a zip of JSON files), a folder of JSON files, or one of them; nothing is fetched.
Only entries for PyPI count, those withdrawn do not. Exit status 1 if a pinned version is affected, 2 if FILE holds no
entry.
"""

import argparse
import json
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from infra.pins import normal, pinned

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """A weakness that concerns a pinned version."""

    id: str
    package: str
    version: str
    images: tuple[str, ...]
    fixed: tuple[str, ...]
    """Versions without it, as far as the entry names them."""
    summary: str

    def __str__(self) -> str:
        remedy = f"fixed in {', '.join(self.fixed)}" if self.fixed else "no fixed version is named"
        return f"{self.id}: {self.package} {self.version} ({', '.join(self.images)}); {remedy}. {self.summary}"


def entries(path: Path) -> Iterator[Entry]:
    """Yields the entries of a zip, a folder or a file. Raises ValueError if one is no JSON object."""
    if path.is_dir():
        contents: Iterator[bytes] = (one.read_bytes() for one in sorted(path.rglob("*.json")))
    elif zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        contents = (archive.read(name) for name in archive.namelist() if name.endswith(".json"))
    else:
        contents = iter([path.read_bytes()])
    for content in contents:
        stated = json.loads(content)
        for entry in stated if isinstance(stated, list) else [stated]:
            if not isinstance(entry, dict) or "id" not in entry:
                raise ValueError("an entry has no id")
            yield entry


def findings(entry: Entry, pins: Mapping[tuple[str, str], list[str]]) -> Iterator[Finding]:
    """Yields each pinned version that an entry concerns."""
    if entry.get("withdrawn"):
        return
    versions = defaultdict(list)
    for name, version in pins:
        versions[name].append(version)
    for affected in entry.get("affected", ()):
        package = affected.get("package", {})
        if package.get("ecosystem") != "PyPI":
            continue
        name = normal(package.get("name", ""))
        for version in versions.get(name, ()):
            if is_affected(version, affected):
                fixed = [
                    event["fixed"]
                    for part in affected.get("ranges", ())
                    for event in part["events"]
                    if "fixed" in event
                ]
                yield Finding(
                    entry["id"], name, version, tuple(pins[name, version]), tuple(fixed), entry.get("summary", "")
                )


def is_affected(version: str, affected: Entry) -> bool:
    """Returns True if an `affected` object of the OSV format, version 1.7, holds the version: by name, or by a range.

    A range that can't be compared counts as one that holds it.
    """
    if version in affected.get("versions", ()):
        return True
    ranges = [part["events"] for part in affected.get("ranges", ()) if part.get("type") in ("ECOSYSTEM", "SEMVER")]
    try:
        return any(_in_range(Version(version), events) for events in ranges)
    except InvalidVersion:
        return True


def _in_range(version: Version, events: list[dict[str, str]]) -> bool:
    def at(event: dict[str, str]) -> Version:
        stated = next(iter(event.values()))
        return Version("0.dev0" if stated == "0" else stated)

    inside = False
    for event in sorted(events, key=at):
        if "introduced" in event:
            inside = inside or version >= at(event)
        elif "fixed" in event:
            inside = inside and version < at(event)
        elif "last_affected" in event:
            inside = inside and version <= at(event)
    return inside


def main() -> int:
    parser = argparse.ArgumentParser("python -m infra.audit", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, help="an OSV database: a zip, a folder or a JSON file")
    path, pins, read, found = parser.parse_args().file, pinned(), 0, []
    try:
        for entry in entries(path):
            read += 1
            found += findings(entry, pins)
    except (OSError, ValueError) as error:
        print(f"{path} can't be read as a database in OSV's format ({error}).", file=sys.stderr)
        return 2
    if not read:
        print(f"{path} holds no entry; give OSV's export of PyPI.", file=sys.stderr)
        return 2
    for finding in sorted(found, key=str):
        print(finding)
    print(f"{len(pins)} packages against {read} entries: {len(found)} finding(s)")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
