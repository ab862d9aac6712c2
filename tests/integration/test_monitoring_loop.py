"""From drift in the prediction log to a retraining run and back, over a real Prometheus and a real Alertmanager.

The service is a double: rows are appended to the log as it would. So is the retraining command: another bundle answers
after it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from echoplane.adapters.local_mlflow import free_port
from echoplane.cli import main
from echoplane.evaluation.scores import EMBEDDING, FEATURE, SCHEMA
from echoplane.monitoring.feedback import FeedbackRow
from echoplane.monitoring.prediction_log import unpacked
from echoplane.monitoring.prometheus_dashboards import DRIFT
from echoplane.monitoring.retraining import AuditFile, LoopPolicy, loop_of, now
from echoplane.stages.outputs import Evaluation
from echoplane.stages.stage import Manifest, digest_of, file_digests
from tests.monitor_log import BUNDLE, TASK, append, make_rows

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "helm" / "echoplane" / "files" / "rules"
NEXT_BUNDLE = "c" * 64
IN_USE_ALONE = ("echoplane_accuracy_", "echoplane_automatic_rollbacks_")
"""Metrics that this installation has not: accuracy is estimated from 1,000 studies on, and rollback is switched off."""
TOKEN = "a-token-of-this-test"  # noqa: S105 (of this test alone)
BINARIES = {name: shutil.which(name) for name in ("prometheus", "prometheus-alertmanager")}
pytestmark = pytest.mark.skipif(
    None in BINARIES.values(), reason="the Debian packages prometheus and prometheus-alertmanager are not installed"
)
RETRAIN = """
import sys
from pathlib import Path
from tests.monitor_log import append, make_rows
folder, bundle, task = sys.argv[1:]
with (Path(folder) / "retrained").open("a") as file:
    file.write(task + "\\n")
append(Path(folder) / "log", make_rows(30, first=5000, bundle=bundle))
"""


def write_evaluation(folder: Path, bundle: str) -> None:
    """Writes the results of an `evaluate` whose studies are as the double's."""
    folder.mkdir(parents=True)
    rows = []
    for row in make_rows(400, first=1_000_000):
        common = {field.name: 0.0 if pa.types.is_floating(field.type) else row.request_id for field in SCHEMA}
        known = {"label": row.label, "confidence": row.confidence, "abstained": False}
        features = {f"{FEATURE}{name}": value for name, value in row.features.items()}
        rows.append(common | known | features | {EMBEDDING: unpacked([row.embedding], 8)[0].tolist()})
    pq.write_table(pa.Table.from_pylist(rows), folder / "scores.parquet")
    digest, output = digest_of(file_digests(folder)), Evaluation(bundle_id=bundle)
    Manifest(
        stage="evaluate", key="0", digest=digest, folder=str(folder), counts={}, output=output, duration_s=0
    ).write(folder / "manifest.json")


def wait_for(what: str, found: Callable[[], Any], timeout_s: float = 40) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with suppress(urllib.error.URLError, ConnectionError):
            if value := found():
                return value
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {timeout_s:.0f} s")


class Loop:
    """The processes of the test, each on a free port of this machine."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.ports = {name: free_port() for name in ("monitor", "prometheus", "alertmanager")}
        self.log, self.state = folder / "log", folder / "state"
        (folder / "token").write_text(TOKEN)
        (folder / "retrain.py").write_text(RETRAIN)

    def start(self, *command: str, **environment: str) -> subprocess.Popen:
        with (self.folder / "output.log").open("ab") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | environment, stdout=output, stderr=subprocess.STDOUT
            )
        self._stack.callback(self._stop, process)
        return process

    @staticmethod
    def _stop(process: subprocess.Popen) -> None:
        process.terminate()
        process.wait(30)

    def start_monitor(self) -> subprocess.Popen:
        retrain = [sys.executable, str(self.folder / "retrain.py"), str(self.folder), NEXT_BUNDLE, "{task}"]
        return self.start(
            sys.executable,
            "-m",
            "serving.monitor",
            PYTHONPATH=str(ROOT),
            ECHOPLANE_PREDICTION_LOG=str(self.log),
            ECHOPLANE_EVALUATIONS=str(self.folder / "evaluate"),
            ECHOPLANE_MONITOR_STATE=str(self.state),
            ECHOPLANE_MONITOR_PORT=str(self.ports["monitor"]),
            ECHOPLANE_MONITOR_POLL_S="0.3",
            ECHOPLANE_WEBHOOK_TOKEN_FILE=str(self.folder / "token"),
            ECHOPLANE_RETRAIN_COMMAND=" ".join(retrain),
            ECHOPLANE_RETRAIN_DEBOUNCE_S="1",
        )

    def start_prometheus(self) -> None:
        target = [{"targets": [f"127.0.0.1:{self.ports['monitor']}"]}]
        managers = [{"static_configs": [{"targets": [f"127.0.0.1:{self.ports['alertmanager']}"]}]}]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES / "monitor.yaml")],
            "scrape_configs": [{"job_name": "monitor", "static_configs": target}],
            "alerting": {"alertmanagers": managers},
        }
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self.start(
            str(BINARIES["prometheus"]),
            f"--config.file={self.folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}",
            "--rules.alert.resend-delay=1s",
        )

    def start_alertmanager(self) -> None:
        webhook = {
            "url": f"http://127.0.0.1:{self.ports['monitor']}/v1/alerts",
            "http_config": {"authorization": {"credentials_file": str(self.folder / "token")}},
        }
        route = {"matchers": ['retrain="true"'], "receiver": "echoplane", "group_wait": "1s", "group_interval": "1s"}
        config = {
            "route": {"receiver": "nobody", "routes": [route]},
            "receivers": [{"name": "nobody"}, {"name": "echoplane", "webhook_configs": [webhook]}],
        }
        (self.folder / "alertmanager.yaml").write_text(yaml.safe_dump(config))
        self.start(
            str(BINARIES["prometheus-alertmanager"]),
            f"--config.file={self.folder / 'alertmanager.yaml'}",
            f"--storage.path={self.folder / 'alerts'}",
            f"--web.listen-address=127.0.0.1:{self.ports['alertmanager']}",
            "--cluster.listen-address=",
        )

    def ask(self, name: str, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}{path}", timeout=5) as answer:
            return answer.read().decode()

    def firing(self) -> set[str]:
        alerts = json.loads(self.ask("prometheus", "/api/v1/alerts"))["data"]["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def points(self, query: str) -> int:
        """Returns the number of points of a panel's query over the last minute, with Grafana's variables filled in."""
        filled = query.replace("$__rate_interval", "5s").replace("$task", ".*")
        end = time.time()
        asked = urllib.parse.urlencode({"query": filled, "start": end - 60, "end": end, "step": 1})
        result = json.loads(self.ask("prometheus", f"/api/v1/query_range?{asked}"))["data"]["result"]
        return sum(len(series["values"]) for series in result)

    def kinds(self) -> list[str]:
        return [event.kind for event in AuditFile(self.state).events()]


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    with ExitStack() as stack:
        yield Loop(tmp_path, stack)


def test_drift_leads_to_one_approved_run_and_the_alert_resolves(loop: Loop) -> None:
    for bundle in (BUNDLE, NEXT_BUNDLE):
        write_evaluation(loop.folder / "evaluate" / bundle[:4], bundle)
    known = "0123456789abcdef"
    append(loop.log, [make_rows(1)[0].model_copy(update={"request_id": known}), *make_rows(199, first=1)])
    said = FeedbackRow(time=now(), request_id=known, task=TASK, label="A4C", author="alex", site="lakeside")
    (loop.log / "one.feedback.ndjson").write_text(f"{said.model_dump_json()}\n")
    monitor = loop.start_monitor()
    loop.start_prometheus()
    loop.start_alertmanager()
    wait_for(
        "studies are read", lambda: f'studies{{task="{TASK}",version="3"}} 200.0' in loop.ask("monitor", "/metrics")
    )

    monitor.send_signal(signal.SIGKILL)
    monitor.wait()
    append(loop.log, make_rows(100, first=200))
    loop.start_monitor()
    wait_for("a restart goes on", lambda: 'version="3"} 300.0' in loop.ask("monitor", "/metrics"))
    time.sleep(3)
    assert "EchoplaneDrift" not in loop.firing()

    append(loop.log, make_rows(150, first=300, shift=1.5))
    wait_for("the alert fires", lambda: "EchoplaneDrift" in loop.firing())
    wait_for("a run is requested", lambda: loop.kinds() == ["requested"])
    time.sleep(2)
    assert not (loop.folder / "retrained").exists(), "nothing runs without approval"
    assert "Studies have changed" in loop.ask("monitor", "/")

    (request,) = loop_of(AuditFile(loop.state).events(), LoopPolicy(), now()).requests.values()
    assert main(["retrain", "approve", request.id, "--by", "alex", "--state", str(loop.state)]) == 0
    wait_for("the run ends", lambda: "finished" in loop.kinds())
    assert AuditFile(loop.state).events()[-1].reason == "exit status 0", (loop.folder / "output.log").read_text()
    wait_for("the alert resolves", lambda: "EchoplaneDrift" not in loop.firing())
    time.sleep(3)
    assert (loop.folder / "retrained").read_text() == f"{TASK}\n"
    assert loop.kinds() == ["requested", "approved", "started", "finished"]
    queries = [query for panel in DRIFT.panels for query, _ in panel.queries]
    silent = [query for query in queries if not loop.points(query)]
    assert [query for query in silent if not any(name in query for name in IN_USE_ALONE)] == []
