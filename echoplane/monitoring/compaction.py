"""Compacts the closed days of a shipped prediction log to one Parquet file per day, and removes days that are too old.

The log is a folder or the objects under an `s3://` address, with compressed files below `date=YYYY-MM-DD/`. A day is
compacted once all its files have been read by the monitor. The Parquet file is written before the files are removed,
and a second call begins again from both, so a process that is killed in between loses no row and keeps none twice.
"""

import gzip
import io
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from echoplane import storage
from echoplane.errors import ConfigError
from echoplane.monitoring.prediction_log import COMPRESSED, SUFFIX, Row, first_of_each, rows_of
from echoplane.storage import BUCKET, Stored

DAY = re.compile(r"^date=(\d{4}-\d\d-\d\d)/")
TABLE = "predictions.parquet"
CLOSED_AFTER = timedelta(days=2)
"""Age at which a day counts as closed: files of an outage of a day have arrived by then."""
TEXTS = ("request_id", "task", "model_version", "bundle", "site", "manufacturer", "device_model")

SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in TEXTS),
        pa.field("label", pa.string()),
        pa.field("confidence", pa.float64()),
        pa.field("probabilities", pa.list_(pa.float64()), nullable=False),
        pa.field("features", pa.map_(pa.string(), pa.float64()), nullable=False),
        pa.field("embedding", pa.string(), nullable=False),
        pa.field("timings_ms", pa.map_(pa.string(), pa.float64()), nullable=False),
        pa.field("warnings", pa.int32(), nullable=False),
    ]
)
"""Columns of the Parquet files: those of `Row`."""

log = logging.getLogger(__name__)


def compact(place: str, positions: Mapping[str, int], now: datetime) -> list[str]:
    """Compacts every closed day of the log at `place` and returns these days. `positions` are what the monitor has
    read, by file: a day with an unread file waits."""
    done = []
    for day, files in _days(place).items():
        rows = [one for one in files if one.name.endswith(COMPRESSED)]
        unread = any(positions.get(one.name, 0) < one.size for one in rows)
        if rows and not unread and now.date() - day >= CLOSED_AFTER:
            _compact_day(place, day, files)
            done.append(day.isoformat())
    return done


def remove_old(place: str, retention_days: int, now: datetime) -> list[str]:
    """Removes the files of days older than `retention_days` and returns these days."""
    old = {day: files for day, files in _days(place).items() if (now.date() - day).days > retention_days}
    for files in old.values():
        for one in files:
            storage.remove(place, one.name)
    return [day.isoformat() for day in old]


def _days(place: str) -> dict[date, list[Stored]]:
    days: dict[date, list[Stored]] = defaultdict(list)
    for one in storage.listed(place):
        if found := DAY.match(one.name):
            days[date.fromisoformat(found[1])].append(one)
    return dict(days)


def _compact_day(place: str, day: date, files: list[Stored]) -> None:
    rows: dict[str, Row] = {}  # by whole content: a row that an interrupted call left in both places is kept once
    names = [one.name for one in files if one.name.endswith(COMPRESSED)]
    target = f"date={day.isoformat()}/{TABLE}"
    if any(one.name == target for one in files):
        rows = {row.model_dump_json(): row for row in read_table(storage.content(place, target))}
    for name in names:
        rows |= {row.model_dump_json(): row for row in _rows(storage.content(place, name))}
    storage.write(place, target, _table(sorted(rows.values(), key=lambda row: row.time)))
    for name in names:
        storage.remove(place, name)
    log.info("the prediction log of %s is one file of %d rows.", day, len(rows))


def _rows(content: bytes) -> list[Row]:
    rows = []
    for line in gzip.decompress(content).splitlines():
        try:
            rows.append(Row.model_validate_json(line))
        except ValidationError:
            log.warning("a line that is no row is left out of the compacted log.")
    return rows


def _table(rows: list[Row]) -> bytes:
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
    for name in ("features", "timings_ms"):
        columns[name] = [list(values.items()) for values in columns[name]]
    content = io.BytesIO()
    pq.write_table(pa.table(columns, schema=SCHEMA), content, compression="zstd")
    return content.getvalue()


def read_table(content: bytes) -> list[Row]:
    """Returns the rows of a compacted day; a table of an older monitor may lack the columns that have a default."""
    rows = pq.read_table(io.BytesIO(content)).to_pylist()
    maps = ("features", "timings_ms")
    return [Row(**(row | {name: dict(row[name]) for name in maps})) for row in rows]


def logged_rows(place: str | Path, task: str) -> list[Row]:
    """Returns the rows of `task` in a folder or at an s3:// address, of compacted days too, oldest first; a request
    that was sent twice counts once.

    Raises ConfigError if there is no log, or a line of it is not a row.
    """
    place = str(place)
    files = storage.listed(place) if place.startswith(BUCKET) or Path(place).is_dir() else []
    names = [one.name for one in files if one.name.endswith((TABLE, SUFFIX, COMPRESSED))]
    if not names:
        raise ConfigError(
            "there is no prediction log; give the folder that ECHOPLANE_PREDICTION_LOG names, or the address of "
            "ECHOPLANE_PREDICTION_LOG_URL."
        )
    rows = [row for name in names for row in _of_file(name, storage.content(place, name)) if row.task == task]
    return list(first_of_each(sorted(rows, key=lambda row: row.time), {}))


def _of_file(name: str, content: bytes) -> Iterable[Row]:
    return read_table(content) if name.endswith(TABLE) else rows_of(content, name)
