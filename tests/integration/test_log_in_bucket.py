"""The prediction log in a bucket of a real MinIO that goes away and comes back, read there by the monitor."""

from datetime import timedelta
from pathlib import Path

from echoplane import storage
from echoplane.adapters.log_shipping import LogShipper
from echoplane.monitoring.compaction import compact, logged_rows, read_table
from echoplane.monitoring.model_monitor import Monitors
from echoplane.monitoring.prediction_log import PredictionLog, now
from echoplane.stages import feedback, label_queue
from tests.minio_process import Store
from tests.monitor_log import BUNDLE, TASK, make_reference, make_rows


def test_rows_of_an_outage_reach_the_monitor_once(store: Store, tmp_path: Path) -> None:
    monitors = Monitors(tmp_path / "state", "s3://studies/predictions", lambda _: make_reference())
    rows = make_rows(90)
    for number in range(3):
        log = PredictionLog(tmp_path / "log", max_mib=1, file_s=60)
        shipper = LogShipper(log, "s3://studies/predictions")
        if number == 1:
            store.stop()
        for row in rows[30 * number : 30 * number + 30]:
            log.add(row)
        log.close()
        shipper.close()
        if number == 1:
            assert list((tmp_path / "log").glob("*.jsonl")), "they wait in the folder"
            store.start()
        else:
            assert monitors.step().rows
    model = monitors.models[BUNDLE]
    assert model.studies == 90
    assert monitors.step().rows == []
    assert not list((tmp_path / "log").glob("*.jsonl"))
    assert logged_rows("s3://studies/predictions", TASK) == rows
    later = now() + timedelta(days=3)
    assert len(compact("s3://studies/predictions", monitors.positions, later)) == 1
    (table,) = storage.listed("s3://studies/predictions")
    assert len(read_table(storage.content("s3://studies/predictions", table.name))) == 90
    assert monitors.step().rows == []
    assert logged_rows("s3://studies/predictions", TASK) == rows


def test_a_queue_of_labels_is_chosen_from_a_bucket_and_given_to_it(store: Store, tmp_path: Path) -> None:
    place, queue = "s3://studies/asked", tmp_path / "queue.csv"
    log = PredictionLog(tmp_path / "log", max_mib=1, file_s=60)
    shipper = LogShipper(log, place)
    for number, row in enumerate(make_rows(20)):
        log.add(row.model_copy(update={"request_id": f"{number:016x}"}))
    log.close()
    shipper.close()
    asked = label_queue.Config(task=TASK, predictions=place, count=5, out=str(queue))
    assert label_queue.run(asked)["chosen"] == 5
    queue.write_text(
        "".join(line + ("a4c" if number else "") + "\n" for number, line in enumerate(queue.read_text().splitlines()))
    )
    assert feedback.run(feedback.Config(queue=str(queue), predictions=place, by="alex"))["labels"] == 5
    again = label_queue.run(asked.model_copy(update={"count": 20, "out": str(tmp_path / "next.csv")}))
    assert (again["of"], again["already_labelled"]) == (15, 5)
