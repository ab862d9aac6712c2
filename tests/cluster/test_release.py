"""The chart on a real Kubernetes: it installs, answers a real study, and loses no request while it changes."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster import k8s

SCENARIOS = sorted(k8s.CHART.glob("ci/*-values.yaml"))
OPERATOR = "monitoring.coreos.com/"
"""API group of the Prometheus operator, whose custom resources are not installed here; test_chart.py validates them."""
pytestmark = pytest.mark.timeout(400, func_only=True)
FIRST_ANSWER_S = 300
INFRA = k8s.CHART.parents[1] / "infra"
KEY = "echoplane-deid-key"
LOSE_ALL = """
import os, pathlib, boto3
pathlib.Path("/data/mlflow.db").unlink()
bucket = boto3.resource("s3").Bucket(os.environ["MLFLOW_ARTIFACTS_DESTINATION"].split("/")[2])
print(sum(1 for one in bucket.objects.all() if one.delete()))
"""
STEP = f"system:serviceaccount:{k8s.NAMESPACE}:{k8s.RELEASE}-pipelines"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.stem.removesuffix("-values"))
def test_the_api_server_takes_every_object_of_a_scenario(release: str, scenario: Path) -> None:
    options = ["--values", str(scenario), "--set", "serving.service.nodePort=null", "--kube-version", "1.34.0"]
    text = k8s.helm("template", "scenario", str(k8s.CHART), *options)
    objects = [each for each in yaml.safe_load_all(text) if each and not each["apiVersion"].startswith(OPERATOR)]
    assert len(objects) > 5
    given = yaml.safe_dump_all(objects)
    k8s.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename", "-", given=given)


def test_before_there_is_a_champion_pods_live_and_wait(release: str) -> None:
    k8s.wait_until(lambda: all(_started(pod) for pod in k8s.serving_pods()), 180)
    for pod in k8s.serving_pods():
        (status,) = pod["status"]["containerStatuses"]
        assert (status["ready"], status["restartCount"]) == (False, 0)


def _started(pod: dict) -> bool:
    return any(status.get("started") for status in pod["status"].get("containerStatuses", []))


def test_the_champion_answers_a_real_study(champion: str, clip: bytes) -> None:
    response = k8s.ask(clip)
    assert response.status_code == 200, response.text
    assert response.json()["model"]["bundle"] == champion
    assert response.json()["model"]["version"] == "1"


def test_the_first_answer_comes_within_five_minutes_of_the_install(champion: str, figures: dict[str, float]) -> None:
    assert figures["install_to_first_answer_s"] <= FIRST_ANSWER_S


def test_helm_test_passes(champion: str, release: str) -> None:
    assert f"{k8s.TASK} has a model" in k8s.helm("test", release, "--logs")


def test_an_upgrade_and_a_rollback_fail_no_request(
    champion: str, release: str, installation: list[str], clip: bytes, figures: dict[str, float]
) -> None:
    before = {pod["metadata"]["name"] for pod in k8s.serving_pods()}
    with k8s.Load(clip, at_least=2000) as load:
        k8s.helm("upgrade", release, str(k8s.CHART), *installation, "--set", "serving.maxInFlight=9")
        k8s.rolled_out("serving", 420)
        assert not before & {pod["metadata"]["name"] for pod in k8s.serving_pods() if not _ending(pod)}
        k8s.helm("rollback", release)
        k8s.rolled_out("serving", 420)
    load.none_failed(figures, "the release is upgraded and rolled back")


def _ending(pod: dict) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def test_a_deleted_pod_fails_no_request(champion: str, clip: bytes, figures: dict[str, float]) -> None:
    with k8s.Load(clip, at_least=300) as load:
        k8s.kubectl("delete", "pod", k8s.serving_pods()[0]["metadata"]["name"])
        k8s.rolled_out("serving")
    load.none_failed(figures, "a serving pod is deleted")


def test_without_the_registry_the_service_answers_on(
    champion: str, release: str, clip: bytes, figures: dict[str, float]
) -> None:
    k8s.kubectl("scale", f"deployment/{release}-mlflow", "--replicas=0", "--timeout=60s")
    try:
        with k8s.Load(clip, at_least=200) as load:
            k8s.wait_until(lambda: not k8s.get("pods", "--selector", "app.kubernetes.io/component=mlflow")["items"])
        load.none_failed(figures, "MLflow is away")
    finally:
        k8s.kubectl("scale", f"deployment/{release}-mlflow", "--replicas=1")
    k8s.rolled_out("mlflow")
    with k8s.forwarded(f"{release}-mlflow", 5000) as uri:
        import mlflow

        assert mlflow.MlflowClient(uri).get_model_version_by_alias(k8s.TASK, "champion").version == "1"


def test_what_was_backed_up_comes_back_after_all_of_it_was_lost(
    champion: str, release: str, clip: bytes, figures: dict[str, float], tmp_path: Path
) -> None:
    backup = str(tmp_path / "backup")
    k8s.kubectl("create", "secret", "generic", KEY, f"--from-literal=key={secrets.token_hex(32)}")
    key = k8s.get("secret", KEY)["data"]
    k8s.run("bash", str(INFRA / "backup"), k8s.NAMESPACE, backup)
    k8s.kubectl("delete", "secret", KEY)
    k8s.kubectl("exec", f"deployment/{release}-mlflow", "--container", "mlflow", "--", "python", "-c", LOSE_ALL)
    k8s.kubectl("rollout", "restart", f"deployment/{release}-mlflow")
    k8s.rolled_out("mlflow")
    assert not _registered(release, tmp_path / "lost")
    with k8s.Load(clip, at_least=100) as load:
        k8s.run("bash", str(INFRA / "restore"), k8s.NAMESPACE, backup)
    load.none_failed(figures, "MLflow is restored")
    assert _registered(release, tmp_path / "back") == champion
    assert k8s.get("secret", KEY)["data"] == key
    k8s.kubectl("delete", "secret", KEY)


def _registered(release: str, folder: Path) -> str:
    """The id of the champion's bundle, downloaded; empty where there is none. A process talks to one registry."""
    code = (
        "import sys; from echoplane.adapters.registry import Registry; registry = Registry(sys.argv[1])\n"
        f"version = registry.champion({k8s.TASK!r})\n"
        "print(registry.download(version, sys.argv[2]).id if version else '')"
    )
    with k8s.forwarded(f"{release}-mlflow", 5000) as uri:
        return k8s.run(sys.executable, "-c", code, uri, str(folder)).strip()


@pytest.mark.skipif(not os.environ.get("RESTART_KUBELET"), reason="RESTART_KUBELET names no command")
def test_a_restarted_kubelet_finds_everything_as_it_was(champion: str, clip: bytes) -> None:
    before = _restarts()
    with k8s.Load(clip, at_least=100) as load:
        k8s.run("bash", "-c", os.environ["RESTART_KUBELET"])
        k8s.run("kubectl", "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=120s")
        for part in ("serving", "mlflow", "minio"):
            k8s.rolled_out(part)
        k8s.wait_until(lambda: k8s.answers(clip))
    # a kubelet that starts counts its pods as not ready until it has asked them: on the only node nobody answers then
    assert set(load.seen) <= {"200", load.REFUSED}, load.seen
    assert _restarts() == before


def _restarts() -> dict[str, int]:
    pods = [pod for pod in k8s.get("pods")["items"] if pod["status"]["phase"] == "Running" and not _ending(pod)]
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}


@pytest.mark.parametrize(
    ("verb", "group", "kind", "allowed"),
    [
        ("create", "ray.io", "rayjobs", True),
        ("get", "ray.io", "rayjobs/status", True),
        ("delete", "ray.io", "rayjobs", True),
        ("update", "ray.io", "rayjobs", False),
        ("create", "ray.io", "rayclusters", False),
        ("get", "", "secrets", False),
        ("create", "", "pods", False),
        ("list", "", "pods", False),
    ],
)
def test_a_step_may_create_rayjobs_and_nothing_else(
    release: str, verb: str, group: str, kind: str, allowed: bool
) -> None:
    assert _may(k8s.NAMESPACE, verb, group, kind) is allowed
    assert not _may("default", verb, group, kind)


def _may(namespace: str, verb: str, group: str, kind: str) -> bool:
    """As `kubectl auth can-i` asks, which knows no kind whose definition is not installed."""
    resource, _, subresource = kind.partition("/")
    asked = {"namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": subresource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": STEP, "resourceAttributes": asked},
    }
    answer = k8s.run("kubectl", "create", "--filename", "-", "--output", "json", given=json.dumps(review))
    return json.loads(answer)["status"]["allowed"]


def test_a_pod_holds_no_token_and_can_write_nowhere_but_in_tmp(champion: str) -> None:
    pod = k8s.serving_pods()[0]["metadata"]["name"]
    tried = "touch /tmp/a && echo tmp; touch /app/a || touch /opt/a || id -u; ls /var/run/secrets"
    command = ["kubectl", "--namespace", k8s.NAMESPACE, "exec", pod, "--", "sh", "-c", tried]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.stdout.split() == ["tmp", "10001"]
    assert "cannot access '/var/run/secrets'" in outcome.stderr


@pytest.mark.skipif(os.environ.get("NETWORK_POLICY") != "enforced", reason="the network enforces no NetworkPolicy")
def test_a_pod_that_reads_studies_reaches_the_registry_and_no_bucket(champion: str, release: str, minio: str) -> None:
    assert _reaches(f"{release}-mlflow", 5000)
    assert not _reaches(minio, 9000)


def _reaches(host: str, port: int) -> bool:
    pod = k8s.serving_pods()[0]["metadata"]["name"]
    code = f"import socket; socket.create_connection(({host!r}, {port}), timeout=5); print('connected')"
    command = ["kubectl", "--namespace", k8s.NAMESPACE, "exec", pod, "--", "python", "-c", code]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.stdout or "timed out" in outcome.stderr or "refused" in outcome.stderr, outcome.stderr
    return bool(outcome.stdout)


def test_k2_the_namespace_refuses_a_pod_that_is_not_restricted(release: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "rooted"},
        "spec": {"containers": [{"name": "rooted", "image": "echoplane-serving:1"}]},
    }
    command = ["kubectl", "--namespace", k8s.NAMESPACE, "apply", "--filename", "-"]
    outcome = subprocess.run(command, input=json.dumps(pod), capture_output=True, text=True, check=False)
    assert 'violates PodSecurity "restricted' in outcome.stderr
