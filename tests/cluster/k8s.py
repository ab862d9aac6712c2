"""What the cluster tests do with kubectl and helm, and a client that keeps asking while they do it."""

import contextlib
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.serving_process import free_port

NAMESPACE = "echoplane-test"
RELEASE = "echoplane"
CHART = Path(__file__).resolve().parents[2] / "helm" / "echoplane"
VALUES = Path(__file__).with_name("values.yaml")
TASK = "echo-view-video"
URL = "http://127.0.0.1:30080"
"""The service's NodePort, as values.yaml says."""


def run(*command: str, timeout_s: float = 300, given: str | None = None) -> str:
    """What `command` prints; AssertionError with all that it said where it fails."""
    outcome = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=timeout_s)
    assert outcome.returncode == 0, f"{' '.join(command)}:\n{outcome.stdout}\n{outcome.stderr}"
    return outcome.stdout


def kubectl(*arguments: str, **options: Any) -> str:
    return run("kubectl", "--namespace", NAMESPACE, *arguments, **options)


def helm(*arguments: str, **options: Any) -> str:
    return run("helm", *arguments, "--namespace", NAMESPACE, **options)


def get(*arguments: str) -> dict[str, Any]:
    return json.loads(kubectl("get", *arguments, "--output", "json"))


def serving_pods() -> list[dict[str, Any]]:
    return get("pods", "--selector", "app.kubernetes.io/component=serving")["items"]


def rolled_out(part: str, timeout_s: int = 300) -> None:
    kubectl("rollout", "status", f"deployment/{RELEASE}-{part}", f"--timeout={timeout_s}s", timeout_s=timeout_s + 10)


def seconds_since_install() -> float:
    """Since `helm install` began."""
    began = json.loads(helm("status", RELEASE, "--output", "json"))["info"]["first_deployed"]
    return time.time() - datetime.fromisoformat(began).timestamp()


def wait_until(holds: Callable[[], Any], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        time.sleep(0.5)


def pod(name: str, image: str, command: list[str], labels: dict[str, str] | None = None) -> dict[str, Any]:
    """Returns a pod that the restricted standard allows."""
    container = {
        "name": name,
        "image": image,
        "command": command,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}


@contextlib.contextmanager
def running(body: dict[str, Any], namespace: str = NAMESPACE) -> Iterator[str]:
    """The address of a pod that runs meanwhile."""
    run("kubectl", "--namespace", namespace, "apply", "--filename", "-", given=json.dumps(body))
    name = f"pod/{body['metadata']['name']}"
    try:
        run("kubectl", "--namespace", namespace, "wait", "--for=condition=Ready", name, "--timeout=120s")
        yield run("kubectl", "--namespace", namespace, "get", name, "--output", "jsonpath={.status.podIP}")
    finally:
        run("kubectl", "--namespace", namespace, "delete", name, "--grace-period=1")


def write_to_volume(claim: str, path: str, text: str, image: str) -> None:
    """Put a small file on a volume, as whoever looks after a site would."""
    body = pod("write", image, ["sh", "-c", f'printf %s "$TEXT" >/volume/{path}'])
    (container,) = body["spec"]["containers"]
    container["env"] = [{"name": "TEXT", "value": text}]
    container["volumeMounts"] = [{"name": "volume", "mountPath": "/volume"}]
    body["spec"]["volumes"] = [{"name": "volume", "persistentVolumeClaim": {"claimName": claim}}]
    kubectl("apply", "--filename", "-", given=json.dumps(body))
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/write", "--timeout=120s")
    kubectl("delete", "pod", "write")


class Memory:
    """The most that all pods held together, whatever their namespace, read from the kubelets every few seconds."""

    PERIOD_S = 5

    def __init__(self) -> None:
        self.max_bytes = 0
        self.pods_then: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self.PERIOD_S):
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):  # a kubelet that restarts
                self._look()

    def _look(self) -> None:
        held = {}
        for node in run("kubectl", "get", "nodes", "--output", "jsonpath={.items[*].metadata.name}").split():
            summary = json.loads(run("kubectl", "get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
            for pod in summary["pods"]:
                held[pod["podRef"]["name"]] = pod.get("memory", {}).get("workingSetBytes", 0)
        if sum(held.values()) > self.max_bytes:
            self.max_bytes, self.pods_then = sum(held.values()), held


@contextlib.contextmanager
def forwarded(service: str, port: int) -> Iterator[str]:
    """An address on this machine that leads to a Service."""
    local = free_port()
    command = ["kubectl", "--namespace", NAMESPACE, "port-forward", f"service/{service}", f"{local}:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{local}"
    try:
        wait_until(lambda: _connects(address), 30)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=10)


def _connects(address: str) -> bool:
    try:
        httpx.get(address, timeout=2, trust_env=False)
    except httpx.TransportError:
        return False
    return True


EACH_ALONE = httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
"""Gives each request a connection of its own. A client per request would read all certificates each time."""


def ask(data: bytes) -> httpx.Response:
    """A request on a connection of its own, as proxies spread them over the pods."""
    return EACH_ALONE.post(f"{URL}/v1/{TASK}", files={"file": ("clip.dcm", data)})


def answers(data: bytes) -> bool:
    try:
        return ask(data).status_code == 200
    except httpx.TransportError:
        return False


class Load:
    """Clients that ask one after the other until told to stop, `at_least` times together; `seen` counts answers.

    A connection that is refused, so that nothing was sent, is tried again, as proxies do, and stands in `errors`. A
    node refuses now and then what comes to a NodePort: the reset comes from the node itself, which did not replace the
    address by a pod's, while connections just before and after it reach every pod.
    """

    REFUSED_AT_MOST = 8
    """Connections that a node may refuse. Without `preStop` 16 were, and 8 of 2001 requests failed for good."""
    TRIES, AGAIN_S = 5, 0.1
    REFUSED = "refused each time"

    def __init__(self, data: bytes, *, clients: int = 2, at_least: int = 0, pause_s: float = 0.02) -> None:
        self.seen: Counter[str] = Counter()
        self.errors: list[str] = []
        self._data, self._at_least, self._pause_s = data, at_least, pause_s
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        while not self._stop.is_set() or self.seen.total() < self._at_least:
            self.seen[self._answer()] += 1
            time.sleep(self._pause_s)

    def _answer(self) -> str:
        """The status, or the name of an error."""
        for _ in range(self.TRIES):
            try:
                return str(ask(self._data).status_code)
            except httpx.TransportError as error:
                self.errors.append(f"{datetime.now():%H:%M:%S.%f} {error}")
                if not isinstance(error, httpx.ConnectError):
                    return type(error).__name__
            time.sleep(self.AGAIN_S)
        return self.REFUSED

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def none_failed(self, figures: dict[str, float], what: str) -> None:
        """Every answer was good while this happened; how many there were joins the figures."""
        total = self.seen.total()
        figures[f"requests while {what}"], figures[f"failed while {what}"] = total, total - self.seen["200"]
        figures[f"connections refused while {what}"] = len(self.errors)
        assert set(self.seen) == {"200"}, f"{self.seen}, {self.errors}"
        assert len(self.errors) <= self.REFUSED_AT_MOST, self.errors
