"""What samples show, by their data: a label from labels.csv or the file itself, or the mask that lies beside a cine."""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from echoplane.errors import ConfigError
from echoplane.study.masks import mask_of, read_masks
from echoplane.study.study import Study
from echoplane.tasks import Task, Truth

Row = dict[str, Any]


def with_truth(rows: list[Row], folder: Path, task: Task, left_out: Counter[str]) -> list[Row]:
    """The rows that say what they show; the others are counted in `left_out`."""
    known = {"label": _labelled, "mask": _masked}[task.TRUTH]
    return known(rows, folder, task, left_out)


def truth_of(row: Row, folder: Path, study: Study) -> Truth:
    """Of one catalogued study: its label, or its masks; UnusableStudy where they don't fit it."""
    return read_masks((folder / row["mask_uri"]).parent, study) if row["mask_uri"] else str(row["label"])


def _labelled(rows: list[Row], folder: Path, task: Task, left_out: Counter[str]) -> list[Row]:
    """That of labels.csv, else that of the file itself."""
    allowed = [label.name for label in task.labels()]
    given = read_labels(folder / "labels.csv", allowed)
    labelled = [row | {"label": given.get(row["instance"], row["label"])} for row in rows]
    left_out["no label"] += sum(row["label"] not in allowed for row in labelled)
    left_out["label without a clip"] += len(given.keys() - {row["instance"] for row in rows})
    return [row for row in labelled if row["label"] in allowed]


def _masked(rows: list[Row], folder: Path, task: Task, left_out: Counter[str]) -> list[Row]:
    masks = {row["uri"]: mask_of(folder / row["uri"]) for row in rows}
    left_out["no mask"] += sum(mask is None for mask in masks.values())
    return [
        row | {"label": None, "mask_uri": mask.relative_to(folder).as_posix()}
        for row in rows
        if (mask := masks[row["uri"]])
    ]


def read_labels(path: Path, allowed: list[str]) -> Mapping[str, str]:
    """View by instance from a CSV with the columns `instance,view`; nothing where there is no file."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        table = csv.DictReader(file)
        if not {"instance", "view"} <= set(table.fieldnames or ()):
            raise ConfigError(f"labels.csv has the columns {table.fieldnames}; `instance` and `view` are needed.")
        labels: dict[str, str] = {}
        for row in table:
            if row["view"] not in allowed:
                raise ConfigError(
                    f"line {table.line_num} of labels.csv names the view {row['view']!r}; "
                    f"the views are {', '.join(allowed)}."
                )
            if labels.setdefault(row["instance"], row["view"]) != row["view"]:
                raise ConfigError(f"line {table.line_num} of labels.csv gives an instance a second, different view.")
    return labels
