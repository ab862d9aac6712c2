"""Studies in a bucket of a real MinIO: listed, read, and waited for while the store restarts."""

import threading

import pytest

from echoplane import retry, storage
from echoplane.errors import ConfigError, StoreUnavailable
from tests.minio_process import Store


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
