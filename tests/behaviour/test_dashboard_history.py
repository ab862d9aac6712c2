"""The dashboard's history from a real Prometheus that scrapes the service, in a real browser."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import expect

from tests import dicom_files as dicom
from tests.browser import DESK, chromium, needs_chromium
from tests.serving_process import Running, free_port, serve
from tests.tiny_bundle import make_tiny_bundle

PROMETHEUS = shutil.which("prometheus")
pytestmark = [
    needs_chromium,
    pytest.mark.skipif(PROMETHEUS is None, reason="the Debian package prometheus is not installed"),
]
WAIT_S = 60


@pytest.fixture
def prometheus_port() -> int:
    return free_port()


@pytest.fixture
def service(tmp_path: Path, prometheus_port: int) -> Iterator[Running]:
    settings = {
        "ECHOPLANE_BUNDLES": str(make_tiny_bundle(tmp_path / "tiny")),
        "ECHOPLANE_PROMETHEUS_URL": f"http://127.0.0.1:{prometheus_port}",
        "ECHOPLANE_PROMETHEUS_LABELS": '{"job": "echoplane"}',
    }
    with serve(tmp_path, settings) as running:
        yield running


@pytest.fixture
def prometheus(tmp_path: Path, service: Running, prometheus_port: int) -> Iterator[subprocess.Popen]:
    target = service.url.removeprefix("http://")
    scrape = {"job_name": "echoplane", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
    options = {
        "config.file": tmp_path / "prometheus.yaml",
        "storage.tsdb.path": tmp_path / "data",
        "web.listen-address": f"127.0.0.1:{prometheus_port}",
    }
    command = [str(PROMETHEUS), *(f"--{name}={value}" for name, value in options.items())]
    with (tmp_path / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    yield process
    process.kill()
    process.wait(timeout=10)


def test_the_dashboard_draws_what_prometheus_keeps_and_its_own_once_that_is_gone(
    service: Running, prometheus: subprocess.Popen
) -> None:
    deadline, drawn = time.monotonic() + WAIT_S, False
    with service.client() as client:
        while not drawn and time.monotonic() < deadline:
            assert client.post("/v1/study", files={"file": dicom.jpeg_clip()}).status_code == 200
            history = client.get("/v1/history?range=1h")
            panels = {panel["title"]: panel["lines"] for panel in history.json().get("panels", [])}
            stages = panels.get("Time of 95 % of the studies in each stage (ms)", {})
            drawn = "/v1/study" in panels.get("Requests per minute, by route", {}) and "inference" in stages
            time.sleep(1)
    assert drawn, (history.text, service.log)
    assert panels["Requests per minute, by route"]["/v1/study"][-1][1] > 0
    assert 0 < stages["inference"][-1][1] < 60_000
    with chromium() as browser, browser.new_context(viewport=DESK, base_url=service.url) as context:
        page = context.new_page()
        page.goto("/dashboard")
        expect(page.locator("#updated")).to_contain_text("The charts come from Prometheus")
        expect(page.get_by_label("Show")).to_have_value("1h")
        panel = page.locator(".panel", has_text="Requests per minute, by route")
        expect(panel).to_contain_text("1 h ago")
        expect(panel.locator(".legend")).to_contain_text("/v1/study")
        prometheus.kill()
        page.get_by_label("Show").select_option("7d")
        expect(page.locator("#notice")).to_contain_text("Prometheus gives no history now", timeout=15_000)
        expect(page.locator("#updated")).to_contain_text("kept in this tab")
