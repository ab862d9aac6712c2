"""A double of Kubeflow's driver and launcher 2.17, which no package index carries: a compiled pipeline's tasks as Jobs.

What it does, each as a run on the real Kubeflow showed it or stricter:
- Resolves a task's inputs in the order of the dependencies; an input that its graph does not have ends the run.
- Runs the executor's own image, command and environment on the volumes that the package names.
- Gives the main container all that Kubeflow gives it for security (no privilege escalation, no capability, seccomp
  RuntimeDefault) and nothing else: no runAsNonRoot, on container or pod, and no fsGroup, unless the package asks (K1).
- Gives it the package's own requests and limits, labels and time limit. A size that is a parameter is refused: Kubeflow
  loses it inside of an exit handler.
- Makes writable what Kubeflow makes writable, and nothing else: stricter, Kubeflow leaves the image's files writable.
- Refuses a variable that comes from two sources, as Argo does.
- Ends a step as Argo's executor does: SIGTERM to all of its process group, and the container is gone with the shell,
  however far the program is (K4). A terminated run's exit handler is given the state RUNNING.
- Ignores a task's cache, retry and node settings: the first two are off in our packages, which a unit test holds.
It has no loops and conditions, and fails if it meets one."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client

from tests.cluster import k8s

WRITABLE = ("/tmp", "/minio", "/s3", "/gcs", "/.local", "/.cache", "/.config")
STORED = "/echoplane/kfp"
"""Where artifacts lie: a folder that every task reaches, in place of Kubeflow's bucket."""
SAID = "/dev/termination-log"
"""The executor's output: where Kubernetes picks it up."""
EXECUTOR = """
import os, signal, subprocess, sys
step = subprocess.Popen(sys.argv[1:], start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: os.killpg(step.pid, signal.SIGTERM))
status = step.wait()
sys.exit(status if status >= 0 else 128 - status)
"""
"""Argo's executor: the first process of a step's container."""


class TaskFailed(AssertionError):
    """Raised if a task fails; holds what it printed last."""


@dataclass
class Values:
    """What a task was given, or gave."""

    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """One run of the package that `python -m pipelines compile` wrote."""

    name: str
    package: Path
    account: str
    logs: dict[str, str] = field(default_factory=dict)
    """What each task printed."""
    running: str = ""
    """The task that runs now."""
    terminated: bool = False

    def __post_init__(self) -> None:
        self._spec, platform = yaml.safe_load_all(self.package.read_text())
        self._placed = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]

    def start(self, **arguments: Any) -> None:
        """Run it to its end; TaskFailed where a task fails."""
        inputs = self._spec["root"].get("inputDefinitions", {}).get("parameters", {})
        assert set(arguments) <= set(inputs), set(arguments) - set(inputs)
        defaults = {name: one["defaultValue"] for name, one in inputs.items() if "defaultValue" in one}
        self._dag(self._spec["root"]["dag"], Values(defaults | arguments), "")

    def terminate(self) -> None:
        """End the run as a person does in Kubeflow's UI: the step that runs is deleted, the exit handler still runs."""
        self.terminated = True
        options = ["--selector", f"task={self.running},run={self.name}", "--wait=false"]
        k8s.kubectl("delete", "pod", *options)

    def _dag(self, dag: Mapping[str, Any], given: Values, prefix: str) -> Values:
        made: dict[str, Values] = {}
        waiting, failure = dict(dag["tasks"]), None
        while waiting:
            name = next(one for one, task in waiting.items() if made.keys() >= set(task.get("dependentTasks", [])))
            task = waiting.pop(name)
            trigger = task.get("triggerPolicy", {})
            doubled = set(trigger) <= {"strategy"} and not {"parameterIterator", "artifactIterator"} & set(task)
            assert doubled, f"{name}: loops and conditions are not doubled"
            if failure and trigger.get("strategy") != "ALL_UPSTREAM_TASKS_COMPLETED":
                made[name] = Values()
                continue
            try:
                made[name] = self._task(name, task, given, made, prefix, failure)
            except TaskFailed as error:
                made[name], failure = Values(), error
        if failure:
            raise failure
        return _outputs(dag.get("outputs", {}), made)

    def _task(
        self, name: str, task: Any, given: Values, made: Mapping[str, Values], prefix: str, failure: Exception | None
    ) -> Values:
        component = self._spec["components"][task["componentRef"]["name"]]
        asked = component.get("inputDefinitions", {}).get("parameters", {})
        values = Values({key: one["defaultValue"] for key, one in asked.items() if "defaultValue" in one})
        for key, source in task.get("inputs", {}).get("parameters", {}).items():
            values.parameters[key] = self._parameter(source, given, made, failure)
        for key, source in task.get("inputs", {}).get("artifacts", {}).items():
            values.artifacts[key] = _artifact(source, given, made)
        values.parameters = {key: _filled(value, values.parameters) for key, value in values.parameters.items()}
        if "dag" in component:
            return self._dag(component["dag"], values, f"{prefix}{name}-")
        return self._execute(name, f"{prefix}{name}", component, values, given, made)

    def _execute(
        self, task: str, name: str, component: Any, values: Values, given: Values, made: Mapping[str, Values]
    ) -> Values:
        label = component["executorLabel"]
        outputs = {
            key: {"name": key, "uri": f"{STORED}/{self.name}/{name}/{key}", "type": one["artifactType"], "metadata": {}}
            for key, one in component.get("outputDefinitions", {}).get("artifacts", {}).items()
        }
        asked = {
            "inputs": {
                "parameterValues": values.parameters,
                "artifacts": {key: {"artifacts": [one]} for key, one in values.artifacts.items()},
            },
            "outputs": {"artifacts": {key: {"artifacts": [one]} for key, one in outputs.items()}, "outputFile": SAID},
        }
        container = self._spec["deploymentSpec"]["executors"][label]["container"]
        pod = _pod(container, json.dumps(asked), self.account)
        labels = {"run": self.name, "task": task}
        for kind, placed in self._placed.get(label, {}).items():
            for one in placed if isinstance(placed, list) else [placed]:
                _place(pod, labels, kind, one, lambda source: self._parameter(source, given, made, None))
        variables = [one["name"] for one in pod["containers"][0]["env"]]
        assert len(variables) == len(set(variables)), f"{task}: a variable from two sources"
        self.running = task
        said = _run_job(f"{self.name}-{name}", pod, labels, self.logs, task)
        parameters = component.get("outputDefinitions", {}).get("parameters")
        return Values(json.loads(said)["parameterValues"] if parameters else {}, outputs)

    def _parameter(self, source: Any, given: Values, made: Mapping[str, Values], failure: Exception | None) -> Any:
        if "runtimeValue" in source:
            return source["runtimeValue"]["constant"]
        if "componentInputParameter" in source:
            return given.parameters[source["componentInputParameter"]]
        if "taskFinalStatus" in source:
            return {
                "state": "RUNNING" if self.terminated else "FAILED" if failure else "SUCCEEDED",
                "pipelineJobResourceName": self.name,
                "pipelineTaskName": source["taskFinalStatus"]["producerTask"],
                "error": {"code": 0, "message": ""},
            }
        made_by = source["taskOutputParameter"]
        return made[made_by["producerTask"]].parameters[made_by["outputParameterKey"]]


def _artifact(source: Any, given: Values, made: Mapping[str, Values]) -> Any:
    if "componentInputArtifact" in source:
        return given.artifacts[source["componentInputArtifact"]]
    made_by = source["taskOutputArtifact"]
    return made[made_by["producerTask"]].artifacts[made_by["outputArtifactKey"]]


def _filled(value: Any, parameters: Mapping[str, Any]) -> Any:
    """A constant with the task's own inputs in it, as an f-string of a pipeline compiles to."""
    if not isinstance(value, str):
        return value
    return re.sub(r"\{\{\$\.inputs\.parameters\['([\w-]+)'\]\}\}", lambda found: str(parameters[found[1]]), value)


def _outputs(outputs: Any, made: Mapping[str, Values]) -> Values:
    result = Values()
    for key, source in outputs.get("artifacts", {}).items():
        (one,) = source["artifactSelectors"]
        result.artifacts[key] = made[one["producerSubtask"]].artifacts[one["outputArtifactKey"]]
    for key, source in outputs.get("parameters", {}).items():
        one = source["valueFromParameter"]
        result.parameters[key] = made[one["producerSubtask"]].parameters[one["outputParameterKey"]]
    return result


def _pod(container: Any, executor_input: str, account: str) -> dict[str, Any]:
    """A step's pod as the module describes it."""
    asked = container["resources"]
    resources = {
        "requests": {"cpu": asked["resourceCpuRequest"], "memory": asked["resourceMemoryRequest"]},
        "limits": {"memory": asked["resourceMemoryLimit"]},
    }
    assert "{{" not in json.dumps(resources), "a size is a parameter"
    fields = {"KFP_POD_NAME": "metadata.name", "KFP_POD_UID": "metadata.uid"}
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": True,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 30,
        "containers": [
            {
                "name": "main",
                "image": container["image"],
                "command": ["python3", "-c", EXECUTOR, *container["command"]],
                "args": [executor_input if one == "{{$}}" else one for one in container["args"]],
                "env": list(container.get("env", []))
                + [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()],
                "resources": resources,
                "securityContext": {
                    "seccompProfile": {"type": "RuntimeDefault"},
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": _name(path), "mountPath": path} for path in WRITABLE],
            }
        ],
        "volumes": [{"name": _name(path), "emptyDir": {}} for path in WRITABLE],
    }


def _name(path: str) -> str:
    return "w" + re.sub(r"[/.]+", "-", path)


def _place(pod: dict[str, Any], labels: dict[str, str], kind: str, placed: Any, value: Any) -> None:
    """Apply one thing that kfp-kubernetes asks for a task."""
    (container,) = pod["containers"]
    if kind == "pvcMount":
        claim = value(placed["pvcNameParameter"])
        pod["volumes"].append({"name": f"claim-{claim}", "persistentVolumeClaim": {"claimName": claim}})
        container["volumeMounts"].append({"name": f"claim-{claim}", "mountPath": placed["mountPath"]})
    elif kind in ("configMapAsEnv", "secretAsEnv"):
        source, reference = ("configMap", "configMapKeyRef") if kind == "configMapAsEnv" else ("secret", "secretKeyRef")
        for one in placed["keyToEnv"]:
            key = {"name": value(placed[f"{source}NameParameter"]), "key": one[f"{source}Key"]}
            key["optional"] = placed.get("optional", False)
            container["env"].append({"name": one["envVar"], "valueFrom": {reference: key}})
    elif kind == "securityContext":
        container["securityContext"] |= placed
    elif kind == "podMetadata":
        labels |= placed["labels"]
    elif kind == "activeDeadlineSeconds":
        pod["activeDeadlineSeconds"] = int(placed)
    else:
        assert kind == "imagePullPolicy", f"{kind} is not doubled"


def _run_job(name: str, pod: dict[str, Any], labels: dict[str, str], logs: dict[str, str], task: str) -> str:
    """Returns what the task's container left for Kubernetes to pick up. A task that fails is not tried again: nor is
    it by Kubeflow as it ships."""
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/component": "step"}},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels | {"job": name}}, "spec": pod}},
    }
    pod["containers"][0]["terminationMessagePath"] = SAID
    client.BatchV1Api().create_namespaced_job(k8s.NAMESPACE, body)
    followed = threading.Thread(target=_follow, args=(name, logs, task), daemon=True)
    followed.start()
    while not (ended := ended_as(client.BatchV1Api().read_namespaced_job_status(name, k8s.NAMESPACE).status)):
        time.sleep(1)
    followed.join(timeout=30)
    if ended == "Failed":
        raise TaskFailed(f"{task} failed:\n{logs.get(task, '')[-3000:]}")
    (made,) = client.CoreV1Api().list_namespaced_pod(k8s.NAMESPACE, label_selector=f"job={name}").items
    return str(made.status.container_statuses[0].state.terminated.message or "")


def ended_as(status: Any) -> str:
    """`Complete`, `Failed`, or nothing while a Job has not ended.

    SuccessCriteriaMet and FailureTarget come before those two, while the Job's pods are still being counted
    (Kubernetes 1.31 and later, KEP-3998 and KEP-3329): `succeeded` may still be empty then.
    """
    held = {one.type for one in status.conditions or () if one.status == "True"}
    return next((one for one in ("Complete", "Failed") if one in held), "")


def _follow(name: str, logs: dict[str, str], task: str) -> None:
    """Keep what the task prints while it prints it."""
    logs[task] = ""
    command = ["kubectl", "--namespace", k8s.NAMESPACE, "logs", "--follow", f"job/{name}", "--pod-running-timeout=300s"]
    while not logs[task]:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            for line in process.stdout or ():
                logs[task] += line
        if process.returncode == 0:
            return
        time.sleep(1)
