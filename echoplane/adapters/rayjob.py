"""Train on a Ray cluster of Kubernetes: a RayJob (KubeRay, ray.io/v1) of a head and workers, followed to its end.

The job's pods and this one share a volume. Settings go in by `job.json`, the log, how far it is and the weights come
out by files beside it, so that the step needs no right but to its RayJobs. A job that lost its head is started again
by KubeRay and goes on from the last checkpoint. However this call ends, its RayJob goes. Where it is killed and can do
nothing (memory; a run that is terminated, whose pod Kubeflow keeps), the driver misses its sign of life and ends.

As a program (`python -m echoplane.adapters.rayjob FOLDER`) it is what the RayJob runs."""

import contextlib
import json
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from echoplane.adapters.ray_training import ENVIRONMENT, OBJECT_STORE_BYTES, THREADS, Job, Progress, fit, told
from echoplane.errors import ConfigError, StageError
from echoplane.training.checkpoint import State, read_state, write_state

GROUP, VERSION, KIND = "ray.io", "v1", "rayjobs"
USER = 10001
"""Of the worker image."""
POLL_S = 2.0
LOST_S = 60.0
"""For how long the API server may fail to answer."""
HEAD_TRIES = 2
LONGEST_S = 72 * 3600
"""What a training step has too: KubeRay ends a job after that, so that one which never got its pods goes as well."""
FORGOTTEN_S = 300.0
"""After so long without a sign of life of the step nobody wants the weights."""
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
SMALL_STORE = {"object-store-memory": str(OBJECT_STORE_BYTES)}
JOB, LOG, RESULT, ALIVE = "job.json", "driver.log", "result", "alive"

log = logging.getLogger(__name__)


class RayCluster(BaseModel):
    """Where a RayJob's pods run and what each may use."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    volume: str
    """Claim of the volume that holds `root`, mounted by the step and by every Ray pod."""
    mount: str = "/echoplane"
    """Where the volume is mounted, in all of them."""
    image: str = ""
    """Image of head and workers. Left out: the variable ECHOPLANE_IMAGE, which the pipeline sets to the step's own."""
    cpu: float = Field(default=1, ge=0.05)
    """Cores that each worker asks of its node; it computes with as many threads, rounded down, and one at least. Less
    than 1 lets a small node run it beside everything else, slowly."""
    head_cpu: float = Field(default=0.25, ge=0.05)
    """Cores that the head asks for. Nothing trains there."""
    fewest_workers: int | None = Field(default=None, ge=1)
    """Training begins, and after a loss goes on, with as few workers as this, and takes more when there are more. Left
    out: it waits for all of them. Other numbers of workers give other weights, none of them wrong."""
    memory_gib: int = Field(default=4, ge=1)
    """Memory of each worker, and of the head."""
    node_selector: dict[str, str] = {}
    """Labels of the nodes that may run workers."""
    tolerations: list[dict[str, Any]] = []
    """Taints that workers may stand on."""


def fit_on_cluster(
    job: Job, storage: Path, *, cluster: RayCluster, workers: int, gpu: bool, on_progress: Progress
) -> State:
    """As `fit`, by a RayJob in this pod's namespace. StageError says why it failed."""
    storage.mkdir(parents=True, exist_ok=True)
    asked = {"job": job.model_dump(mode="json"), "workers": workers, "fewest": cluster.fewest_workers, "gpu": gpu}
    (storage / JOB).write_text(json.dumps(asked))
    name = f"echoplane-train-{storage.parent.name[:16].lower()}"
    with told(storage, job.training.steps, on_progress), _ended_by_sigterm():
        api, namespace = _api()
        with _created(api, namespace, rayjob(name, storage, cluster, workers, gpu)):
            _follow(api, namespace, name, storage / LOG)
    return read_state(storage / RESULT)


def rayjob(name: str, storage: Path, cluster: RayCluster, workers: int, gpu: bool) -> dict[str, Any]:
    """The custom resource. It belongs to this step's pod: Kubernetes deletes it when the pod is."""
    command = f"python -m {__name__} {shlex.quote(str(storage))}"
    kept = f"bash -o pipefail -c {shlex.quote(f'{command} 2>&1 | tee -a {shlex.quote(str(storage / LOG))}')}"
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "RayJob",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "echoplane"}, "ownerReferences": _owner()},
        "spec": {
            "entrypoint": kept,
            # the operator submits the job itself: no third pod, which could not be made to meet a site's rules
            "submissionMode": "HTTPMode",
            "backoffLimit": HEAD_TRIES,
            "activeDeadlineSeconds": LONGEST_S,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 0,
            "rayClusterSpec": _ray_cluster(cluster, workers, gpu),
        },
    }


def _ray_cluster(cluster: RayCluster, workers: int, gpu: bool) -> dict[str, Any]:
    from importlib.metadata import version

    group = {
        "groupName": "workers",
        "replicas": workers,
        "minReplicas": cluster.fewest_workers or workers,
        "maxReplicas": workers,
        "rayStartParams": {"num-cpus": "1", **SMALL_STORE},
        "template": _pod(cluster, "ray-worker", cluster.cpu, gpu),
    }
    # nothing trains on the head: its death is the job's, a worker's is not
    parameters = {"num-cpus": "0", "dashboard-host": "0.0.0.0", **SMALL_STORE}  # noqa: S104
    head = {"rayStartParams": parameters, "template": _pod(cluster, "ray-head", cluster.head_cpu)}
    return {"rayVersion": version("ray"), "headGroupSpec": head, "workerGroupSpecs": [group]}


def _pod(cluster: RayCluster, name: str, cpu: float, gpu: bool = False) -> dict[str, Any]:
    """A pod that meets the restricted standard and works on the shared volume."""
    size = {"cpu": f"{round(1000 * cpu)}m", "memory": f"{cluster.memory_gib}Gi"}
    limits = {"memory": size["memory"]} | ({"nvidia.com/gpu": "1"} if gpu else {})
    container = {
        "name": name,
        "image": cluster.image or os.environ.get("ECHOPLANE_IMAGE", ""),
        "env": [
            {"name": key, "value": value} for key, value in (ENVIRONMENT | {THREADS: str(max(1, int(cpu)))}).items()
        ],
        "resources": {"requests": size, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": cluster.mount},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (a volume of the pod's own)
            {"name": "memory", "mountPath": "/dev/shm"},  # noqa: S108
        ],
    }
    if not container["image"]:
        raise ConfigError("the Ray cluster has no image: set `image`, or the variable ECHOPLANE_IMAGE.")
    return {
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "nodeSelector": cluster.node_selector,
            "tolerations": cluster.tolerations,
            "containers": [container],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": cluster.volume}},
                {"name": "tmp", "emptyDir": {}},
                {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            ],
        }
    }


def _owner() -> list[dict[str, Any]]:
    """This step's pod, as Kubeflow names it to its steps."""
    name, uid = os.environ.get("KFP_POD_NAME"), os.environ.get("KFP_POD_UID")
    return [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}] if name and uid else []


def _api() -> tuple[Any, str]:
    """The custom objects of the cluster that this pod runs in, and its namespace."""
    from kubernetes import client, config

    try:
        config.load_incluster_config()
        return client.CustomObjectsApi(), NAMESPACE_FILE.read_text().strip()
    except (config.ConfigException, OSError):
        raise ConfigError(
            "`cluster` is set, but this process runs in no pod with a service account: run it as a pipeline step, "
            "or leave `cluster` out to train here."
        ) from None


@contextlib.contextmanager
def _created(api: Any, namespace: str, body: dict[str, Any]) -> Iterator[None]:
    """The RayJob `body`, gone afterwards; one that an earlier try left behind goes first."""
    name = body["metadata"]["name"]
    _delete(api, namespace, name)
    api.create_namespaced_custom_object(GROUP, VERSION, namespace, KIND, body)
    try:
        yield
    finally:
        try:
            _delete(api, namespace, name)
        except StageError as error:  # what was trained is there, or why it failed is on its way
            log.warning("%s", error)


def _delete(api: Any, namespace: str, name: str) -> None:
    """Delete it with its pods, and wait until it is gone."""
    from kubernetes.client import ApiException

    deadline = time.monotonic() + LOST_S
    while time.monotonic() < deadline:
        try:
            api.delete_namespaced_custom_object(GROUP, VERSION, namespace, KIND, name, propagation_policy="Foreground")
        except ApiException as error:
            if error.status == 404:
                return
            log.warning("deleting RayJob %s: status %s", name, error.status)
        time.sleep(POLL_S)
    raise StageError(f"RayJob {name} is not gone after {LOST_S:.0f} s; delete it with kubectl and start again.")


def _follow(api: Any, namespace: str, name: str, log_file: Path) -> None:
    """Pass the driver's log on until the job is complete; StageError with its reason where it failed."""
    shown, stage, heard = log_file.stat().st_size if log_file.exists() else 0, "", time.monotonic()
    while True:
        _give_sign_of_life(log_file.parent)
        try:
            status = api.get_namespaced_custom_object(GROUP, VERSION, namespace, KIND, name).get("status", {})
            heard = time.monotonic()
        except Exception as error:  # an API server that restarts is no reason to give a training run up
            if getattr(error, "status", None) == 404 or time.monotonic() - heard > LOST_S:
                raise StageError(f"RayJob {name} can't be read any more ({type(error).__name__}).") from error
            status = {}
        shown = _pass_on(log_file, shown)
        if (now := status.get("jobDeploymentStatus", "")) and now != stage:
            stage = now
            _say(f"RayJob {name}: {stage}")
        if stage == "Complete" and status.get("jobStatus") == "SUCCEEDED":
            return
        if stage in ("Complete", "Failed"):
            raise StageError(f"RayJob {name} failed: {_reason(status)}")
        time.sleep(POLL_S)


def _give_sign_of_life(storage: Path) -> None:
    with contextlib.suppress(OSError):  # a full volume is told by what needs it
        (storage / ALIVE).write_text(str(time.time()))


def _end_when_forgotten(storage: Path) -> None:
    """In the driver: end it when the step's sign of life stays the same. Clocks of two nodes are not compared."""
    seen, since = "", time.monotonic()
    while time.monotonic() - since < FORGOTTEN_S:
        time.sleep(POLL_S)
        with contextlib.suppress(OSError):
            if (now := (storage / ALIVE).read_text()) != seen:
                seen, since = now, time.monotonic()
    _say(f"the step that asked for this has given no sign of life for {FORGOTTEN_S:.0f} s: training ends.")
    os._exit(1)  # from a thread; the checkpoints stay


def _reason(status: dict[str, Any]) -> str:
    said = [str(status[key]) for key in ("jobStatus", "reason", "message") if status.get(key)]
    return ", ".join(said) or "it gave no reason"


def _pass_on(log_file: Path, shown: int) -> int:
    """Write what was added to the log after byte `shown`; how many bytes are shown now."""
    if not log_file.exists():
        return shown
    with log_file.open("rb") as file:
        file.seek(shown)
        added = file.read()
    sys.stdout.write(added.decode(errors="replace"))
    sys.stdout.flush()
    return shown + len(added)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Turns SIGTERM into an exception, so that the RayJob is deleted on the way out. A step does so by itself."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(*_: object) -> None:
        raise StageError("training was terminated (SIGTERM).")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _telling_of_losses() -> Progress:
    """Says where training goes on after a worker or the head was lost: at its start the first worker has no loss."""
    most = 0
    last: tuple[int, float | None] = (0, None)

    def tell(done: int, total: int, loss: float | None) -> None:
        nonlocal most, last
        if done and loss is None and (done, loss) != last:
            _say(f"training goes on from step {done} of {total}: {max(most - done, 0)} steps are made again")
        most, last = done, (done, loss)

    return tell


def drive(storage: Path) -> None:
    """Inside the RayJob: train on its cluster, and leave the weights where the step finds them."""
    asked = json.loads((storage / JOB).read_text())
    job = Job(**asked["job"])
    threading.Thread(target=_end_when_forgotten, args=(storage,), daemon=True).start()
    tell = _telling_of_losses()
    state = fit(job, storage, workers=asked["workers"], fewest=asked["fewest"], gpu=asked["gpu"], on_progress=tell)
    (storage / RESULT).mkdir(exist_ok=True)
    write_state(state, storage / RESULT)
    _say(f"trained {state.steps} steps")


if __name__ == "__main__":
    drive(Path(sys.argv[1]))
