"""The prediction log: what a row holds, and that no answer waits for it."""

import json
import time

import numpy as np
import pytest

from echoplane.errors import ConfigError
from echoplane.monitoring import prediction_log
from echoplane.monitoring.compaction import logged_rows
from echoplane.monitoring.device import device_of, listed_name
from echoplane.monitoring.prediction_log import PredictionLog, Row, now, packed, unpacked
from echoplane.runtimes.features import input_features
from echoplane.study.cine_files import read_cines
from echoplane.study.study import Study
from echoplane.tasks import cmr_segmentation, view_video
from tests.unit.test_cmr_folders import write_series

TASK = view_video.NAME


def row(number=0, task=TASK):
    return Row(
        time=now(),
        request_id=f"r{number}",
        task=task,
        model_version="3",
        bundle="b" * 64,
        site="lakeside",
        label=None,
        confidence=0.4,
        features={"brightness": 0.2},
        embedding=packed(np.array([1.5, -2.0])),
        timings_ms={"total": 12.0},
        warnings=0,
    )


def test_rows_come_back_in_order_and_of_their_task_alone(tmp_path):
    log = PredictionLog(tmp_path / "log", max_mib=1)
    for number in range(300):
        log.add(row(number))
    log.add(row(999, task="another-task"))
    log.close()
    assert [one.request_id for one in logged_rows(tmp_path / "log", TASK)] == [f"r{number}" for number in range(300)]


def test_a_row_is_on_disk_within_a_second_without_closing(tmp_path):
    log = PredictionLog(tmp_path, max_mib=1)
    log.add(row())
    deadline = time.monotonic() + 10
    while not logged_rows(tmp_path, TASK) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(logged_rows(tmp_path, TASK)) == 1
    log.close()


def test_a_full_folder_drops_rows_and_says_so_once(tmp_path, caplog):
    (tmp_path / "old.jsonl").write_bytes(b"x" * (1 << 20))
    log = PredictionLog(tmp_path, max_mib=1)
    for number in range(20):
        log.add(row(number))
        time.sleep(0.01)
    log.close()
    assert [record.message for record in caplog.records if "dropped" in record.message] == [
        "rows of the prediction log are dropped: the folder holds as much as it may"
    ]


def test_a_disk_that_stands_still_costs_rows_and_not_memory(tmp_path, monkeypatch):
    log = PredictionLog(tmp_path, max_mib=1)
    monkeypatch.setattr(prediction_log, "MAX_WAITING", 10)
    monkeypatch.setattr(log, "_write", lambda rows: time.sleep(0.3))
    before = prediction_log.metrics.LOG_ROWS.labels("dropped")._value.get()
    start = time.monotonic()
    for number in range(2000):
        log.add(row(number))
    assert time.monotonic() - start < 0.3
    assert prediction_log.metrics.LOG_ROWS.labels("dropped")._value.get() - before >= 1000
    log.close()


def test_a_line_that_was_cut_is_passed_over_and_a_strange_one_is_refused(tmp_path):
    line = row().model_dump_json()
    (tmp_path / "a.jsonl").write_text(f"{line}\n{line[:40]}")
    assert len(logged_rows(tmp_path, TASK)) == 1
    (tmp_path / "b.jsonl").write_text(json.dumps({"patient": "x"}) + "\n")
    with pytest.raises(ConfigError, match=r"line 1 of b\.jsonl"):
        logged_rows(tmp_path, TASK)


def test_a_folder_that_can_not_be_written_is_named_as_the_fault(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="prediction log"):
        PredictionLog(tmp_path / "file" / "log", max_mib=1)


def test_an_embedding_survives_packing_at_half_precision():
    embedding = np.linspace(-3, 3, 7, dtype=np.float32)
    assert unpacked([packed(embedding)], len(embedding))[0] == pytest.approx(embedding, abs=2e-3)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Philips Medical Systems", "PHILIPS"),
        ("G.E. Healthcare", "GE"),
        ("EPIQ 7C", "EPIQ 7C"),
        ("vivid E95 Quetzal^Anna 19480521", "VIVID E95"),
        ("Quetzal^Anna", "unlisted"),
        ("19480521", "unlisted"),
        ("SIEMENS 12 34 56", "SIEMENS 12"),
        (" ", ""),
    ],
)
def test_of_a_device_only_listed_words_are_written_down(text, name):
    assert listed_name(text) == name


def test_a_cine_mr_states_its_scanner_in_listed_words_alone(tmp_path):
    write_series(tmp_path, Manufacturer="SIEMENS", ManufacturerModelName="Avanto Quetzal^Anna")
    assert device_of(Study((), read_cines(tmp_path))) == ("SIEMENS", "AVANTO")
    assert device_of(cmr_segmentation.example(seed=0)) == ("", ""), "no header"


def test_features_of_a_brighter_and_of_a_moving_clip_say_so():
    study = view_video.example(seed=1)
    batch = view_video.preprocess(study, view_video.Preprocessing()).batch
    plain, bright = input_features(study, batch), input_features(study, np.maximum(batch, 100))
    assert bright["brightness"] > plain["brightness"]
    assert bright["dark"] == 0
    assert plain["frames"] == study.only.frame_count
    still = input_features(study, np.zeros((1, 16, 64, 64), np.uint8))
    assert (still["motion"], still["sharpness"], still["dark"]) == (0, 0, 1)


def test_the_folder_is_not_asked_for_its_size_at_every_flush(tmp_path, monkeypatch):
    log = PredictionLog(tmp_path, max_mib=1)
    counted = []
    monkeypatch.setattr(log, "_count", lambda: counted.append(1))
    for number in range(50):
        log._write([row(number)])
    assert counted == []
    assert log._folder_bytes == log.path.stat().st_size
    log.close()


def test_room_that_others_took_or_made_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "COUNT_AGAIN_S", 0)
    log = PredictionLog(tmp_path, max_mib=1)
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"x" * (1 << 20))
    log._write([row(1)])
    assert log.path.stat().st_size == 0
    other.unlink()
    log._write([row(2)])
    assert log.path.stat().st_size > 0
    log.close()


def test_a_file_ends_after_its_time_and_the_rows_are_in_order(tmp_path):
    log = PredictionLog(tmp_path, max_mib=1, file_s=0.05)
    for number in range(3):
        log.add(row(number))
        time.sleep(0.7)
    log.close()
    assert len(list(tmp_path.glob("*.jsonl"))) >= 3
    assert [one.request_id for one in logged_rows(tmp_path, TASK)] == ["r0", "r1", "r2"]
