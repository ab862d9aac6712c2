"""A real service on a real registry answers with what was promoted, and with nothing that an alias alone names."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from echoplane import cli
from echoplane.adapters.local_mlflow import local_server
from echoplane.bundle import read
from echoplane.signing import TRUSTED_KEYS, ensure_own_keys, own_folder
from tests.integration.test_registry import House
from tests.serving_process import serve
from tests.tiny_bundle import TASK

pytestmark = pytest.mark.usefixtures("no_own_keys")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with local_server(tmp_path / "mlflow") as uri:
        yield House(tmp_path, uri)


def slot(client: httpx.Client) -> dict:
    (found,) = client.get("/v1/models").json()["models"]
    return found


def wait_until(client: httpx.Client, holds: Callable[[dict], bool]) -> dict:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if holds(found := slot(client)):
            return found
        time.sleep(0.2)
    raise AssertionError(f"the slot is still {slot(client)}")


def test_s1_an_alias_alone_changes_nothing_and_a_rollback_does(house: House, tmp_path: Path) -> None:
    """The user's own keys, made as the local pipeline makes them, need no setting but that of another home."""
    ensure_own_keys()
    first, second = house.bundle(1), house.bundle(2)
    for bundle in (first, second):
        assert house.promote(bundle).counts["passed"]
    ids = [read(Path(bundle).parent).id for bundle in (first, second)]
    settings = {
        "MLFLOW_TRACKING_URI": house.uri,
        "ECHOPLANE_POLL_S": "0.2",
        "ECHOPLANE_TRUSTED_KEYS": str((own_folder() or tmp_path) / TRUSTED_KEYS),
    }
    with serve(tmp_path, settings) as running, running.client() as client:
        assert slot(client)["model"]["bundle"] == ids[1]
        old = house.registry.version_of(TASK, ids[0])
        assert old is not None
        house.registry.client.set_registered_model_alias(TASK, "champion", old.number)
        told = wait_until(client, lambda told: told["problem"] is not None)
        assert "older than one that was accepted" in told["problem"]
        assert told["model"]["bundle"] == ids[1]
        assert "older than one that was accepted" in running.log
        new = house.registry.version_of(TASK, ids[1])
        assert new is not None
        house.registry.client.set_registered_model_alias(TASK, "champion", new.number)
        wait_until(client, lambda told: told["problem"] is None)
        assert cli.main(["rollback", TASK, "--reason", "a drill", "--tracking-uri", house.uri]) == 0
        wait_until(client, lambda told: told["model"]["bundle"] == ids[0])
        assert slot(client)["problem"] is None
