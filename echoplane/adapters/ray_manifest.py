"""The RayJob (KubeRay, ray.io/v1) for training: head and workers on the step's volume, within what the site allows."""

import os
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from echoplane.adapters.local_ray import OBJECT_STORE_BYTES
from echoplane.adapters.ray_training import ENVIRONMENT, THREADS
from echoplane.errors import ConfigError

GROUP, VERSION, KIND = "ray.io", "v1", "rayjobs"
LABELS = {"app.kubernetes.io/part-of": "echoplane", "app.kubernetes.io/component": "ray"}
"""Labels of the job and its pods; the chart's NetworkPolicy selects the pods by them."""
USER = 10001
"""User of the worker image."""
HEAD_TRIES = 10
"""Number of heads that may be lost. A training that fails by itself is not retried: see `rayjob.FAILED`."""
MAX_DURATION_S = 72 * 3600
"""Time limit in seconds of the RayJob and of the step that trains. KubeRay then ends the job, even if it never got its
pods."""
SMALL_STORE = {"object-store-memory": str(OBJECT_STORE_BYTES)}
DRIVER, LOG = "echoplane.adapters.rayjob", "driver.log"
IMAGES, CLAIMS, NODE_KEYS = "ECHOPLANE_RAY_IMAGES", "ECHOPLANE_RAY_CLAIMS", "ECHOPLANE_RAY_NODE_KEYS"
"""Variables from the chart's ConfigMap with the comma-separated images, claims and node keys that a run may name."""
DEFAULT_CLAIM = "echoplane-data"
Mount = dict[str, Any]


class RayCluster(BaseModel):
    """Placement of a RayJob's pods and the resources of each."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    volume: str
    """Claim of the volume that holds `root`, mounted by the step and by every Ray pod."""
    mount: str = "/echoplane"
    """Path at which all of them mount the volume."""
    image: str = ""
    """Image of head and workers. If omitted, the variable ECHOPLANE_IMAGE, which the pipeline sets to the step's own
    image."""
    cpu: float = Field(default=1, ge=0.05)
    """Cores that each worker requests; it uses as many threads, rounded down, and at least one. A value below 1 lets a
    small node run a worker beside other pods, slowly."""
    head_cpu: float = Field(default=0.25, ge=0.05)
    """Cores that the head requests. Nothing trains there."""
    min_workers: int | None = Field(default=None, ge=1)
    """Minimum number of workers with which training starts, and continues after a loss; it uses more if there are more.
    If omitted, it waits for all. The weights depend on the number of workers; none of them are wrong."""
    memory_gib: int = Field(default=4, ge=1)
    """Memory in GiB of each worker, and of the head."""
    node_selector: dict[str, str] = {}
    """Labels of the nodes that may run workers."""
    tolerations: list[dict[str, Any]] = []
    """Taints that workers tolerate."""


def check_allowed(cluster: RayCluster) -> None:
    """Raises ConfigError if a run's parameters name an image, a claim or nodes that the site does not allow.

    Otherwise anyone who may start a run could mount any volume of the namespace into any image.
    """
    own_image = os.environ.get("ECHOPLANE_IMAGE", "")
    if not (cluster.image or own_image):
        raise ConfigError("the Ray cluster has no image: set `image`, or the variable ECHOPLANE_IMAGE.")
    taints = [toleration.get("key") or "every taint" for toleration in cluster.tolerations]
    named = [
        ("image", [cluster.image or own_image], {own_image, *_allowed(IMAGES)}, "images"),
        ("volume", [cluster.volume], _allowed(CLAIMS) or {DEFAULT_CLAIM}, "claims"),
        ("node_selector", list(cluster.node_selector), _allowed(NODE_KEYS), "nodeKeys"),
        ("tolerations", taints, _allowed(NODE_KEYS), "nodeKeys"),
    ]
    for setting, values, allowed, value in named:
        if refused := sorted(set(values) - allowed):
            raise ConfigError(
                f"`cluster`: {setting} names {', '.join(refused)}; allowed: {', '.join(sorted(allowed)) or 'none'}. "
                f"Whoever runs the platform allows more in the chart's value `pipelines.ray.{value}`."
            )


def _allowed(variable: str) -> set[str]:
    return {name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()}


def rayjob(name: str, storage: Path, samples: Path, cluster: RayCluster, workers: int, gpu: bool) -> dict[str, Any]:
    """Returns the custom resource. It belongs to this step's pod, with which Kubernetes deletes it.

    Its pods see `storage` and, read only, `samples`, and nothing else of the volume. Raises ConfigError if one of them
    is not below `cluster.mount`.
    """
    check_allowed(cluster)
    mounts = [_mount(storage, cluster), _mount(samples, cluster) | {"readOnly": True}]
    command = f"python -m {DRIVER} {shlex.quote(str(storage))}"
    kept = f"bash -o pipefail -c {shlex.quote(f'{command} 2>&1 | tee -a {shlex.quote(str(storage / LOG))}')}"
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "RayJob",
        "metadata": {"name": name, "labels": LABELS, "ownerReferences": _owner()},
        "spec": {
            "entrypoint": kept,
            # the operator submits the job itself: a third pod could not be made to meet a site's policies
            "submissionMode": "HTTPMode",
            "backoffLimit": HEAD_TRIES,
            "activeDeadlineSeconds": MAX_DURATION_S,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 0,
            "rayClusterSpec": _ray_cluster(cluster, mounts, workers, gpu),
        },
    }


def _mount(folder: Path, cluster: RayCluster) -> Mount:
    """Returns the mount of one folder of the volume at the same path as in this pod."""
    try:
        inside = folder.relative_to(cluster.mount)
    except ValueError:
        raise ConfigError(f"`root` must be below {cluster.mount}, where every Ray pod mounts the volume.") from None
    return {"name": "data", "mountPath": str(folder), "subPath": str(inside)}


def _ray_cluster(cluster: RayCluster, mounts: list[Mount], workers: int, gpu: bool) -> dict[str, Any]:
    group = {
        "groupName": "workers",
        "replicas": workers,
        "minReplicas": cluster.min_workers or workers,
        "maxReplicas": workers,
        "rayStartParams": {"num-cpus": "1", **SMALL_STORE},
        "template": _pod(cluster, mounts, "ray-worker", cluster.cpu, gpu),
    }
    # nothing trains on the head: the job ends with it, but not with a worker
    parameters = {"num-cpus": "0", "dashboard-host": "0.0.0.0", **SMALL_STORE}  # noqa: S104
    head = {"rayStartParams": parameters, "template": _pod(cluster, mounts, "ray-head", cluster.head_cpu)}
    # KubeRay makes a token and gives it to these pods alone: no other client can submit jobs
    return {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token"},
        "headGroupSpec": head,
        "workerGroupSpecs": [group],
    }


def _pod(cluster: RayCluster, mounts: list[Mount], name: str, cpu: float, gpu: bool = False) -> dict[str, Any]:
    """Returns a pod template that meets the restricted standard and mounts these folders of the shared volume."""
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
            *mounts,
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (a volume of the pod's own)
            {"name": "memory", "mountPath": "/dev/shm"},  # noqa: S108
        ],
    }
    return {
        "metadata": {"labels": LABELS},
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
        },
    }


def _owner() -> list[dict[str, Any]]:
    """Returns a reference to this step's pod; Kubeflow gives a step its pod's name."""
    name, uid = os.environ.get("KFP_POD_NAME"), os.environ.get("KFP_POD_UID")
    return [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}] if name and uid else []
