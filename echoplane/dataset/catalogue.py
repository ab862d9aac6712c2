"""The catalogue: one row per sample (a DICOM file or a folder of cine MR). Every later stage joins on it.

It is made from the de-identified studies alone and does not name the folder that holds them: the same files under the
same split rule give the same bytes, and so the same digest, in any folder.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from echoplane.dataset.parallel import in_order
from echoplane.dataset.split import SplitRule, split_id, split_patients
from echoplane.dataset.studies import of_file, of_folder, studies_in
from echoplane.dataset.truths import with_truth, without_corrections
from echoplane.errors import ConfigError, InputError
from echoplane.files import file_sha256
from echoplane.tasks import by_name

Row = dict[str, Any] | str
"""A row of the catalogue, or the reason why a file gives none."""
STUDIES = {"file": "dicom", "folder": "studies"}
"""Subfolder of a stage's folder that holds the studies, by the kind of study that a task takes."""
PUBLIC = "public: "
"""Prefix of the proof for studies that were published without patient identity; the name of the publisher follows."""
PROOF = re.compile(rf"[0-9a-f]{{64}}|{PUBLIC}\S.*")
"""Pattern of the proof that a study identifies nobody: the SHA-256 of a de-identification report, or its publisher."""
SCHEMA_VERSION = "2"
_TEXT = ("sample", "patient", "study", "instance", "uri", "sha256", "task", "split", "site", "manufacturer")
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in _TEXT),
        pa.field("model", pa.string(), nullable=False),
        *(pa.field(name, pa.string()) for name in ("label", "mask_uri")),
        pa.field("value", pa.float64()),  # only one of label, mask_uri and value is set
        pa.field("age_band", pa.string()),
        pa.field("sex", pa.string()),
        pa.field("bmi_band", pa.string()),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("frame_time_ms", pa.float64()),
        pa.field("deid", pa.string(), nullable=False),
    ],
    metadata={"schema": SCHEMA_VERSION},
)


@dataclass(frozen=True)
class Catalogue:
    """The table, the id of its split, and the number of studies left out by reason."""

    table: pa.Table
    split_id: str
    left_out: dict[str, int]


@dataclass(frozen=True)
class Source:
    """Input of a catalogue. `deid` is the digest of the de-identification report, or `public: ` and the name of whoever
    published the studies without patient identity."""

    folder: Path
    """Folder with `dicom/` and optionally `labels.csv`, or with `studies/` and one folder per study; any depth."""
    task: str
    site: str
    deid: str
    max_studies: int = 50
    """Maximum plausible number of studies of one patient; more suggest that several patients share a pseudonym."""


def build_catalogue(
    source: Source,
    rule: SplitRule,
    *,
    workers: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Catalogue:
    """Builds the catalogue of every annotated study under `source.folder`, sorted by patient, study and instance.

    Raises ConfigError for a label outside the task's list and for a pseudonym with too many studies. Studies without a
    label or mask, unreadable studies and repeated files are counted in `left_out`.
    """
    task = by_name(source.task)
    paths = studies_in(source.folder / STUDIES[task.STUDY], task.STUDY)
    found = in_order(functools.partial(_read, source=source), paths, workers)
    left_out: Counter[str] = Counter()
    counted = _counted(found, len(paths), on_progress)
    rows = with_truth(_readable(counted, left_out), source.folder, task, left_out)
    _refuse_shared_pseudonyms(rows, source.max_studies)
    if task.STUDY == "file":
        _refuse_torn_studies(rows)
    split_of = split_patients((row["patient"] for row in rows), rule)
    left_out["patient is in no split of the list"] += sum(row["patient"] not in split_of for row in rows)
    kept = _assigned(rows, split_of, [label.name for label in task.labels()], left_out)
    kept.sort(key=lambda row: (row["patient"], row["study"], row["instance"]))
    table = pa.Table.from_pylist(kept, schema=SCHEMA)
    return Catalogue(table, split_id(rule, split_of), {k: n for k, n in sorted(left_out.items()) if n})


def _assigned(
    rows: Iterable[dict[str, Any]], split_of: Mapping[str, str], labels: Collection[str], left_out: Counter[str]
) -> list[dict[str, Any]]:
    """Returns the rows of the patients in a split, with it; in the test set no label comes from feedback."""
    kept = []
    for row in rows:
        split = split_of.get(row["patient"])
        truth = without_corrections(row, labels) if split == "test" else row
        if truth is None:
            left_out["feedback on a patient of the test set"] += 1
        elif split:
            kept.append(truth | {"split": split})
    return kept


def write_catalogue(table: pa.Table, path: Path) -> str:
    """Writes the table and returns the SHA-256 of the file, which is the data digest."""
    pq.write_table(table, path, compression="zstd")
    return file_sha256(path)


def read_catalogue(path: Path) -> pa.Table:
    """Reads `catalogue.parquet`. Raises ConfigError if it has another schema."""
    table = pq.read_table(path)
    version = (table.schema.metadata or {}).get(b"schema", b"none").decode()
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"the catalogue has schema {version}; {SCHEMA_VERSION} is read here. Build the dataset again."
        )
    return table


def _read(path: Path, source: Source) -> Row:
    """Returns the catalogue row of one study, with the label that the file itself states, or why there is none."""
    try:
        found = {"file": of_file, "folder": of_folder}[by_name(source.task).STUDY](path)
    except InputError as error:
        return f"unreadable: {error.kind}"
    place = {"uri": path.relative_to(source.folder).as_posix(), "mask_uri": None, "value": None, "deid": source.deid}
    return found | place | {"task": source.task, "site": source.site}


def _counted(found: Iterable[Row], total: int, on_progress: Callable[[int, int], None]) -> Iterator[Row]:
    for done, row in enumerate(found, start=1):
        yield row
        on_progress(done, total)


def _readable(found: Iterable[Row], left_out: Counter[str]) -> list[dict[str, Any]]:
    """Returns the rows of readable files, each distinct file once; the others are counted in `left_out`."""
    rows: dict[str, dict[str, Any]] = {}
    for row in found:
        if isinstance(row, str):
            left_out[row] += 1
        elif row["sha256"] in rows:
            left_out["the same file again"] += 1
        else:
            rows[row["sha256"]] = row
    return list(rows.values())


def _refuse_shared_pseudonyms(rows: list[dict[str, Any]], most: int) -> None:
    studies = Counter(patient for patient, _ in {(row["patient"], row["study"]) for row in rows})
    if studies and (worst := max(studies.values())) > most:
        raise ConfigError(
            f"one pseudonym has {worst} studies, more than {most}: many patients probably share one PatientID, and no "
            "split could keep them apart. Give each patient an id of their own, or raise `max_studies`."
        )


def _refuse_torn_studies(rows: list[dict[str, Any]]) -> None:
    """Raises ConfigError if one study has several patients, as if some of its files lack the patient id: it could then
    be in both training and test."""
    patients: dict[str, set[str]] = {}
    for row in filter(lambda row: row["study"], rows):
        patients.setdefault(row["study"], set()).add(row["patient"])
    if torn := sum(len(found) > 1 for found in patients.values()):
        raise ConfigError(
            f"{torn} studies are of several patients: some of their files lack the PatientID, or have another. "
            "Put it right in the originals and de-identify them again, or leave those files out."
        )
