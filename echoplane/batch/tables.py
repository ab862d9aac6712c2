"""Writes the rows of a batch as results.json, results.csv and report.html."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from echoplane.batch.answers import ABSTAINED, ANSWERED, REFUSED, Row
from echoplane.html import render

RESEARCH_USE = "Research use only. Not a medical device."
COLUMNS = ("study", "outcome", "label", "title", "confidence", "reason", "warnings", "sha256")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
SHOWN = 1000
"""Maximum number of rows on the page; those without an answer come first."""


def counts(rows: Sequence[Row]) -> dict[str, Any]:
    """Returns the number of studies by outcome and of answers by label."""
    outcomes = Counter(row.outcome for row in rows)
    labels = Counter(row.label for row in rows if row.outcome == ANSWERED)
    return {
        "studies": len(rows),
        **{name: outcomes[name] for name in (ANSWERED, ABSTAINED, REFUSED)},
        "labels": dict(labels.most_common()),
    }


def without_names(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows with the digest of each study in place of its file's name, which may name a patient.

    A study that could not be read has no digest, and gets its number.
    """
    return [row.model_copy(update={"study": row.sha256 or f"unread {n}"}) for n, row in enumerate(rows, 1)]


def write_tables(rows: Sequence[Row], model: dict[str, Any], folder: Path) -> None:
    """Writes the three files to `folder`; `model` describes the model."""
    found = {"schema": 1, "model": model, "counts": counts(rows), "research_use": RESEARCH_USE}
    studies = [row.model_dump(mode="json", exclude_defaults=True) for row in rows]
    (folder / "results.json").write_text(json.dumps(found | {"studies": studies}, indent=1) + "\n")
    _write_csv(rows, folder / "results.csv")
    template = resources.files(__package__).joinpath("report.html").read_text()
    order = {REFUSED: 0, ABSTAINED: 1, ANSWERED: 2}
    first = sorted(rows, key=lambda row: (order[row.outcome], row.study))[:SHOWN]
    page = render(template, model=model, counts=found["counts"], rows=first, research_use=RESEARCH_USE)
    (folder / "report.html").write_text(page)


def _write_csv(rows: Sequence[Row], path: Path) -> None:
    """Writes one row per study; if a task gives measures, each has its own column."""
    measures = list(dict.fromkeys(name for row in rows for name in row.details.get("measures", {})))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*COLUMNS, *measures])
        for row in rows:
            plain = row.model_dump() | {"warnings": " ".join(row.warnings)}
            found = row.details.get("measures", {})
            table.writerow([*(_cell(plain[name]) for name in COLUMNS), *(_cell(found.get(name)) for name in measures)])


def _cell(value: Any) -> str:
    """Returns `value` as a cell; text that a spreadsheet would run as a formula is quoted, since a file may have any
    name."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) else text
