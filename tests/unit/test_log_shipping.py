"""Shipping the prediction log: nothing is lost while the store is unavailable, and nothing counts twice."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from echoplane.adapters.log_shipping import LogShipper
from echoplane.errors import ConfigError
from echoplane.monitoring.log_reader import read_step
from echoplane.monitoring.prediction_log import PredictionLog
from tests.monitor_log import make_rows


class Store:
    """A double of an object store: it keeps what is PUT, or refuses it while `available` is false."""

    def __init__(self, folder: Path) -> None:
        self.available, self.folder, outer = True, folder, self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                if outer.available:
                    path = outer.folder / unquote(self.path).lstrip("/")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                self.send_response(200 if outer.available else 503)
                self.send_header("ETag", '"0"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def rows(self) -> list[str]:
        return [row.request_id for row in read_step(str(self.folder), {}).rows]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "echoplane")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "only-for-this-test")
    yield made
    made.server.shutdown()
    made.server.server_close()


def names(count: int) -> list[str]:
    return [f"r{number}" for number in range(count)]


def test_an_outage_delays_rows_and_loses_none(tmp_path, store, caplog):
    log = PredictionLog(tmp_path / "log", max_mib=1, file_s=0.05)
    shipper = LogShipper(log, "s3://bucket/predictions")
    store.available = False
    for row in make_rows(20):
        log.add(row)
    log.close()
    for _ in range(3):
        shipper.step(everything=True)
    assert len([record for record in caplog.records if "can't be shipped" in record.message]) == 1
    assert list((tmp_path / "log").glob("*.jsonl"))
    store.available = True
    shipper.close()
    assert store.rows() == names(20)
    assert not list((tmp_path / "log").glob("*.jsonl"))
    (shipped,) = store.folder.rglob("*.jsonl.gz")
    assert shipped.relative_to(store.folder).parts[:2] == ("bucket", "predictions")
    assert shipped.parent.name.startswith("date=20")


def test_a_file_that_is_written_is_left_and_one_of_a_dead_process_is_shipped(tmp_path, store):
    log = PredictionLog(tmp_path, max_mib=1, file_s=60)
    shipper = LogShipper(log, "s3://bucket/predictions")
    dead = tmp_path / f"predictions-20261101T000000000000-{2**22 + 1}.jsonl"
    alive = tmp_path / f"predictions-20261101T000000000000-{os.getppid()}.jsonl"
    for path in (dead, alive):
        path.write_text(make_rows(1)[0].model_dump_json() + "\n")
    shipper.step()
    assert (dead.exists(), alive.exists(), log.path.exists()) == (False, True, True)
    log.close()
    shipper.close()


def test_a_file_that_is_shipped_twice_after_a_crash_is_one_object(tmp_path, store):
    log = PredictionLog(tmp_path, max_mib=1, file_s=60)
    shipper = LogShipper(log, "s3://bucket/predictions")
    dead = tmp_path / f"predictions-20261101T000000000000-{2**22 + 1}.jsonl"
    for _ in range(2):
        dead.write_text(make_rows(1)[0].model_dump_json() + "\n")
        shipper.step()
    assert store.rows() == ["r0"]
    log.close()
    shipper.close()


def test_feedback_is_shipped_again_when_it_has_grown(tmp_path, store):
    log = PredictionLog(tmp_path, max_mib=1, file_s=60)
    shipper = LogShipper(log, "s3://bucket/predictions")
    feedback = tmp_path / "feedback-1.feedback.ndjson"
    for content in ("one\n", "one\ntwo\n"):
        feedback.write_text(content)
        shipper.step()
    (shipped,) = store.folder.rglob("*.feedback.ndjson")
    assert shipped.read_text() == "one\ntwo\n"
    assert feedback.exists()
    log.close()
    shipper.close()


def test_an_address_with_credentials_or_of_another_kind_is_refused(tmp_path):
    log = PredictionLog(tmp_path, max_mib=1)
    for address in ("https://bucket/predictions", "s3://user:secret@bucket", "s3:///predictions"):
        with pytest.raises(ConfigError, match="s3://BUCKET/PREFIX"):
            LogShipper(log, address)
    log.close()
