"""Changes to a RayJob by which whoever stole a step's token would get more than training gets."""

import copy
from pathlib import Path
from typing import Any

from echoplane.adapters.ray_manifest import LABELS, RayCluster, rayjob

HEAD = ("rayClusterSpec", "headGroupSpec")
POD = (*HEAD, "template", "spec")
CONTAINER = (*POD, "containers", 0)
SECURITY = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
KEY = {"secretKeyRef": {"name": "echoplane-signing-key", "key": "key"}}


def _of_the_volume(folder: str) -> dict[str, str]:
    return {"name": "data", "mountPath": "/mnt", "subPath": folder}


ATTACKS: list[tuple[tuple[Any, ...], Any]] = [
    ((*CONTAINER, "image"), "evil:1"),
    ((*CONTAINER, "envFrom"), [{"secretRef": {"name": "echoplane-s3"}}]),
    ((*CONTAINER, "env", 0), {"name": "KEY", "valueFrom": KEY}),
    ((*CONTAINER, "ports"), [{"containerPort": 80, "hostPort": 80}]),
    ((*CONTAINER, "securityContext"), SECURITY | {"runAsUser": 0, "runAsNonRoot": False}),
    ((*CONTAINER, "securityContext"), SECURITY | {"privileged": True}),
    ((*CONTAINER, "securityContext"), SECURITY | {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
    ((*CONTAINER, "volumeMounts", 0), {"name": "data", "mountPath": "/mnt"}),
    ((*CONTAINER, "volumeMounts", 0), _of_the_volume("quarantine")),
    ((*CONTAINER, "volumeMounts", 0), _of_the_volume("quarantine/train/0")),
    ((*CONTAINER, "volumeMounts", 0), _of_the_volume("train/0/ray/link")),
    ((*CONTAINER, "volumeMounts", 0), _of_the_volume("train/0/ray/dataset/link")),
    ((*CONTAINER, "volumeMounts", 0), {"name": "data", "mountPath": "/mnt", "subPathExpr": "quarantine"}),
    ((*POD, "volumes", 0, "persistentVolumeClaim"), {"claimName": "echoplane-mlflow"}),
    ((*POD, "volumes", 1), {"name": "tmp", "secret": {"secretName": "echoplane-deid-key"}}),
    ((*POD, "volumes", 1), {"name": "tmp", "hostPath": {"path": "/"}}),
    ((*POD, "serviceAccountName"), "echoplane-pipelines"),
    ((*POD, "automountServiceAccountToken"), True),
    ((*POD, "securityContext", "seccompProfile"), {"type": "Unconfined"}),
    ((*POD, "securityContext", "runAsNonRoot"), False),
    ((*POD, "hostNetwork"), True),
    ((*POD, "hostPID"), True),
    ((*POD, "nodeName"), "control-plane"),
    ((*POD, "nodeSelector"), {"kubernetes.io/hostname": "test-node"}),
    ((*POD, "tolerations"), [{"operator": "Exists"}]),
    ((*POD, "affinity"), {}),
    ((*POD, "initContainers"), [{"name": "first", "image": "evil:1"}]),
    # without these labels no network policy holds the pod; with those of the service it would get its requests
    ((*HEAD, "template", "metadata", "labels"), {}),
    ((*HEAD, "template", "metadata", "labels"), LABELS | {"app.kubernetes.io/component": "serving"}),
    ((*HEAD, "template", "metadata", "annotations"), {"sidecar.istio.io/inject": "true"}),
    ((*HEAD, "headService"), {"spec": {"type": "LoadBalancer"}}),
    ((*HEAD, "enableIngress"), True),
    (("rayClusterSpec", "workerGroupSpecs", 0, "template", "metadata", "labels"), {}),
    (("rayClusterSpec", "authOptions"), {"mode": "disabled"}),
    (("rayClusterSpec", "enableInTreeAutoscaling"), True),
    (("rayClusterSpec", "autoscalerOptions"), {"envFrom": [{"secretRef": {"name": "echoplane-signing-key"}}]}),
    (("rayClusterSpec", "gcsFaultToleranceOptions"), {"redisPassword": {"valueFrom": KEY}}),
    (("submitterPodTemplate",), {"spec": {"containers": []}}),
    (("submissionMode",), "K8sJobMode"),
    (("clusterSelector",), {"ray.io/cluster": "another"}),
]
"""Path below `spec`, and what is put there."""


def step_rayjob(cluster: RayCluster) -> dict[str, Any]:
    """Returns the RayJob of a step, as training makes it."""
    samples, storage = (
        Path("/echoplane/dataset/0123456789abcdef"),
        Path("/echoplane/train/0123456789abcdef.partial/ray"),
    )
    return rayjob("attack", storage, samples, cluster, workers=1, gpu=False)


def attacking(job: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Returns a copy of `job` with `value` at `path` below its spec."""
    attack = copy.deepcopy(job)
    part: Any = attack["spec"]
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return attack
