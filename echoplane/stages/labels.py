"""Labels of DICOM files by their path: from a CSV file, or from feedback on the answers of a service.

Errors name rows and never their content: a file name may name a patient.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from echoplane import storage
from echoplane.dataset.truths import FEEDBACK
from echoplane.errors import ConfigError
from echoplane.monitoring.feedback import FEEDBACK_SUFFIX, FeedbackRow, rows_of
from echoplane.study.views import IMAGE_VIEWS

VIEW = "view"
COLUMN = re.compile(r"[a-z][a-z0-9_]{0,40}")
"""Column name of a measured value in a labels file."""
NUMBER = re.compile(r"-?[0-9]{1,4}(\.[0-9]{1,3})?")
"""A measured number. Longer ones could be a date or an id."""
REQUEST_IDS = re.compile(r"_([0-9a-f]{16})(?=_|$)")
"""Ids of requests at the end of the name of a copy that the gateway makes."""
ROWS_NAMED = 5
"""Maximum number of wrong rows of a labels file that an error lists; a whole column may be wrong."""
VIEWS = frozenset(view.name for view in IMAGE_VIEWS)


class Labels(BaseModel):
    """Labels of files by their path: a view, or a number with the name of the measured quantity."""

    model_config = ConfigDict(frozen=True)

    column: str = VIEW
    by_file: dict[str, str] = {}
    by_feedback: dict[str, str] = {}
    """Labels of other files, which people gave to answers of the service."""


def read_labels(path: Path, source: Path) -> Labels:
    """Reads the label of each file of `source`. Raises ConfigError if a row names no file or no known label.

    Views are recognised by name; every other column must hold numbers, so that no patient text passes through.
    """
    rows = list(_rows(path))
    (column,) = set(rows[0]) - {"file"} if rows and len(rows[0]) == 2 and "file" in rows[0] else {""}
    if not COLUMN.fullmatch(column):
        raise ConfigError(
            "the labels file needs a first row `file,view`, or `file` and the name of a measured number, such as "
            "`file,lvef_percent`, and a row for each file below it."
        )
    known = VIEWS.__contains__ if column == VIEW else _is_number
    unknown = [number for number, row in enumerate(rows, 2) if not known(row[column])]
    missing = [number for number, row in enumerate(rows, 2) if not _within(source, row["file"])]
    named = [Path(row["file"]) for row in rows]
    first = {file: number for number, file in reversed(list(enumerate(named, 2)))}
    again = [number for number, file in enumerate(named, 2) if first[file] != number]
    if complaints := list(_complaints(unknown, missing, again)):
        allowed = f"Views: {', '.join(sorted(VIEWS))}." if column == VIEW else "Numbers have a point, such as 55.5."
        raise ConfigError(f"the labels file does not fit: {'; '.join(complaints)}. {allowed}")
    return Labels(column=column, by_file={Path(row["file"]).as_posix(): row[column] for row in rows})


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file, restkey="", restval=""):
                yield {name.strip(): str(value).strip() for name, value in row.items()}
    except FileNotFoundError:
        raise ConfigError("the labels file does not exist; check its path.") from None
    except OSError as error:
        raise ConfigError(f"the labels file can't be read ({error.strerror}); give a CSV file.") from None
    except (UnicodeDecodeError, csv.Error):
        raise ConfigError("the labels file can't be read; expected CSV in UTF-8.") from None


def _within(source: Path, file: str) -> bool:
    """Returns True if `file` is a file below `source`, not outside it."""
    path = (source / file).resolve()
    return path.is_relative_to(source.resolve()) and path.is_file()


def _complaints(unknown: list[int], missing: list[int], again: list[int]) -> Iterator[str]:
    if unknown:
        yield f"{_named(unknown)} no known view or number"
    if missing:
        yield f"{_named(missing)} no file of `source`"
    if again:
        yield f"{_named(again)} a file that is named before"


def _named(rows: list[int]) -> str:
    shown = ", ".join(str(row) for row in rows[:ROWS_NAMED]) + (", ..." if len(rows) > ROWS_NAMED else "")
    return f"row {shown} has" if len(rows) == 1 else f"rows {shown} have"


def with_feedback(labels: Labels, place: str, source: Path) -> Labels:
    """Returns `labels`, and those that people gave to the answers about files of `source`: of each file the last.

    `place` is a folder or s3:// address with feedback. Raises ConfigError if the labels are measured numbers, or if the
    feedback cannot be read.
    """
    if labels.column != VIEW:
        raise ConfigError("feedback gives views; it can't be combined with a labels file of measured numbers.")
    said = last_of_each_request(place)
    found: dict[str, str] = {}
    for path in sorted(source.rglob("*")):
        rows = [said[one] for one in REQUEST_IDS.findall(path.stem) if one in said and said[one].label in VIEWS]
        if rows and path.is_file():
            found[path.relative_to(source).as_posix()] = max(rows, key=lambda row: row.time).label
    return labels.model_copy(update={"by_feedback": {f: v for f, v in found.items() if f not in labels.by_file}})


def last_of_each_request(place: str) -> dict[str, FeedbackRow]:
    """Returns the feedback at `place`, a folder or s3:// address: of each request, what was said last.

    Raises ConfigError if a line is no row.
    """
    names = [one.name for one in storage.listed(place) if one.name.endswith(FEEDBACK_SUFFIX)]
    rows = [row for name in names for row in rows_of(storage.content(place, name), name)]
    return {row.request_id: row for row in sorted(rows, key=lambda row: row.time)}


def write_labels(path: Path, labels: Labels, uid_by_file: Mapping[str, str]) -> None:
    """Writes the labels by SOP Instance UID, with a column `source` if any label comes from feedback."""
    rows = [(uid_by_file[file], label, "") for file, label in labels.by_file.items() if file in uid_by_file]
    rows += [(uid_by_file[file], label, FEEDBACK) for file, label in labels.by_feedback.items() if file in uid_by_file]
    width = 3 if labels.by_feedback else 2
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["instance", labels.column, "source"][:width])
        writer.writerows(row[:width] for row in sorted(rows))
