"""Studies in a bucket of a real MinIO: listed, read, and waited for while the store restarts."""

import os
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pyarrow.fs import S3FileSystem

from echoplane import retry, storage
from echoplane.adapters.local_mlflow import free_port
from echoplane.errors import ConfigError, StoreUnavailable

CACHE = Path(os.environ.get("CLUSTER_CACHE", str(Path.home() / ".cache/test-cluster")))
BINARY = shutil.which("minio") or shutil.which("minio", path=str(CACHE / "bin"))
KEY, SECRET = "echoplane", "only-for-this-test"
pytestmark = pytest.mark.skipif(BINARY is None, reason="there is no minio binary on PATH or in the cluster's cache")


class Store:
    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [str(BINARY), "server", str(self.folder), "--address", f"127.0.0.1:{self.port}", "--quiet"],
            env=os.environ | {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_UPDATE": "off"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{self.endpoint}/minio/health/live", timeout=2):  # noqa: S310
                return
            time.sleep(0.1)
        raise AssertionError("MinIO did not start within 120 s")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    found = Store(tmp_path / "minio")
    for name, value in {
        "AWS_ENDPOINT_URL": found.endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    found.start()
    client = S3FileSystem(
        access_key=KEY,
        secret_key=SECRET,
        endpoint_override=f"127.0.0.1:{found.port}",
        scheme="http",
        allow_bucket_creation=True,
    )
    client.create_dir("studies")
    for name in ("day 1/b.dcm", "day 1/a.dcm", "DICOMDIR"):
        with client.open_output_stream(f"studies/in/{name}") as stream:
            stream.write(name.encode())
    yield found
    found.stop()


def test_a_bucket_is_listed_and_read_as_a_folder_is(store: Store) -> None:
    names = [one.name for one in storage.listed("s3://studies/in")]
    assert names == ["day 1/a.dcm", "day 1/b.dcm"]
    assert storage.content("s3://studies/in/", "day 1/a.dcm") == b"day 1/a.dcm"


def test_what_waiting_can_not_mend_is_said_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no such bucket"):
        storage.listed("s3://studies/none")
    with pytest.raises(FileNotFoundError):
        storage.content("s3://studies/in", "gone.dcm")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(ConfigError, match="refuses"):
        storage.content("s3://studies/in", "day 1/a.dcm")


def test_a_store_that_is_away_for_seconds_is_waited_for(store: Store) -> None:
    store.stop()
    back = threading.Timer(3, store.start)
    back.start()
    try:
        assert storage.content("s3://studies/in", "day 1/b.dcm") == b"day 1/b.dcm"
    finally:
        back.join()


def test_a_store_that_stays_away_is_given_up_with_a_reason(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "UNAVAILABLE_S", 2)
    store.stop()
    with pytest.raises(StoreUnavailable, match="AWS_ENDPOINT_URL"):
        storage.content("s3://studies/in", "day 1/b.dcm")
