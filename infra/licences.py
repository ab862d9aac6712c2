"""Licences of all that images hold: `make licences` fails on a licence that is not permissive, or not clear.

Each package's own metadata says its licence; `infra/licences.csv` holds the exceptions, each with its reason. Native
libraries inside wheels are searched by name for codecs under the GPL.
"""

import csv
import re
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

from infra.pins import CHECKOUT, normal, pinned

EXCEPTIONS = CHECKOUT / "infra" / "licences.csv"
GPL_LIBRARY = re.compile(r"lib(x264|x265|xvidcore|postproc|fftw3|readline|gsl)\b")
PERMISSIVE = frozenset(
    (
        *("0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear", "BSL-1.0", "CC0-1.0"),
        *("HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
    )
)
"""MPL-2.0 asks for the source of its own changed files only, and nothing here changes them."""
SPDX = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache-2.0 with llvm-exception": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd license": "BSD",
    "mit license": "MIT",
    "mit licensed, as found in the license file": "MIT",
    "osi approved/mit license": "MIT",
    "mozilla public license 2.0 mpl 2.0": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "isc license iscl": "ISC",
    "the unlicense unlicense": "Unlicense",
}


def licence_of(name: str) -> str:
    """Returns the licence that an installed package states; empty if it states none, or is not installed."""
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ""
    if expression := about.get("License-Expression"):
        return expression
    classifiers = [
        one.split("::")[-1].strip() for one in about.get_all("Classifier") or [] if one.startswith("License")
    ]
    stated = " AND ".join(one for one in classifiers if one != "OSI Approved")
    return stated or (about.get("License") or "").strip().split("\n")[0]


def is_permissive(licence: str) -> bool:
    """Returns True if every licence that must be kept is permissive; of alternatives, one must be."""
    parts = re.split(r"\bAND\b", licence.replace("(", "").replace(")", ""))
    return all(any(_spdx(one) in PERMISSIVE for one in re.split(r"\bOR\b", part)) for part in parts)


def _spdx(licence: str) -> str:
    return SPDX.get(licence.strip().lower(), licence.strip())


def exceptions(path: Path = EXCEPTIONS) -> dict[str, dict[str, str]]:
    """Returns the table of exceptions by package. Raises SystemExit if one has no reason."""
    with path.open(newline="") as file:
        rows = {normal(row["package"]): row for row in csv.DictReader(file)}
    if unexplained := [name for name, row in rows.items() if not (row["licence"] and row["reason"])]:
        raise SystemExit(f"{path.name}: no licence or reason for {', '.join(unexplained)}")
    return rows


def problems(names: set[str], excepted: dict[str, dict[str, str]]) -> list[str]:
    """Returns a sentence for each package whose licence is not accepted, and for each exception that is not needed."""
    found = []
    for name in sorted(names):
        licence = licence_of(name)
        if name in excepted:
            if licence and is_permissive(licence):
                found.append(f"{name}: {licence} needs no exception; remove its line.")
        elif not licence:
            found.append(f"{name}: it states no licence, or is not installed here; find it out and add a line.")
        elif not is_permissive(licence):
            found.append(f"{name}: {licence} is not permissive; leave the package out, or add a line with the reason.")
        found += [f"{name}: it holds {library}, which is under the GPL." for library in gpl_libraries(name)]
    return found + [f"{name}: no image holds it; remove its line." for name in sorted(set(excepted) - names)]


def gpl_libraries(name: str) -> list[str]:
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:
        return []
    return [file.name for file in files if ".so" in file.name and GPL_LIBRARY.match(file.name)]


def main() -> int:
    names, excepted = {name for name, _ in pinned()}, exceptions()
    found = problems(names, excepted)
    for name, row in sorted(excepted.items()):
        print(f"{name}: {row['licence']}; {row['reason']}")
    counts = Counter(_spdx(licence_of(name).replace("(", "").replace(")", "")) for name in names - set(excepted))
    print(f"{len(names)} packages: " + ", ".join(f"{count} {licence}" for licence, count in counts.most_common()))
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
