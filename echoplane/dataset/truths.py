"""Ground truth of samples: a label or a value from labels.csv, a label in the file, or masks beside a cine."""

import csv
import math
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from echoplane.errors import ConfigError
from echoplane.study.masks import mask_of, read_masks
from echoplane.study.study import Study
from echoplane.tasks import Task, Truth

FEEDBACK = "feedback"
"""Source, in labels.csv, of a label that a person gave to an answer of the service."""
OWN_LABEL = "own_label"
"""Key, beside the columns of the catalogue, of a row that feedback labelled: the label that the file itself states."""
Row = dict[str, Any]
Value = TypeVar("Value", str, float)


def with_truth(rows: list[Row], folder: Path, task: Task, left_out: Counter[str]) -> list[Row]:
    """Returns the rows that have ground truth; the others are counted in `left_out`."""
    known = {"label": _labelled, "masks": _masked, "value": _valued}[task.TRUTH]
    return known(rows, folder, task, left_out)


def truth_of(row: Row, folder: Path, study: Study) -> Truth:
    """Returns the ground truth of one catalogued study. Raises UnusableStudy if its masks do not fit it."""
    if row["mask_uri"]:
        return read_masks((folder / row["mask_uri"]).parent, study)
    return str(row["label"]) if row["value"] is None else float(row["value"])


def _labelled(rows: list[Row], folder: Path, task: Task, left_out: Counter[str]) -> list[Row]:
    """Returns the rows with a label, from labels.csv or else from the file itself."""
    allowed = [label.name for label in task.labels()]
    given = read_labels(folder / "labels.csv", task.TRUTH_COLUMN, allowed)
    corrected = corrected_instances(folder / "labels.csv")
    labelled = [
        row
        | {"label": given.get(row["instance"], row["label"])}
        | ({OWN_LABEL: row["label"]} if row["instance"] in corrected else {})
        for row in rows
    ]
    left_out["no label"] += sum(row["label"] not in allowed for row in labelled)
    left_out["label without a clip"] += len(given.keys() - {row["instance"] for row in rows})
    return [row for row in labelled if row["label"] in allowed]


def without_corrections(row: Row, allowed: Collection[str]) -> Row | None:
    """Returns a row of a test patient with the label that the file itself states, or None if only feedback gives one.

    People correct the answers that they find wrong, so a test set with corrections would be harder than the studies,
    and would change with every correction.
    """
    if OWN_LABEL not in row:
        return row
    return row | {"label": row[OWN_LABEL]} if row[OWN_LABEL] in allowed else None


def _valued(rows: list[Row], folder: Path, task: Task, left_out: Counter[str]) -> list[Row]:
    """Returns the rows with a value from labels.csv; a label that the file may state is removed."""
    given = read_values(folder / "labels.csv", task.TRUTH_COLUMN)
    left_out["no value"] += sum(row["instance"] not in given for row in rows)
    left_out["value without a clip"] += len(given.keys() - {row["instance"] for row in rows})
    return [row | {"label": None, "value": given[row["instance"]]} for row in rows if row["instance"] in given]


def _masked(rows: list[Row], folder: Path, task: Task, left_out: Counter[str]) -> list[Row]:
    masks = {row["uri"]: mask_of(folder / row["uri"]) for row in rows}
    left_out["no mask"] += sum(mask is None for mask in masks.values())
    return [
        row | {"label": None, "mask_uri": mask.relative_to(folder).as_posix()}
        for row in rows
        if (mask := masks[row["uri"]])
    ]


def read_labels(path: Path, column: str, allowed: list[str]) -> dict[str, str]:
    """Reads labels by instance, from the columns `instance` and `column` of a CSV file; empty if there is no file."""

    def label(text: str, line: int) -> str:
        if text not in allowed:
            raise ConfigError(
                f"line {line} of labels.csv names the {column} {text!r}; the {column}s are {', '.join(allowed)}."
            )
        return text

    return _column(path, column, label)


def corrected_instances(path: Path) -> set[str]:
    """Returns the instances whose label in a CSV file comes from feedback; none if there is no file."""
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {row["instance"] for row in csv.DictReader(file) if row.get("source") == FEEDBACK}


def read_values(path: Path, column: str) -> dict[str, float]:
    """Reads values by instance, from the columns `instance` and `column` of a CSV file; empty if there is no file."""

    def value(text: str, line: int) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"line {line} of labels.csv has a {column} that is no finite number.")
        return number

    return _column(path, column, value)


def _column(path: Path, column: str, parse: Callable[[str, int], Value]) -> dict[str, Value]:
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        table = csv.DictReader(file)
        if not {"instance", column} <= set(table.fieldnames or ()):
            raise ConfigError(f"labels.csv has the columns {table.fieldnames}; `instance` and `{column}` are needed.")
        found: dict[str, Value] = {}
        for row in table:
            value = parse(row[column] or "", table.line_num)
            if found.setdefault(row["instance"], value) != value:
                raise ConfigError(
                    f"line {table.line_num} of labels.csv gives an instance a second, different {column}."
                )
    return found
