"""Prints the share of lines that unit tests run, by package, from what `coverage json` wrote: `make coverage`."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEPTH = {"echoplane": 2, "serving": 2}
"""Number of folders that name a package; 1 for others."""


def package_of(file: str) -> str:
    """Returns the package whose share a file counts in: `echoplane/deid` for `echoplane/deid/key.py`."""
    folders = Path(file).parent.parts
    return "/".join(folders[: DEPTH.get(folders[0], 1)]) if folders else "."


def by_package(report: dict[str, Any]) -> Iterator[tuple[str, int, float]]:
    """Yields name, number of statements and percentage run of each package, then of all."""
    statements: Counter[str] = Counter()
    run: Counter[str] = Counter()
    for file, found in report["files"].items():
        for name in (package_of(file), "all"):
            statements[name] += found["summary"]["num_statements"]
            run[name] += found["summary"]["covered_lines"]
    for name in sorted(statements, key=lambda name: (name == "all", name)):
        yield name, statements[name], 100 * run[name] / max(statements[name], 1)


def main() -> int:
    sys.stdout.write("| package | statements | run by unit tests |\n|---|---|---|\n")
    for name, statements, percent in by_package(json.loads(Path(sys.argv[1]).read_text())):
        sys.stdout.write(f"| {name} | {statements:,} | {percent:.0f} % |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
