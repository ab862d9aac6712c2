"""The agent and the service of an edge device as processes, as systemd starts them, against a real repository."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from echoplane.edge import publish
from tests.edge_site import TASK, Site, make_bad_bundle
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
        publish.publish(site.repository, "stable", make_bad_bundle(tmp_path / "bad"), "all", [])
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


def test_results_spooled_offline_arrive_once_each(site: Site, tmp_path: Path) -> None:
    spool, rng = tmp_path / "spool", np.random.default_rng(3)
    spool.mkdir()
    device = site.device("box-1", prediction_log=spool, results=f"{site.url}/results")
    expected = []
    for hour in range(72):
        site.down = hour % 24 != 23
        with (spool / f"predictions-2026-{hour // 10}-77.jsonl").open("ab") as file:
            for _ in range(int(rng.integers(1, 5))):
                expected.append(f"row {len(expected)}")
                file.write(json.dumps({"row": expected[-1]}).encode() + b"\n")
            file.write(b'{"cut":') if hour == 71 else None
        device.cycle()
    parts = sorted((site.folder / "results" / "box-1").iterdir())
    assert [json.loads(line)["row"] for part in parts for line in part.read_text().splitlines()] == expected
    assert [path.name for path in spool.iterdir()] == ["predictions-2026-7-77.jsonl"]
