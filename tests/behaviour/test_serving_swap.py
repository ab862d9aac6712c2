"""Models that change while the service answers: no request is lost, a bad model is refused, and both can be seen."""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from echoplane import bundle as bundles
from tests import dicom_files as dicom
from tests.serving_process import Running, serve
from tests.tiny_bundle import make_tiny_bundle

TASK = "/v1/echo-view-video"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("bundles")
    return [make_tiny_bundle(root / f"tiny{seed}", seed) for seed in range(2)]


@pytest.fixture
def link(tmp_path: Path, folders: list[Path]) -> Path:
    link = tmp_path / "champion"
    link.symlink_to(folders[0])
    return link


@pytest.fixture
def service(tmp_path: Path, link: Path) -> Iterator[Running]:
    settings = {"ECHOPLANE_BUNDLES": f"echo-view-video={link}", "ECHOPLANE_POLL_S": "0.1"}
    with serve(tmp_path, settings) as running:
        yield running


def point(link: Path, folder: Path) -> None:
    """To another folder at once, as a deployment does it."""
    new = link.with_name("next")
    new.symlink_to(folder)
    new.replace(link)


def slot(client: httpx.Client) -> dict:
    (model,) = client.get("/v1/models").json()["models"]
    return model


def wait_until(client: httpx.Client, holds: Callable[[dict], bool]) -> dict:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if holds(found := slot(client)):
            return found
        time.sleep(0.05)
    raise AssertionError(f"the slot is still {found}")


class Asking:
    """A client that asks the same question over and over; `seen` holds (status, bundle id) in order."""

    def __init__(self, service: Running) -> None:
        self.seen: list[tuple[int, str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(service, dicom.jpeg_clip()))

    def _ask(self, service: Running, data: bytes) -> None:
        with service.client() as client:
            while not self._stop.is_set():
                response = client.post(TASK, files={"file": ("a.dcm", data)})
                self.seen.append((response.status_code, response.json().get("model", {}).get("bundle", "")))

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)


def wait_for_answers(clients: tuple[Asking, ...], bundle: str) -> None:
    """Waits until each client was last answered by this model."""
    deadline = time.monotonic() + 60
    while not all(asking.seen and asking.seen[-1][1] == bundle for asking in clients):
        assert time.monotonic() < deadline, "no answer of the model"
        time.sleep(0.02)


def test_swapping_models_back_and_forth_loses_no_request(service: Running, link: Path, folders: list[Path]) -> None:
    ids = [bundles.read(folder).id for folder in folders]
    with service.client() as client, Asking(service) as one, Asking(service) as other:
        wait_for_answers((one, other), ids[0])
        for turn in (1, 0, 1):
            point(link, folders[turn])
            wait_until(client, lambda told, turn=turn: told["model"]["bundle"] == ids[turn])
            wait_for_answers((one, other), ids[turn])
    for asking in (one, other):
        assert {status for status, _ in asking.seen} == {200}
        answered_by = [bundle for _, bundle in asking.seen]
        assert set(answered_by) == set(ids)
        changes = sum(a != b for a, b in itertools.pairwise(answered_by))
        assert changes == 3, "each swap is seen once, and no request goes back to the old model"


def test_a_changed_or_wrong_bundle_is_refused_and_the_old_one_answers_on(
    service: Running, link: Path, folders: list[Path], tmp_path: Path
) -> None:
    good = bundles.read(folders[0]).id
    broken = make_tiny_bundle(tmp_path / "broken", seed=7)
    model = broken / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\1")
    with service.client() as client:
        point(link, broken)
        told = wait_until(client, lambda told: told["problem"] is not None)
        assert "changed since" in told["problem"]
        assert told["ready"]
        assert told["model"]["bundle"] == good
        response = client.post(TASK, files={"file": ("a.dcm", dicom.jpeg_clip())})
        assert (response.status_code, response.json()["model"]["bundle"]) == (200, good)
        exposed = client.get("/metrics").text
        assert 'echoplane_slot_stale{task="echo-view-video"} 1.0' in exposed
        assert 'echoplane_model_loads_total{outcome="refused",task="echo-view-video"}' in exposed
        point(link, folders[1])
        wait_until(client, lambda told: told["problem"] is None)
        assert 'echoplane_slot_stale{task="echo-view-video"} 0.0' in client.get("/metrics").text
        assert f'bundle="{good[:12]}"' in client.get("/metrics").text


def test_without_a_model_the_service_lives_but_is_not_ready(tmp_path: Path) -> None:
    settings = {"ECHOPLANE_BUNDLES": f"echo-view-video={tmp_path / 'champion'}", "ECHOPLANE_POLL_S": "0.1"}
    with serve(tmp_path, settings, ready=False) as running, running.client() as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503
        response = client.post(TASK, files={"file": ("a.dcm", dicom.jpeg_clip())})
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["type"] == "urn:echoplane:problem:no-model"
        assert not slot(client)["ready"]
        make_tiny_bundle(tmp_path / "champion")
        wait_until(client, lambda told: told["ready"])
        assert client.get("/readyz").status_code == 200


def test_a_bundle_is_served_on_the_runtime_that_it_was_evaluated_on(
    service: Running, link: Path, folders: list[Path], tmp_path: Path
) -> None:
    evaluated = make_tiny_bundle(tmp_path / "evaluated", seed=3)
    runtime = {"runtime": "onnxruntime", "precision": "f32", "threads": 1}
    stated = {"bundle_id": bundles.read(evaluated).id, "figures": {}} | runtime
    (evaluated / "evaluation.json").write_text(json.dumps(stated))
    with service.client() as client:
        point(link, evaluated)
        told = wait_until(client, lambda told: told["model"]["bundle"] == stated["bundle_id"])
        assert (told["model"]["runtime"], told["model"]["precision"]) == ("onnxruntime", "f32")
