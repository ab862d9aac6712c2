"""Kubernetes settings of a step: volume, size, security, registry address, keys, time limit. kfp.local ignores them.

The names are those of the chart helm/echoplane, released as `echoplane`. Sizes are fixed when a pipeline is compiled:
Kubeflow 2.17 loses a parameter that sets a size inside an exit handler. The claim of the volume is a parameter, which
it does pass on.
"""

import os
from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

from components.ended.component import ended
from components.image import IMAGE
from echoplane.errors import ConfigError

MOUNT = "/echoplane"
SETTINGS = "echoplane-pipelines"
"""ConfigMap of the chart: address of MLflow, address of the object store (unless it is AWS), limits of Ray pods."""
SETTINGS_OF_STEPS = (
    "MLFLOW_TRACKING_URI",
    "ECHOPLANE_RAY_IMAGES",
    "ECHOPLANE_RAY_CLAIMS",
    "ECHOPLANE_RAY_NODE_KEYS",
    "ECHOPLANE_TRUSTED_KEYS",
    "ECHOPLANE_ALLOW_UNSIGNED_MODELS",
    "ECHOPLANE_AUDIT_LOG",
    "ECHOPLANE_GATE_POLICIES",
)
KEY_SECRET = "echoplane-deid-key"  # noqa: S105 (a name)
"""Secret whose `key` is the pseudonym key. Someone entitled to know the key creates it; only the step `deid` gets
it."""
SIGNING_SECRET = "echoplane-signing-key"  # noqa: S105 (a name)
"""Secret whose `key` is the private key that signs promotions; only the step `promote` gets it."""
MANIFEST_SECRET = "echoplane-manifest-key"  # noqa: S105 (a name)
"""Secret whose `key` codes the manifests of all steps."""
BUCKET_SECRET = "echoplane-s3"  # noqa: S105 (a name)
"""Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if the store is not the chart's, AWS_ENDPOINT_URL."""
GPU = "nvidia.com/gpu"
HOUR_S = 3600


STEP_LABEL = ("app.kubernetes.io/component", "pipeline-step")
"""Pod label by which the chart's NetworkPolicy finds a step."""


@dataclass(frozen=True)
class Size:
    """Requests and limits of a step. CPU has a request only: a limit would only make the step slower."""

    cpu: str = "250m"
    """CPU request; docs/kubernetes.md shows that a node of 2 cores and 8 GiB holds every step beside the platform."""
    memory: str = "1Gi"
    memory_limit: str = "4Gi"
    gpus: int = 0
    hours: int = 6
    """Time limit in hours, after which Kubernetes ends the pod."""


STEP = Size()
SMALL = Size(cpu="100m", memory="256Mi", memory_limit="1Gi", hours=1)


def training_size(train_on: str) -> Size:
    """Returns the size of the step `train`: "step" trains in its own pod, "ray" watches the Ray pods that train.

    Raises ConfigError for any other value.
    """
    if train_on == "ray":
        return Size(cpu="50m", memory="512Mi", memory_limit="2Gi", hours=72)
    if train_on == "step":
        gpus, memory_limit = (
            os.environ.get("ECHOPLANE_TRAIN_GPUS", "0"),
            os.environ.get("ECHOPLANE_TRAIN_MEMORY", "8Gi"),
        )
        return Size(memory="1536Mi", memory_limit=memory_limit, gpus=int(gpus), hours=72)
    raise ConfigError(f"ECHOPLANE_TRAIN_ON is {train_on!r}; expected `step` or `ray`.")


TRAIN_ON = os.environ.get("ECHOPLANE_TRAIN_ON", "step")
TRAINING = training_size(TRAIN_ON)
RAY_PODS: dict[str, Any] = {"volume": "echoplane-data", "cpu": 1, "head_cpu": 0.25, "memory_gib": 4}
"""Ray pods of a package that is compiled to train on Ray."""
TRAIN_RAY_PODS = RAY_PODS if TRAIN_ON == "ray" else {}
"""Default of the pipelines' parameter `train_ray_pods`."""


def with_resources(task: dsl.PipelineTask, volume: Any, size: Size = STEP) -> dsl.PipelineTask:
    """Gives `task` the volume, this size, and the security context that a namespace enforcing `restricted` requires.

    Kubeflow sets no runAsNonRoot on a step's main container; without it such a namespace refuses the pod.

    Kubeflow's cache is off: its result could refer to a volume that has changed since. A stage finds and verifies its
    own finished work.
    """
    kubernetes.mount_pvc(task, pvc_name=volume, mount_path=MOUNT)
    kubernetes.set_security_context(task, run_as_non_root=True)
    kubernetes.add_pod_label(task, *STEP_LABEL)
    kubernetes.use_config_map_as_env(
        task,
        config_map_name=SETTINGS,
        config_map_key_to_env={name: name for name in SETTINGS_OF_STEPS},
        optional=True,
    )
    kubernetes.use_secret_as_env(
        task, secret_name=MANIFEST_SECRET, secret_key_to_env={"key": "ECHOPLANE_MANIFEST_KEY"}, optional=True
    )
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_timeout(task, size.hours * HOUR_S)
    # a RayJob runs the step's own image
    task.set_env_variable("ECHOPLANE_IMAGE", IMAGE)
    task.set_cpu_request(size.cpu).set_memory_request(size.memory).set_memory_limit(size.memory_limit)
    if size.gpus:
        task.set_accelerator_type(GPU).set_accelerator_limit(size.gpus)
    return task.set_caching_options(False)


def with_deid_key(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Gives `task` the pseudonym key, if the cluster has one."""
    return kubernetes.use_secret_as_env(
        task, secret_name=KEY_SECRET, secret_key_to_env={"key": "ECHOPLANE_DEID_KEY"}, optional=True
    )


def with_signing_key(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Gives `task` the key that signs promotions, if the cluster has one."""
    return kubernetes.use_secret_as_env(
        task, secret_name=SIGNING_SECRET, secret_key_to_env={"key": "ECHOPLANE_SIGNING_KEY"}, optional=True
    )


def with_s3_credentials(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Gives `task` the address and the credentials of the object store, if the cluster has them.

    The Secret's address has its own variable name and takes precedence over the chart's: Argo merges a pod's variables
    by name, and refuses a name from two sources.
    """
    kubernetes.use_config_map_as_env(
        task,
        config_map_name=SETTINGS,
        config_map_key_to_env={"AWS_ENDPOINT_URL": "AWS_ENDPOINT_URL"},
        optional=True,
    )
    variables = {name: name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    return kubernetes.use_secret_as_env(
        task,
        secret_name=BUCKET_SECRET,
        secret_key_to_env=variables | {"AWS_ENDPOINT_URL": "AWS_ENDPOINT_URL_S3"},
        optional=True,
    )


def with_run_summary(root: Any, volume: Any) -> dsl.ExitHandler:
    """Returns the context of all steps of a pipeline: however they end, a last step reports the outcome and its
    reason."""
    return dsl.ExitHandler(with_resources(ended(root=root), volume, SMALL), name="steps")
