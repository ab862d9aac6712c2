"""The dashboard's history: its queries, and what the service makes of a Prometheus' answers (a double, here)."""

import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from echoplane.errors import ConfigError
from echoplane.monitoring.dashboard_history import queries
from echoplane.monitoring.dashboards import SERVICE
from echoplane.settings import ServingSettings
from echoplane.tokens import change_tokens, new_token
from serving.api.http import history
from serving.api.models.slots import Slot
from tests.serving_app import Asking, tiny_slot

CHARTS = [panel for panel in SERVICE if panel.kind != "table"]
LABELS = {"namespace": 'a"b\\'}


class PrometheusDouble(http.server.ThreadingHTTPServer):
    """A double of Prometheus' query_range: answers each query with `status` and `body`, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.asked = 200, list[dict[str, str]]()
        self.tokens: list[str | None] = []
        self.body = answer({"route": "/v1/study"}, [[1000, "2.5"], [1030, "NaN"], [1060, "3"]])
        double = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
                double.asked.append({name: values[0] for name, values in parse_qs(sent).items()})
                double.tokens.append(self.headers["Authorization"])
                self.send_response(double.status)
                self.end_headers()
                self.wfile.write(double.body)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


def answer(labels: dict[str, str], values: list) -> bytes:
    data = {"resultType": "matrix", "result": [{"metric": labels, "values": values}]}
    return json.dumps({"status": "success", "data": data}).encode()


@pytest.fixture
def prometheus() -> Iterator[PrometheusDouble]:
    double = PrometheusDouble()
    yield double
    double.shutdown()
    double.server_close()


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slot]:
    with tiny_slot(tmp_path_factory.mktemp("bundle")) as slot:
        yield slot


def test_each_chart_of_the_dashboard_has_its_history_and_no_table_has(slot: Slot, prometheus: PrometheusDouble) -> None:
    ask = Asking(slot, ServingSettings(prometheus_url=prometheus.url), host="127.0.0.1")
    body = ask("GET", "/v1/history?range=6h").json()
    assert (body["configured"], body["range_s"]) == (True, 6 * 3600)
    assert [panel["title"] for panel in body["panels"]] == [panel.title for panel in CHARTS]
    assert body["panels"][0]["lines"] == {"/v1/study": [[1000.0, 2.5], [1060.0, 3.0]]}, "NaN is no point"
    spans = {float(asked["end"]) - float(asked["start"]) for asked in prometheus.asked}
    assert spans == {6 * 3600}
    assert {int(asked["step"]) for asked in prometheus.asked} == {180}


def test_many_dashboards_ask_prometheus_once(slot: Slot, prometheus: PrometheusDouble) -> None:
    ask = Asking(slot, ServingSettings(prometheus_url=prometheus.url), host="127.0.0.1")
    for _ in range(3):
        assert ask("GET", "/v1/history").status_code == 200
    assert len(prometheus.asked) == sum(len(panel.metrics) for panel in CHARTS)
    prometheus.status = 500
    for _ in range(3):
        assert ask("GET", "/v1/history?range=7d").status_code == 503
    assert len(prometheus.asked) <= 2 * sum(len(panel.metrics) for panel in CHARTS)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (302, b""),
        (200, b"<html>"),
        (200, b'{"status": "error"}'),
        (200, b'{"status": "success"}'),
        (200, b"[]"),
    ],
)
def test_a_prometheus_that_fails_is_a_problem_with_the_reason(
    slot: Slot, prometheus: PrometheusDouble, status: int, body: bytes
) -> None:
    prometheus.status, prometheus.body = status, body
    ask = Asking(slot, ServingSettings(prometheus_url=prometheus.url), host="127.0.0.1")
    refused = ask("GET", "/v1/history")
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:echoplane:problem:history-unavailable")


def test_an_answer_without_end_is_not_read(
    slot: Slot, prometheus: PrometheusDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_BYTES", 1000)
    prometheus.body = answer({}, [[1000, "1"]] * 1000)
    ask = Asking(slot, ServingSettings(prometheus_url=prometheus.url), host="127.0.0.1")
    assert ask("GET", "/v1/history").status_code == 503


def test_no_other_range_can_be_asked_for(slot: Slot, prometheus: PrometheusDouble) -> None:
    ask = Asking(slot, ServingSettings(prometheus_url=prometheus.url), host="127.0.0.1")
    assert ask("GET", "/v1/history?range=10y").status_code == 400
    assert prometheus.asked == []


def test_without_prometheus_the_page_is_told_so(slot: Slot) -> None:
    ask = Asking(slot, ServingSettings(), host="127.0.0.1")
    body = ask("GET", "/v1/history").json()
    assert (body["configured"], body["panels"]) == (False, [])
    with pytest.raises(ConfigError, match="ECHOPLANE_PROMETHEUS_URL"):
        Asking(slot, ServingSettings(prometheus_url="prometheus:9090"))


def test_history_needs_the_role_operate_and_the_token_for_prometheus_is_its_own(
    slot: Slot, prometheus: PrometheusDouble, tmp_path: Path
) -> None:
    (tmp_path / "prometheus").write_text("secret\n")
    tokens = tmp_path / "tokens.json"
    given = {"prometheus_url": prometheus.url, "prometheus_token_file": str(tmp_path / "prometheus")}
    ask, statuses = Asking(slot, ServingSettings(token_file=str(tokens), **given)), {}
    for role in ("predict", "feedback", "operate"):
        token, entry = new_token(role, "lakeside", (role,))
        change_tokens(tokens, add=entry)
        statuses[role] = ask("GET", "/v1/history", token).status_code
    assert statuses == {"predict": 403, "feedback": 403, "operate": 200}
    assert set(prometheus.tokens) == {"Bearer secret"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="the Debian package prometheus is not installed")
def test_promtool_accepts_every_query(tmp_path: Path) -> None:
    found = [query for panel in CHARTS for query, _ in queries(panel, 120, LABELS)]
    rules = [{"record": f"panel:{k}", "expr": query} for k, query in enumerate(found)]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "history", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "rules.yaml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert all('namespace="a\\"b' in query for query in found)
