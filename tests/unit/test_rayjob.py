"""The RayJob that training asks Kubernetes for, and how its end is told."""

import json
import re
import threading
import time
from pathlib import Path

import kubernetes_validate
import pytest
from kubernetes.client import ApiException

from echoplane.adapters import rayjob as adapter
from echoplane.adapters.ray_manifest import RayCluster, check_allowed, rayjob
from echoplane.adapters.ray_training import Job
from echoplane.bundle.spec import WEIGHTS
from echoplane.errors import ConfigError, StageError
from echoplane.training.config import TrainConfig
from tests.cluster.ray_operator import ray_pod

SAMPLES = Path("/echoplane/dataset/fedcba9876543210")
STORAGE = Path("/echoplane/train/0123456789abcdef.partial/ray")
CLUSTER = RayCluster(volume="echoplane-data", image="echoplane-worker:1", memory_gib=3)


def pods(job: dict) -> list[dict]:
    spec = job["spec"]["rayClusterSpec"]
    return [spec["headGroupSpec"]["template"]["spec"], spec["workerGroupSpecs"][0]["template"]["spec"]]


def test_every_pod_meets_the_restricted_standard_and_works_on_the_volume() -> None:
    for pod in pods(rayjob("name", STORAGE, SAMPLES, CLUSTER, workers=2, gpu=False)):
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        own = {"name": "data", "mountPath": str(STORAGE), "subPath": "train/0123456789abcdef.partial/ray"}
        samples = {"name": "data", "mountPath": str(SAMPLES), "subPath": "dataset/fedcba9876543210", "readOnly": True}
        assert container["volumeMounts"][:2] == [own, samples], "the quarantine and the studies are not mounted"
        assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "echoplane-data"}
        assert container["resources"]["limits"]["memory"] == "3Gi"


def test_workers_alone_get_a_gpu_and_nothing_trains_on_the_head() -> None:
    job = rayjob("name", STORAGE, SAMPLES, CLUSTER, workers=3, gpu=True)
    head, worker = (pod["containers"][0]["resources"]["limits"] for pod in pods(job))
    assert "nvidia.com/gpu" not in head
    assert worker["nvidia.com/gpu"] == "1"
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["workerGroupSpecs"][0]["replicas"] == 3


def test_the_job_belongs_to_the_step_that_asked_and_starts_again_after_its_head_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KFP_POD_NAME", "step")
    monkeypatch.setenv("KFP_POD_UID", "uid")
    job = rayjob("name", STORAGE, SAMPLES, CLUSTER, workers=2, gpu=False)
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "step", "uid")
    assert job["spec"]["backoffLimit"] > 0
    assert job["spec"]["shutdownAfterJobFinishes"]
    assert str(STORAGE) in job["spec"]["entrypoint"]


FIELDS = {
    "spec": {
        "activeDeadlineSeconds",
        "backoffLimit",
        "entrypoint",
        "preRunningDeadlineSeconds",
        "rayClusterSpec",
        "runtimeEnvYAML",
        "shutdownAfterJobFinishes",
        "submissionMode",
        "ttlSecondsAfterFinished",
    },
    "cluster": {
        "authOptions",
        "autoscalerOptions",
        "enableInTreeAutoscaling",
        "headGroupSpec",
        "rayVersion",
        "workerGroupSpecs",
    },
    "head": {"rayStartParams", "template"},
    "workers": {
        "groupName",
        "idleTimeoutSeconds",
        "maxReplicas",
        "minReplicas",
        "numOfHosts",
        "rayStartParams",
        "replicas",
        "template",
    },
}
"""Of KubeRay 1.7.0's RayJob, what could be of use here. The API server drops unknown fields in silence."""


def test_the_job_has_no_field_that_kuberay_does_not_know() -> None:
    spec = rayjob("name", STORAGE, SAMPLES, CLUSTER, workers=2, gpu=True)["spec"]
    cluster = spec["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    for name, part in {"spec": spec, "cluster": cluster, "head": cluster["headGroupSpec"], "workers": group}.items():
        assert set(part) <= FIELDS[name]
    assert spec["submissionMode"] == "HTTPMode"
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for parameters in (cluster["headGroupSpec"]["rayStartParams"], group["rayStartParams"]):
        assert all(isinstance(value, str) for value in parameters.values())
    for pod in pods(rayjob("name", STORAGE, SAMPLES, CLUSTER, workers=2, gpu=True)):
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", "spec": pod}, "1.34", strict=True)


def test_the_name_leaves_kuberay_room_for_what_it_adds() -> None:
    assert len(f"echoplane-train-{'0' * 16}") <= 47


def test_a_job_ends_by_itself_when_its_step_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert rayjob("name", STORAGE, SAMPLES, CLUSTER, workers=1, gpu=False)["spec"]["activeDeadlineSeconds"] == 72 * 3600

    class Ended(Exception):
        pass

    def end(code: int) -> None:
        assert code
        raise Ended

    monkeypatch.setattr(adapter, "POLL_S", 0.01)
    monkeypatch.setattr(adapter, "FORGOTTEN_S", 1.5)
    monkeypatch.setattr(adapter.os, "_exit", end)
    gone = threading.Event()

    def live() -> None:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            adapter._give_sign_of_life(tmp_path)
            time.sleep(0.02)
        gone.set()

    threading.Thread(target=live).start()
    with pytest.raises(Ended):
        adapter._end_when_forgotten(tmp_path)
    assert gone.is_set(), "ended while its step lived"
    assert "no sign of life" in capsys.readouterr().out


def test_a_job_that_is_slow_to_go_costs_nothing_that_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Api:
        made = False

        def delete_namespaced_custom_object(self, *_: object, **__: object) -> None:
            if not self.made:
                raise ApiException(status=404)

        def create_namespaced_custom_object(self, *_: object) -> None:
            self.made = True

    monkeypatch.setattr(adapter, "POLL_S", 0.01)
    monkeypatch.setattr(adapter, "LOST_S", 0.05)
    with adapter._created(Api(), "heart", rayjob("name", STORAGE, SAMPLES, CLUSTER, workers=1, gpu=False)):
        pass
    assert "RayJob name is not gone" in caplog.text


def test_weights_to_start_from_come_to_where_the_pods_find_them(tmp_path: Path) -> None:
    bundle, storage = tmp_path / "bundle", tmp_path / "train" / "0.partial" / "ray"
    bundle.mkdir()
    (bundle / WEIGHTS).write_bytes(b"weights")
    job = Job(
        task="echo-view-video",
        samples=str(tmp_path / "dataset" / "0"),
        start_from=str(bundle),
        network={},
        augmentation={},
        training=TrainConfig(),
    )
    cluster = RayCluster(volume="echoplane-data", mount=str(tmp_path))
    with pytest.raises(ConfigError, match="leave `cluster` out"):  # there is no cluster here
        adapter.fit_on_cluster(job, storage, cluster=cluster, workers=1, gpu=False, on_progress=lambda *_: None)
    start = Path(json.loads((storage / adapter.JOB).read_text())["job"]["start_from"])
    assert (start / WEIGHTS).read_bytes() == b"weights"
    worker = pods(rayjob("name", storage, Path(job.samples), cluster, workers=1, gpu=False))[1]
    assert start == Path(worker["containers"][0]["volumeMounts"][0]["mountPath"])


def test_who_follows_a_job_gives_signs_of_life(tmp_path: Path) -> None:
    api = Api({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"})
    adapter._follow(api, "heart", "job", tmp_path / adapter.LOG)
    assert (tmp_path / adapter.ALIVE).read_text()


def test_without_an_image_there_is_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECHOPLANE_IMAGE", raising=False)
    with pytest.raises(ConfigError, match="ECHOPLANE_IMAGE"):
        rayjob("name", STORAGE, SAMPLES, RayCluster(volume="echoplane-data"), workers=1, gpu=False)


TOLERATED = [{"key": "gpu", "operator": "Exists"}]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"volume": "echoplane-mlflow"}, "volume names echoplane-mlflow; allowed: echoplane-data"),
        ({"image": "evil:1"}, "image names evil:1; allowed: echoplane-worker:1"),
        (
            {"node_selector": {"kubernetes.io/hostname": "a"}},
            "node_selector names kubernetes.io/hostname; allowed: none",
        ),
        ({"tolerations": TOLERATED}, "tolerations names gpu; allowed: none"),
        ({"tolerations": [{"operator": "Exists"}]}, "tolerations names every taint"),
    ],
)
def test_s9_a_run_may_not_name_an_image_a_volume_or_nodes_of_its_choice(wanted: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        rayjob("name", STORAGE, SAMPLES, RayCluster(**{"volume": "echoplane-data"} | wanted), workers=1, gpu=False)


def test_a_root_that_is_not_on_the_volume_is_refused() -> None:
    with pytest.raises(ConfigError, match="`root` must be below /echoplane"):
        rayjob("name", Path("/tmp/train/0/ray"), SAMPLES, CLUSTER, workers=1, gpu=False)


def test_s9_what_the_chart_allows_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOPLANE_RAY_IMAGES", "other:1, another:2")
    monkeypatch.setenv("ECHOPLANE_RAY_CLAIMS", "heart")
    monkeypatch.setenv("ECHOPLANE_RAY_NODE_KEYS", "gpu")
    check_allowed(RayCluster(volume="heart", image="another:2", node_selector={"gpu": "a"}, tolerations=TOLERATED))
    with pytest.raises(ConfigError, match="allowed: heart"):
        check_allowed(RayCluster(volume="echoplane-data"))


def test_s8_ray_takes_jobs_with_a_token_alone_and_a_network_policy_finds_its_pods() -> None:
    cluster = rayjob("name", STORAGE, SAMPLES, CLUSTER, workers=1, gpu=False)["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == "ray"


def test_outside_of_a_pod_a_cluster_is_refused() -> None:
    with pytest.raises(ConfigError, match="leave `cluster` out"):
        adapter._api()


class Api:
    """Answers with these statuses, one after the other."""

    def __init__(self, *statuses: dict) -> None:
        self._statuses = iter(statuses)

    def get_namespaced_custom_object(self, *_: str) -> dict:
        return {"status": next(self._statuses)}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "POLL_S", 0)
    monkeypatch.setenv("ECHOPLANE_IMAGE", "echoplane-worker:1")
    for variable in ("ECHOPLANE_RAY_IMAGES", "ECHOPLANE_RAY_CLAIMS", "ECHOPLANE_RAY_NODE_KEYS"):
        monkeypatch.delenv(variable, raising=False)


def test_the_drivers_log_comes_while_it_is_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    log = tmp_path / "driver.log"
    log.write_text("of an earlier try\n")
    api = Api({"jobDeploymentStatus": "Initializing"}, {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"})
    answer = api.get_namespaced_custom_object

    def writing(*of: str) -> dict:
        with log.open("a") as file:
            file.write("a line\n")
        return answer(*of)

    api.get_namespaced_custom_object = writing  # type: ignore[method-assign]
    adapter._follow(api, "heart", "job", log)
    said = capsys.readouterr().out
    assert said.count("a line") == 2
    assert "earlier" not in said
    assert "RayJob job: Initializing" in said


@pytest.mark.parametrize("stage", ["Running", "Retrying", "Failed"])
def test_a_training_that_can_not_succeed_ends_at_once_and_says_why(tmp_path: Path, stage: str) -> None:
    """KubeRay would start another head for it."""
    (tmp_path / adapter.FAILED).write_text("training diverged")
    with pytest.raises(StageError, match="training diverged"):
        adapter._follow(Api({"jobDeploymentStatus": stage}), "heart", "job", tmp_path / "driver.log")


@pytest.mark.parametrize("stage", ["Failed", "Complete"])
def test_a_failure_says_why(tmp_path: Path, stage: str) -> None:
    status = {"jobDeploymentStatus": stage, "jobStatus": "FAILED", "reason": "AppFailed", "message": "out of memory"}
    with pytest.raises(StageError, match="FAILED, AppFailed, out of memory"):
        adapter._follow(Api(status), "heart", "job", tmp_path / "driver.log")


def test_the_driver_says_how_much_is_made_again_after_a_loss(capsys: pytest.CaptureFixture) -> None:
    tell = adapter._telling_of_losses()
    for done, loss in ((0, None), (8, 2.4), (15, 2.2), (8, None), (8, None), (9, 2.3), (9, None), (24, 1.9)):
        tell(done, 48, loss)
    assert capsys.readouterr().out.splitlines() == [
        "training goes on from step 8 of 48: 7 steps are made again",
        "training goes on from step 9 of 48: 0 steps are made again",
    ]


def test_a_worker_uses_the_cores_of_its_pod_and_not_of_its_node() -> None:
    _, worker = pods(rayjob("name", STORAGE, SAMPLES, RayCluster(volume="echoplane-data", cpu=3), workers=1, gpu=False))
    assert {"name": "ECHOPLANE_TRAINING_THREADS", "value": "3"} in worker["containers"][0]["env"]
    assert worker["containers"][0]["resources"]["requests"]["cpu"] == "3000m"


def test_pods_may_ask_for_parts_of_a_core_and_ray_still_places_a_worker_on_each() -> None:
    cluster = RayCluster(volume="echoplane-data", cpu=0.3, head_cpu=0.1)
    job = rayjob("name", STORAGE, SAMPLES, cluster, workers=2, gpu=False)
    head, worker = (pod["containers"][0] for pod in pods(job))
    assert (head["resources"]["requests"]["cpu"], worker["resources"]["requests"]["cpu"]) == ("100m", "300m")
    assert {"name": "ECHOPLANE_TRAINING_THREADS", "value": "1"} in worker["env"]
    assert job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["rayStartParams"]["num-cpus"] == "1"


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_k9_the_double_of_the_operator_asks_ray_for_its_health_over_http_as_the_operator_does(kind: str) -> None:
    job = rayjob("name", STORAGE, SAMPLES, CLUSTER, workers=1, gpu=False) | {"status": {"rayClusterName": "cluster"}}
    job["metadata"]["uid"] = "1"
    cluster = job["spec"]["rayClusterSpec"]
    group = cluster["headGroupSpec"] if kind == "head" else cluster["workerGroupSpecs"][0]
    (container,) = ray_pod(job, kind, group, "pod")["spec"]["containers"]
    for probe in (container["readinessProbe"], container["livenessProbe"]):
        assert probe["httpGet"] == {"path": "/api/healthz", "port": 52365}
        assert "exec" not in probe
