"""What a step gets on a cluster: the volume that holds `root`, its size, the registry's address, keys, nodes, a limit
of time. kfp.local ignores all of it. The names are those of the chart helm/echoplane, released as `echoplane`.

Sizes are fixed when a pipeline is compiled: Kubeflow 2.17 loses a parameter that is used for one inside of an exit
handler. The claim of the volume, node labels and tolerations are parameters, which it passes on.
"""

import os
from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

from components.ended.component import ended
from components.image import IMAGE

MOUNT = "/echoplane"
SETTINGS = "echoplane-pipelines"
"""ConfigMap with MLFLOW_TRACKING_URI and, unless artifacts are in AWS, AWS_ENDPOINT_URL, made by the chart."""
KEY_SECRET = "echoplane-deid-key"  # noqa: S105 (a name)
"""Secret whose `key` is the pseudonym key, made by whoever may know it."""
BUCKET_SECRET = "echoplane-s3"  # noqa: S105 (a name)
"""Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for another store than the chart's, AWS_ENDPOINT_URL."""
GPU = "nvidia.com/gpu"
HOUR_S = 3600


@dataclass(frozen=True)
class Size:
    """What a step asks for and may use. CPU is a request alone: a limit would only make it slower."""

    cpu: str = "250m"
    memory: str = "1Gi"
    """Asked for, so that a node of 2 cores and 8 GiB takes every step beside the platform itself."""
    memory_limit: str = "4Gi"
    gpus: int = 0
    hours: int = 6
    """The pod is ended after that."""


STEP = Size()
SMALL = Size(cpu="100m", memory="256Mi", memory_limit="1Gi", hours=1)
TRAINING = Size(
    cpu="500m",
    memory="2Gi",
    memory_limit=os.environ.get("ECHOPLANE_TRAIN_MEMORY", "8Gi"),
    gpus=int(os.environ.get("ECHOPLANE_TRAIN_GPUS", "0")),
    hours=72,
)
"""Of the step that trains by itself. Ray pods have sizes of their own, in the parameter `cluster`."""


def placed(task: dsl.PipelineTask, volume: Any, size: Size = STEP) -> dsl.PipelineTask:
    """`task` on `volume`, of this size.

    Kubeflow's cache is off: it would answer from a volume that has changed since. A stage finds what it has finished
    by itself, and verifies it.
    """
    kubernetes.mount_pvc(task, pvc_name=volume, mount_path=MOUNT)
    kubernetes.use_config_map_as_env(
        task,
        config_map_name=SETTINGS,
        config_map_key_to_env={"MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_URI"},
        optional=True,
    )
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_timeout(task, size.hours * HOUR_S)
    # a RayJob runs the step's own image
    task.set_env_variable("ECHOPLANE_IMAGE", IMAGE)
    task.set_cpu_request(size.cpu).set_memory_request(size.memory).set_memory_limit(size.memory_limit)
    if size.gpus:
        task.set_accelerator_type(GPU).set_accelerator_limit(size.gpus)
    return task.set_caching_options(False)


def on_nodes(task: dsl.PipelineTask, node_selector: Any, tolerations: Any) -> dsl.PipelineTask:
    """`task` on nodes with these labels, in spite of these taints."""
    kubernetes.add_node_selector_json(task, node_selector)
    return kubernetes.add_toleration_json(task, tolerations)


def with_key(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """`task` with the pseudonym key, where the cluster has one."""
    return kubernetes.use_secret_as_env(
        task, secret_name=KEY_SECRET, secret_key_to_env={"key": "ECHOPLANE_DEID_KEY"}, optional=True
    )


def with_bucket(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """`task` with address and credentials of the object store, where the cluster has them.

    The Secret's address goes before the chart's by a name of its own: Argo merges a pod's variables by name, and one
    from two sources would be refused.
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


def reported(root: Any, volume: Any) -> dsl.ExitHandler:
    """Around all steps of a pipeline: however they end, a last one says how and why."""
    return dsl.ExitHandler(placed(ended(root=root), volume, SMALL), name="steps")
