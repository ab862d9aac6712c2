"""The catalogue: one row a sample, what every stage joins on.

It is made from the de-identified DICOM files alone, and says nothing of the folder that they lie in: the same files
under the same rule give the same bytes, and so the same digest, wherever they are."""

import csv
import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from echoplane.dataset.parallel import in_order
from echoplane.dataset.split import SplitRule, split_id, split_patients
from echoplane.errors import ConfigError, InputError
from echoplane.study.dicom import read_dicom
from echoplane.study.study import Identity, Instance
from echoplane.tasks import by_name

Row = dict[str, Any] | str
"""What one file gives: a row of the catalogue, or why it is none."""
SCHEMA_VERSION = "1"
_TEXT = ("sample", "patient", "study", "instance", "uri", "sha256", "task", "label", "split", "site", "manufacturer")
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in _TEXT),
        pa.field("model", pa.string(), nullable=False),
        pa.field("age_band", pa.string()),
        pa.field("sex", pa.string()),
        pa.field("bmi_band", pa.string()),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("frame_time_ms", pa.float64()),
        pa.field("deid", pa.string(), nullable=False),
    ],
    metadata={"schema": SCHEMA_VERSION},
)
BMI_BANDS = ((18.5, "under 18.5"), (25.0, "18.5 to 25"), (30.0, "25 to 30"), (float("inf"), "30 and over"))
"""World Health Organization; a band holds its lower limit."""


@dataclass(frozen=True)
class Catalogue:
    """The table, which split it is, and what was left out of it and why."""

    table: pa.Table
    split_id: str
    left_out: dict[str, int]


@dataclass(frozen=True)
class Source:
    """What a catalogue is made of. `deid` is the digest of the de-identification's report."""

    folder: Path
    """Holds `dicom/`, any depth, and optionally `labels.csv`."""
    task: str
    site: str
    deid: str
    most_studies: int = 50
    """Studies that one patient can plausibly have; more means that many patients share a pseudonym."""


def build_catalogue(
    source: Source,
    rule: SplitRule,
    *,
    workers: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Catalogue:
    """Every labelled clip under `source.folder`, sorted by patient, study and instance.

    Raises ConfigError for a label outside the task's list and for a pseudonym with too many studies. Clips without a
    label, files that can't be read and repeated files are counted in `left_out`.
    """
    files = sorted(p for p in (source.folder / "dicom").rglob("*") if p.is_file())
    found = in_order(functools.partial(_read, source=source), files, workers)
    left_out: Counter[str] = Counter()
    counted = _counted(found, len(files), on_progress)
    rows = _labelled(_readable(counted, left_out), source, left_out)
    _refuse_shared_pseudonyms(rows, source.most_studies)
    split_of = split_patients((row["patient"] for row in rows), rule)
    left_out["patient is in no split of the list"] += sum(row["patient"] not in split_of for row in rows)
    kept = [row | {"split": split_of[row["patient"]]} for row in rows if row["patient"] in split_of]
    kept.sort(key=lambda row: (row["patient"], row["study"], row["instance"]))
    table = pa.Table.from_pylist(kept, schema=SCHEMA)
    return Catalogue(table, split_id(rule, split_of), {k: n for k, n in sorted(left_out.items()) if n})


def write_catalogue(table: pa.Table, path: Path) -> str:
    """Write the table; the SHA-256 of the file is the data digest."""
    pq.write_table(table, path, compression="zstd")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_catalogue(path: Path) -> pa.Table:
    """The table of `catalogue.parquet`; ConfigError where it is another schema."""
    table = pq.read_table(path)
    version = (table.schema.metadata or {}).get(b"schema", b"none").decode()
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"the catalogue has schema {version}; {SCHEMA_VERSION} is read here. Build the dataset again."
        )
    return table


def _read(path: Path, source: Source) -> Row:
    """A catalogue's row of one file, its label from the file alone."""
    try:
        clip = read_dicom(path).only
    except InputError as error:
        return f"unreadable: {error.kind}"
    return _row(clip, path.relative_to(source.folder).as_posix(), source)


def _row(clip: Instance, uri: str, source: Source) -> dict[str, Any]:
    who = clip.identity or Identity("", "", "")
    return {
        "sample": clip.digest[:16],
        "patient": who.patient or f"unknown-{_short(who.study_uid or clip.digest)}",
        "study": who.study_uid,
        "instance": who.instance_uid,
        "uri": uri,
        "sha256": clip.digest,
        "task": source.task,
        "label": clip.view.name if clip.view else None,
        "site": source.site,
        "manufacturer": clip.manufacturer,
        "model": clip.model,
        "age_band": age_band(who.age_years),
        "sex": who.sex,
        "bmi_band": bmi_band(who.bmi),
        "frames": clip.frame_count,
        "frame_time_ms": clip.frame_time_ms,
        "deid": source.deid,
    }


def age_band(age_years: int | None) -> str | None:
    """Decades; everyone from 90 on is one band, as PS3.15 asks of ages that could name somebody."""
    if age_years is None:
        return None
    return "90 and over" if age_years >= 90 else f"{age_years // 10 * 10} to {age_years // 10 * 10 + 9}"


def bmi_band(bmi: float | None) -> str | None:
    return None if bmi is None else next(name for limit, name in BMI_BANDS if bmi < limit)


def _counted(found: Iterable[Row], total: int, on_progress: Callable[[int, int], None]) -> Iterator[Row]:
    for done, row in enumerate(found, start=1):
        yield row
        on_progress(done, total)


def _readable(found: Iterable[Row], left_out: Counter[str]) -> list[dict[str, Any]]:
    """The rows among what was found, each file once."""
    rows: dict[str, dict[str, Any]] = {}
    for row in found:
        if isinstance(row, str):
            left_out[row] += 1
        elif row["sha256"] in rows:
            left_out["the same file again"] += 1
        else:
            rows[row["sha256"]] = row
    return list(rows.values())


def _labelled(rows: list[dict[str, Any]], source: Source, left_out: Counter[str]) -> list[dict[str, Any]]:
    """The rows with a label: that of labels.csv, else that of the file itself."""
    allowed = [label.name for label in by_name(source.task).labels()]
    given = read_labels(source.folder / "labels.csv", allowed)
    labelled = [row | {"label": given.get(row["instance"], row["label"])} for row in rows]
    left_out["no label"] += sum(row["label"] not in allowed for row in labelled)
    left_out["label without a clip"] += len(given.keys() - {row["instance"] for row in rows})
    return [row for row in labelled if row["label"] in allowed]


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


def _refuse_shared_pseudonyms(rows: list[dict[str, Any]], most: int) -> None:
    studies = Counter(patient for patient, _ in {(row["patient"], row["study"]) for row in rows})
    if studies and (worst := max(studies.values())) > most:
        raise ConfigError(
            f"one pseudonym has {worst} studies, more than {most}: many patients probably share one PatientID, and no "
            "split could keep them apart. Give each patient an id of their own, or raise `most_studies`."
        )


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
