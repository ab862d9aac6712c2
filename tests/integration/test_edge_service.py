"""The agent and the service of an edge device as processes, as systemd starts them, against a real repository."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from echoplane.edge import publish
from tests.edge_process import Box
from tests.edge_site import TASK, Site, make_bad_bundle
from tests.serving_process import Running, wait_for
from tests.tiny_bundle import make_tiny_bundle


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
    root_file = site.published / "metadata" / "1.root.json"
    box = Box(tmp_path / "box", "box-1", f"{site.url}/published", root_file)
    box.set(SERVICE_URL=box.url, PREDICTION_LOG=str(tmp_path / "box" / "predictions"))
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
        box.start()
        site.down = True
        box.kill()
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
