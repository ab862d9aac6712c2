"""Closed days of the prediction log become one Parquet file, without a row lost or kept twice."""

import gzip
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from echoplane import storage
from echoplane.monitoring import compaction
from echoplane.monitoring.compaction import TABLE, compact, logged_rows, read_table, remove_old
from echoplane.monitoring.log_reader import read_step
from echoplane.monitoring.prediction_log import Row
from tests.monitor_log import START, TASK, append, make_rows

LATER = START + timedelta(days=3)
DAY = "date=2026-11-01"


def ship(place: Path, rows: list[Row], name: str) -> None:
    lines = "".join(f"{row.model_dump_json()}\n" for row in rows)
    (place / DAY).mkdir(parents=True, exist_ok=True)
    (place / DAY / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))


def positions(place: Path) -> dict[str, int]:
    return read_step(str(place), {}).positions


def test_a_closed_day_that_was_read_becomes_one_table_with_the_same_rows(tmp_path):
    rows = make_rows(50)
    rows[3] = rows[3].model_copy(update={"label": None, "confidence": None})
    rows[4] = rows[4].model_copy(update={"manufacturer": "GE", "device_model": "VIVID E95"})
    ship(tmp_path, rows[25:], "b")
    ship(tmp_path, rows[:25], "a")
    assert compact(str(tmp_path), positions(tmp_path), LATER) == ["2026-11-01"]
    assert [one.name for one in storage.listed(str(tmp_path))] == [f"{DAY}/{TABLE}"]
    assert read_table((tmp_path / DAY / TABLE).read_bytes()) == rows
    assert logged_rows(tmp_path, TASK) == rows


def test_a_day_that_is_young_or_not_read_whole_waits(tmp_path):
    ship(tmp_path, make_rows(5), "a")
    assert compact(str(tmp_path), positions(tmp_path), START + timedelta(days=1)) == []
    assert compact(str(tmp_path), {}, LATER) == []
    assert (tmp_path / DAY / "a.jsonl.gz").exists()


def test_a_table_and_lines_without_manufacturer_and_model_are_still_read(tmp_path, monkeypatch):
    rows = make_rows(5)
    new = ("manufacturer", "device_model")
    lines = [row.model_dump_json(exclude=set(new)) for row in rows]
    assert [Row.model_validate_json(line) for line in lines] == rows
    old = pa.schema([field for field in compaction.SCHEMA if field.name not in new])
    with monkeypatch.context() as patched:
        patched.setattr(compaction, "SCHEMA", old)
        content = compaction._table(rows)
    assert read_table(content) == rows


def test_a_late_file_joins_the_table_of_its_day(tmp_path):
    ship(tmp_path, make_rows(5), "a")
    compact(str(tmp_path), positions(tmp_path), LATER)
    ship(tmp_path, make_rows(5, first=5), "late")
    compact(str(tmp_path), positions(tmp_path), LATER)
    assert [row.request_id for row in logged_rows(tmp_path, TASK)] == [f"r{number}" for number in range(10)]


def test_a_process_killed_between_writing_and_removing_keeps_no_row_twice(tmp_path, monkeypatch):
    ship(tmp_path, make_rows(20), "a")

    def killed(*_: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(compaction.storage, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            compact(str(tmp_path), positions(tmp_path), LATER)
    assert (tmp_path / DAY / "a.jsonl.gz").exists()
    compact(str(tmp_path), positions(tmp_path), LATER)
    assert len(read_table((tmp_path / DAY / TABLE).read_bytes())) == 20


def test_days_beyond_retention_are_removed_and_open_files_are_left(tmp_path):
    ship(tmp_path, make_rows(5), "a")
    append(tmp_path, make_rows(5, first=5))
    assert remove_old(str(tmp_path), 30, START + timedelta(days=30)) == []
    assert remove_old(str(tmp_path), 30, START + timedelta(days=31)) == ["2026-11-01"]
    assert [one.name for one in storage.listed(str(tmp_path))] == ["predictions-1.jsonl"]
