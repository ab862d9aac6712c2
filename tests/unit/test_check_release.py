"""The program of `helm test`, on a gateway that demands certificates and on doubles of the registry and the service."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.gateway import scp
from serving.gateway.settings import GatewaySettings
from serving.gateway.store import Store
from tests.certificates import Authority

PROGRAM = Path(__file__).resolve().parents[2] / "helm" / "echoplane" / "files" / "check_release.py"


class Double(http.server.ThreadingHTTPServer):
    """A double of MLflow's /health and of the service's /readyz, which says 503 if a task has no model."""

    def __init__(self) -> None:
        self.ready = True
        double = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = {"slots": [{"task": "echo-view-video", "ready": double.ready}]}
                self.send_response(200 if double.ready or self.path == "/health" else 503)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def double() -> Iterator[Double]:
    double = Double()
    yield double
    double.shutdown()
    double.server_close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store")
    yield opened
    opened.close()


def check(double: Double, **environment: str) -> subprocess.CompletedProcess[str]:
    url = f"http://127.0.0.1:{double.server_port}"
    given = {"MLFLOW": url, "SERVING": url, **environment}
    command = [sys.executable, "-c", PROGRAM.read_text()]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


def test_an_instance_is_stored_over_tls_and_no_rule_is_for_it(tmp_path: Path, double: Double, store: Store) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    authority = Authority(secret, "ca")
    certificate, key = authority.issue("tls", "gateway.hospital")
    settings = GatewaySettings(
        callers=("PACS",), dicom_port=0, tls_certificate=certificate, tls_key=key, tls_client_ca=str(authority.path)
    )
    server = scp.start(store, settings)
    assert server.socket is not None
    named = {"GATEWAY": "127.0.0.1", "GATEWAY_PORT": str(server.socket.getsockname()[1]), "GATEWAY_CALLED": "ECHOPLANE"}
    checked = check(double, **named, GATEWAY_CALLING="PACS", GATEWAY_TLS=str(secret))
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.splitlines()[1:] == ["the gateway stores an instance", "echo-view-video has a model"]
    (instance,) = store.find("default")
    assert settings.rule_for("default", instance.modality) is None
    refused = check(double, **named, GATEWAY_CALLING="STRANGER", GATEWAY_TLS=str(secret))
    assert (refused.returncode, "did not store" in refused.stderr) == (1, True)
    server.shutdown()


def test_a_task_without_a_model_fails_the_test(double: Double) -> None:
    double.ready = False
    checked = check(double)
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (
        1,
        "echo-view-video has no model: /v1/models says why",
    )
