"""The agent and the service of an edge device as processes, as systemd starts them, against a real repository."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from echoplane.bundle import Golden, read, seal, write_golden
from echoplane.bundle.spec import GOLDEN, Contents
from echoplane.edge import publish
from tests.edge_site import TASK, Site
from tests.serving_process import CHECKOUT, Running, _stop, free_port, wait_for
from tests.tiny_bundle import make_tiny_bundle


class Box:
    """A device whose processes have the environment that `edge.env` would give them."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir()
        settings = {
            "REPOSITORY_URL": f"{site.url}/published",
            "ROOT_FILE": str(site.published / "metadata" / "1.root.json"),
            "FOLDER": str(folder / "edge"),
            "DEVICE": "box-1",
            "TASKS": TASK,
            "SERVICE_URL": f"http://127.0.0.1:{self.port}",
            "RESERVE_MIB": "1",
            "POLL_S": "0.5",
            "PREDICTION_LOG": str(folder / "predictions"),
        }
        bare = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        home = {"HOME": str(folder), "BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
        edge = {f"ECHOPLANE_EDGE_{name}": value for name, value in settings.items()}
        self.environment = bare | home | edge | {"PYTHONPATH": str(CHECKOUT), "ECHOPLANE_POLL_S": "0.5"}

    def once(self) -> dict[str, object]:
        """One cycle of the agent: its report."""
        command = [sys.executable, "-m", "serving.edge", "once"]
        done = subprocess.run(command, cwd=CHECKOUT, env=self.environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def serving(self) -> Iterator[Running]:
        log = self.folder / "service.log"
        command = [sys.executable, "-m", "serving.edge", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        with log.open("w") as file:
            process = subprocess.Popen(
                command, cwd=CHECKOUT, env=self.environment, stdout=file, stderr=file, start_new_session=True
            )
        running = Running(f"http://127.0.0.1:{self.port}", process.pid, log)
        try:
            wait_for(running, "/livez", process)
            yield running
        finally:
            _stop(process)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    found.close()


def served(running: Running) -> str | None:
    with running.client() as client:
        (slot,) = client.get("/v1/models").json()["models"]
    return slot["model"]["bundle"] if slot["model"] else None


def bad_bundle(folder: Path) -> Path:
    make_tiny_bundle(folder, 3)
    golden, spec = read(folder).golden, read(folder).spec
    (folder / GOLDEN).unlink()
    write_golden(folder, Golden(golden.batch, golden.output + 5, golden.embedding))
    seal(folder, Contents(**{name: getattr(spec, name) for name in Contents.model_fields}))
    return folder


def test_the_service_waits_for_a_first_bundle_takes_a_second_and_keeps_it_over_a_bad_one_and_a_dead_agent(
    site: Site, tmp_path: Path
) -> None:
    box = Box(site, tmp_path / "box")
    offer = [make_tiny_bundle(tmp_path / str(seed), seed) for seed in (1, 2)]
    first = publish.publish(site.repository, "stable", offer[0], "all", []).bundle
    with box.serving() as running:
        assert served(running) is None
        report = box.once()
        assert (report["tasks"][TASK]["bundle"], report["tasks"][TASK]["reason"]) == (first, "")
        assert served(running) == first
        second = publish.publish(site.repository, "stable", offer[1], "all", []).bundle
        assert box.once()["tasks"][TASK]["bundle"] == served(running) == second
        publish.publish(site.repository, "stable", bad_bundle(tmp_path / "bad"), "all", [])
        refused = box.once()["tasks"][TASK]
        assert (refused["state"], refused["bundle"], served(running)) == ("refused", second, second)
        assert "golden output" in refused["reason"]
        agent = subprocess.Popen([sys.executable, "-m", "serving.edge", "run"], cwd=CHECKOUT, env=box.environment)
        site.down = True
        agent.kill()
        agent.wait()
        assert httpx.get(f"{running.url}/readyz", trust_env=False).status_code == 200
    with box.serving() as running:
        wait_for(running, "/readyz")
        assert served(running) == second, "a start without a network"
