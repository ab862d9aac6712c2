"""A double of KubeRay's operator 1.7, which no package index carries: it does to a RayJob what the operator does, and
only for the mode that echoplane asks for (HTTPMode, a cluster of its own, one group of workers, token authentication).

A head pod behind a Service and workers that wait for it, made again when they are gone; a Secret with a token that
every pod and the operator use; the entrypoint submitted to Ray's dashboard once the cluster is ready, and again if a
new head does not know it; status; another cluster after a failure, up to `backoffLimit`; the pods gone at the end.
Probes are those of 1.7 for this Ray: HTTP on the dashboard agent, which asks for no token."""

import base64
import contextlib
import copy
import secrets
import threading
from typing import Any

from kubernetes import client
from kubernetes.client import ApiException

from tests.cluster import k8s

GROUP, VERSION, KIND = "ray.io", "v1", "rayjobs"
POLL_S = 1.0
DASHBOARD, GCS, AGENT = 8265, 6379, 52365
HEALTHY = {"httpGet": {"path": "/api/healthz", "port": AGENT}}
"""K9: the same for head and worker."""
TOKEN = "auth_token"  # noqa: S105 (a key of a Secret)
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"{KIND}.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"kind": "RayJob", "plural": KIND, "singular": "rayjob"},
        "versions": [
            {
                "name": VERSION,
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            part: {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                            for part in ("spec", "status")
                        },
                    }
                },
            }
        ],
    },
}


class RayOperator:
    """Reconciles the RayJobs of the tests' namespace while it is entered."""

    def __init__(self) -> None:
        self._objects, self._pods = client.CustomObjectsApi(), client.CoreV1Api()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._reconcile_all, daemon=True)
        self._failures: dict[str, int] = {}

    def __enter__(self) -> "RayOperator":
        with contextlib.suppress(ApiException):  # defined already
            client.ApiextensionsV1Api().create_custom_resource_definition(DEFINITION)
        k8s.run("kubectl", "wait", "--for=condition=Established", f"crd/{KIND}.{GROUP}", "--timeout=60s")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _reconcile_all(self) -> None:
        while not self._stop.wait(POLL_S):
            with contextlib.suppress(ApiException):  # tried again, as a controller does
                for job in self._objects.list_namespaced_custom_object(GROUP, VERSION, k8s.NAMESPACE, KIND)["items"]:
                    self._reconcile(job)

    def _reconcile(self, job: dict[str, Any]) -> None:
        if "deletionTimestamp" in job["metadata"]:
            return  # its pods are its own: the garbage collector's work
        status = job.get("status", {})
        match status.get("jobDeploymentStatus", ""):
            case "":
                name = f"{job['metadata']['name'][:50]}-{secrets.token_hex(3)}"
                self._tell(job, jobDeploymentStatus="Initializing", jobId=name, rayClusterName=name)
            case "Initializing":
                if self._cluster_is_ready(job):
                    self._tell(job, jobDeploymentStatus="Running")
            case "Running":
                self._cluster_is_ready(job)  # makes the pods that are missing
                self._look_after(job)
            case "Retrying":
                if not self._remove(job):
                    self._tell(job, jobDeploymentStatus="", jobStatus="")
            case "Complete" | "Failed" if job["spec"].get("shutdownAfterJobFinishes"):
                self._remove(job)

    def _look_after(self, job: dict[str, Any]) -> None:
        job_id = job["status"]["jobId"]
        try:
            info = self._dashboard(job, "GET", f"api/jobs/{job_id}")
        except ApiException as error:
            if error.status != 404:
                return  # no head answers: wait for one
            self._dashboard(
                job, "POST", "api/jobs/", {"entrypoint": job["spec"]["entrypoint"], "submission_id": job_id}
            )
            return
        said = {"jobStatus": info["status"], "message": info.get("message") or ""}
        if info["status"] == "FAILED":
            failed = self._failures[job["metadata"]["name"]] = self._failures.get(job["metadata"]["name"], 0) + 1
            again = failed <= job["spec"].get("backoffLimit", 0)
            said |= {"jobDeploymentStatus": "Retrying" if again else "Failed", "reason": "AppFailed", "failed": failed}
        elif info["status"] in ("SUCCEEDED", "STOPPED"):
            said["jobDeploymentStatus"] = "Complete"
        if said.items() - job["status"].items():
            self._tell(job, **said)

    def _cluster_is_ready(self, job: dict[str, Any]) -> bool:
        name, spec = job["status"]["rayClusterName"], job["spec"]["rayClusterSpec"]
        found = self._found(job)
        alive = [pod for pod in found if not pod.metadata.deletion_timestamp]
        if not any(pod.metadata.labels["ray.io/node-type"] == "head" for pod in alive):
            self._token(job)
            self._create(job, "head", spec["headGroupSpec"], f"{name}-head-{secrets.token_hex(2)}")
            with contextlib.suppress(ApiException):  # it outlives a head
                self._pods.create_namespaced_service(k8s.NAMESPACE, _service(job))
        (group,) = spec["workerGroupSpecs"]
        workers = sum(pod.metadata.labels["ray.io/node-type"] == "worker" for pod in alive)
        for _ in range(group["replicas"] - workers):
            self._create(job, "worker", group, f"{name}-worker-{secrets.token_hex(2)}")
        return len(alive) == 1 + group["replicas"] and all(_ready(pod) for pod in alive)

    def _found(self, job: dict[str, Any]) -> list[Any]:
        selector = f"ray.io/cluster={job['status']['rayClusterName']}"
        return self._pods.list_namespaced_pod(k8s.NAMESPACE, label_selector=selector).items

    def _remove(self, job: dict[str, Any]) -> int:
        """Delete the cluster's pods; how many are left."""
        found = self._found(job)
        for pod in found:
            if not pod.metadata.deletion_timestamp:
                self._pods.delete_namespaced_pod(pod.metadata.name, k8s.NAMESPACE)
        return len(found)

    def _create(self, job: dict[str, Any], kind: str, group: dict[str, Any], name: str) -> None:
        self._pods.create_namespaced_pod(k8s.NAMESPACE, ray_pod(job, kind, group, name))

    def _tell(self, job: dict[str, Any], **status: Any) -> None:
        self._objects.patch_namespaced_custom_object_status(
            GROUP, VERSION, k8s.NAMESPACE, KIND, job["metadata"]["name"], {"status": status}
        )

    def _token(self, job: dict[str, Any]) -> str:
        """The cluster's token, made with its Secret when it is first asked for."""
        name = job["status"]["rayClusterName"]
        try:
            secret = self._pods.read_namespaced_secret(name, k8s.NAMESPACE)
        except ApiException:
            metadata = _metadata(job, name, "head")
            body = {"metadata": metadata, "stringData": {TOKEN: secrets.token_hex(32)}}
            self._pods.create_namespaced_secret(k8s.NAMESPACE, body)
            secret = self._pods.read_namespaced_secret(name, k8s.NAMESPACE)
        return base64.b64decode(secret.data[TOKEN]).decode()

    def _dashboard(self, job: dict[str, Any], method: str, path: str, body: Any = None) -> Any:
        """Ask Ray's dashboard, through the API server. Ray takes its token from either of two headers."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        headers["X-Ray-Authorization"] = f"Bearer {self._token(job)}"
        service = f"{_service(job)['metadata']['name']}:{DASHBOARD}"
        return self._pods.api_client.call_api(
            f"/api/v1/namespaces/{k8s.NAMESPACE}/services/{service}/proxy/{path}",
            method,
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
            response_type="object",
            _return_http_data_only=True,
            _request_timeout=20,
        )


def _ready(pod: Any) -> bool:
    return any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions or ())


def _metadata(job: dict[str, Any], name: str, kind: str) -> dict[str, Any]:
    owner = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "RayJob", "blockOwnerDeletion": True, "controller": True}
    owner |= {key: job["metadata"][key] for key in ("name", "uid")}
    labels = {"ray.io/cluster": job["status"]["rayClusterName"], "ray.io/node-type": kind}
    return {"name": name, "labels": labels, "ownerReferences": [owner]}


def _service(job: dict[str, Any]) -> dict[str, Any]:
    name = f"{job['status']['rayClusterName']}-head-svc"
    metadata = _metadata(job, name, "head")
    ports = [{"name": f"p{port}", "port": port} for port in (GCS, DASHBOARD)]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"clusterIP": "None", "selector": metadata["labels"], "ports": ports},
    }


def ray_pod(job: dict[str, Any], kind: str, group: dict[str, Any], name: str) -> dict[str, Any]:
    """The template of a group with what the operator adds: command, variables, probes, and a worker's wait."""
    spec = copy.deepcopy(group["template"]["spec"])
    container = spec["containers"][0]
    head = f"{_service(job)['metadata']['name']}.{k8s.NAMESPACE}.svc.cluster.local"
    parameters = {"dashboard-agent-listen-port": "52365", "metrics-export-port": "8080"} | group["rayStartParams"]
    if kind == "worker":
        parameters["address"] = f"{head}:{GCS}"
    start = f"ray start {'--head ' if kind == 'head' else ''}--block " + " ".join(
        f"--{key}={value}" for key, value in sorted(parameters.items())
    )
    container |= {"command": ["/bin/bash", "-lc", "--"], "args": [f"ulimit -n 65536; {start}"]}
    address = f"127.0.0.1:{GCS}" if kind == "head" else f"{head}:{GCS}"
    added = {"FQ_RAY_IP": head, "RAY_IP": head.split(".")[0], "RAY_PORT": str(GCS), "RAY_ADDRESS": address}
    added |= {"RAY_CLUSTER_NAME": job["status"]["rayClusterName"], "REDIS_PASSWORD": ""}
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}, "another way is not doubled"
    token = {"secretKeyRef": {"name": job["status"]["rayClusterName"], "key": TOKEN}}
    container["env"] = [
        *container.get("env", []),
        *({"name": key, "value": value} for key, value in added.items()),
        {"name": "RAY_AUTH_MODE", "value": "token"},
        {"name": "RAY_AUTH_TOKEN", "valueFrom": token},
    ]
    probe = HEALTHY | {"initialDelaySeconds": 10, "periodSeconds": 5}
    container["readinessProbe"] = probe | {"timeoutSeconds": 5, "failureThreshold": 10}
    container["livenessProbe"] = probe | {"initialDelaySeconds": 30, "timeoutSeconds": 5, "failureThreshold": 120}
    if kind == "worker":
        wait = f"until ray health-check --address {head}:{GCS} >/dev/null 2>&1; do sleep 5; done"
        waits = {key: container[key] for key in ("image", "env", "securityContext", "volumeMounts")}
        limits = {"cpu": "200m", "memory": "256Mi"}
        waits |= {"name": "wait-gcs-ready", "command": ["/bin/bash", "-lc", "--"], "args": [wait]}
        spec["initContainers"] = [waits | {"resources": {"requests": limits, "limits": limits}}]
    metadata = _metadata(job, name, kind)
    metadata["labels"] = group["template"].get("metadata", {}).get("labels", {}) | metadata["labels"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
