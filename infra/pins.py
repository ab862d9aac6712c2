"""The packages that images hold, from requirements/*.txt."""

import re
from collections import defaultdict
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
SHIPPED = ("serving", "worker", "mlflow", "triton", "edge")
PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)")


def pinned(names: tuple[str, ...] = SHIPPED) -> dict[tuple[str, str], list[str]]:
    """Returns the requirement files of each (package, version)."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        for line in (CHECKOUT / "requirements" / f"{name}.txt").read_text().splitlines():
            if pin := PIN.match(line):
                found[normal(pin[1]), pin[2]].append(name)
    return dict(found)


def normal(name: str) -> str:
    """Returns a package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
