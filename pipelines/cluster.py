"""What a step gets on a cluster: the volume that holds `root`, its size, the registry's address, the pseudonym key.

kfp.local ignores all of it. The names are those of the chart helm/echoplane, released as `echoplane`."""

from typing import Any

from kfp import dsl, kubernetes

from components.image import IMAGE

MOUNT = "/echoplane"
SETTINGS = "echoplane-pipelines"
"""ConfigMap with MLFLOW_TRACKING_URI, made by the chart."""
KEY_SECRET = "echoplane-deid-key"  # noqa: S105 (a name)
"""Secret whose `key` is the pseudonym key, made by whoever may know it."""


def placed(task: dsl.PipelineTask, volume: Any, *, cpu: str = "1", memory: str = "4Gi") -> dsl.PipelineTask:
    """`task` on `volume`, with this size. CPU is a request alone: a limit would only make it slower."""
    kubernetes.mount_pvc(task, pvc_name=volume, mount_path=MOUNT)
    kubernetes.use_config_map_as_env(
        task,
        config_map_name=SETTINGS,
        config_map_key_to_env={"MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_URI"},
        optional=True,
    )
    # a RayJob runs the step's own image
    task.set_env_variable("ECHOPLANE_IMAGE", IMAGE)
    return task.set_cpu_request(cpu).set_memory_request(memory).set_memory_limit(memory)


def with_key(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """`task` with the pseudonym key, where the cluster has one."""
    return kubernetes.use_secret_as_env(
        task, secret_name=KEY_SECRET, secret_key_to_env={"key": "ECHOPLANE_DEID_KEY"}, optional=True
    )
