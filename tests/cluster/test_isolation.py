"""Who may reach whom, and what a step's token may start: attacks on a release, on a network that enforces policies."""

import json
import os
import subprocess
from typing import Any

import pytest

from echoplane.adapters.ray_manifest import LABELS, RayCluster
from pipelines.cluster import STEP_LABEL
from tests.cluster import k8s
from tests.cluster.ray_operator import RayOperator
from tests.rayjob_attacks import ATTACKS, attacking, step_rayjob

STEP = dict([STEP_LABEL])
ENFORCED = pytest.mark.skipif(
    os.environ.get("NETWORK_POLICY") != "enforced", reason="the network enforces no NetworkPolicy"
)
IDLE = ["sleep", "600"]


def listener(port: int) -> list[str]:
    return ["python", "-m", "http.server", str(port), "--directory", "/usr/share"]


def reaches(name: str, address: str, port: int) -> bool:
    """Returns whether pod `name` gets a connection."""
    code = f"import socket; socket.create_connection(({address!r}, {port}), timeout=4); print('connected')"
    command = ["kubectl", "--namespace", k8s.NAMESPACE, "exec", name, "--", "python", "-c", code]
    return "connected" in subprocess.run(command, capture_output=True, text=True, check=False).stdout


@ENFORCED
def test_s10_a_step_reaches_the_registry_and_no_address_outside(release: str, worker_image: str) -> None:
    outside = k8s.pod("outside", worker_image, listener(8443))
    step, other = k8s.pod("step", worker_image, IDLE, STEP), k8s.pod("other", worker_image, IDLE)
    with k8s.running(outside, "default") as address, k8s.running(step), k8s.running(other):
        assert reaches("other", address, 8443), "the address is there"
        assert not reaches("step", address, 8443)
        assert reaches("step", f"{release}-mlflow", 5000)


@ENFORCED
def test_s10_a_step_asks_the_clusters_dns_and_no_other(release: str, worker_image: str) -> None:
    outside = k8s.pod("resolver", worker_image, listener(5353))
    step = k8s.pod("step", worker_image, IDLE, STEP)
    with k8s.running(outside, "default") as address, k8s.running(step):
        assert not reaches("step", address, 5353)
        code = f"import socket; print(socket.gethostbyname('{release}-mlflow'))"
        assert k8s.kubectl("exec", "step", "--", "python", "-c", code).startswith("10.")


@ENFORCED
def test_s8_nobody_but_a_ray_pod_reaches_ray(release: str, worker_image: str) -> None:
    head = k8s.pod("ray-head", worker_image, listener(8265), LABELS)
    worker, step = k8s.pod("ray-worker", worker_image, IDLE, LABELS), k8s.pod("step", worker_image, IDLE, STEP)
    with k8s.running(head) as address, k8s.running(worker), k8s.running(step):
        assert reaches("ray-worker", address, 8265)
        assert not reaches("step", address, 8265)
        assert not reaches("ray-worker", f"{release}-mlflow", 5000), "Ray pods have no business with the registry"


def created_by_a_step(job: dict[str, Any]) -> str:
    """What the API server says to a step's account that creates `job` (as a dry run)."""
    account = f"--as=system:serviceaccount:{k8s.NAMESPACE}:{k8s.RELEASE}-pipelines"
    command = ["kubectl", "--namespace", k8s.NAMESPACE, "create", "--filename", "-", "--dry-run=server", account]
    outcome = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    return outcome.stdout + outcome.stderr


@pytest.fixture
def job(worker_image: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("ECHOPLANE_IMAGE", worker_image)
    return step_rayjob(RayCluster(volume=f"{k8s.RELEASE}-data"))


def test_s9_a_steps_token_creates_the_rayjobs_of_echoplane_and_no_other(release: str, job: dict[str, Any]) -> None:
    with RayOperator():
        assert "created" in created_by_a_step(job)
        for path, value in ATTACKS:
            attack = attacking(job, path, value)
            assert "denied request" in created_by_a_step(attack), path
