"""One release for all cluster tests, on the Kubernetes of $KUBECONFIG: they must leave it able to answer the next.

IMAGE_TAG names images that the nodes have already; without it they are built by infra/images/build with $BUILDER.
GPU=none takes the worker without CUDA. MINIO_IMAGE is an image of MinIO that the nodes have, where they can't pull the
chart's. NETWORK_POLICY=enforced: the network keeps to NetworkPolicies. RESTART_KUBELET is a command that ends the
kubelet of this machine and starts it again. STARTED is when the cluster began to start, in s since 1970. What was
measured is written to build/cluster/figures.json."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import config
from pydicom.data import get_testdata_file

from echoplane import bundle as bundles
from tests.cluster import k8s
from tests.tiny_bundle import make_tiny_bundle

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "infra" / "images" / "build"
S3_KEYS = "echoplane-s3"
FIGURES = ROOT / "build" / "cluster" / "figures.json"


@pytest.fixture(scope="session")
def figures() -> Iterator[dict[str, float]]:
    """Yields a dictionary of figures, which the tests fill and which is written at the end."""
    found: dict[str, float] = {}
    yield found
    if started := os.environ.get("STARTED"):
        found["everything_s"] = round(time.time() - float(started))
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    FIGURES.write_text(json.dumps(found, indent=1))
    print(f"\n{FIGURES}: {json.dumps(found)}")


@pytest.fixture(scope="session")
def clip() -> bytes:
    """An ultrasound clip off a real scanner."""
    return Path(get_testdata_file("examples_ybr_color.dcm")).read_bytes()


@pytest.fixture(scope="session")
def memory(figures: dict[str, float]) -> Iterator[k8s.Memory]:
    """Watches the memory of all pods of the cluster, from before the release is installed until it is gone."""
    with k8s.Memory() as watched:
        yield watched
    figures["memory_of_all_pods_gib"] = round(watched.max_bytes / 2**30, 2)
    figures |= {f"memory_gib/{name}": round(size / 2**30, 2) for name, size in watched.pods_then.items()}


@pytest.fixture(scope="session")
def tag(figures: dict[str, float]) -> str:
    """Tag of the images under test."""
    if missing := [name for name in ("kubectl", "helm") if not shutil.which(name)]:
        pytest.skip(f"{' and '.join(missing)} not on the PATH")
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    if given := os.environ.get("IMAGE_TAG"):
        return given
    start = time.monotonic()
    serving, *_ = k8s.run("bash", str(BUILD), timeout_s=2700).split()
    figures["images_built_and_loaded_s"] = round(time.monotonic() - start)
    return serving.split(":")[-1]


@pytest.fixture(scope="session")
def worker_image(tag: str) -> str:
    """Image of pipeline steps and Ray nodes."""
    return f"echoplane-worker:{tag}{'-cpu' if os.environ.get('GPU') == 'none' else ''}"


@pytest.fixture(scope="session")
def compiled(worker_image: str) -> Path:
    """The package of `echo-view` that Kubeflow would be given."""
    command = [sys.executable, "-m", "pipelines", "compile", "echo-view"]
    environment = os.environ | {"ECHOPLANE_IMAGE": worker_image}
    said = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return ROOT / said.split()[-1]


@pytest.fixture(scope="session")
def s3_keys() -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": "echoplane", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}


@pytest.fixture(scope="session")
def installation(tag: str) -> list[str]:
    """The options of helm that install the release or change it."""
    options = ["--values", str(k8s.VALUES), "--set", f"imageTag={tag},s3.existingSecret={S3_KEYS}"]
    if image := os.environ.get("MINIO_IMAGE"):
        options += ["--set", f"minio.image={image}"]
    return options


@pytest.fixture(scope="session")
def release(
    installation: list[str], s3_keys: dict[str, str], memory: k8s.Memory, figures: dict[str, float]
) -> Iterator[str]:
    """The chart, installed in a namespace that enforces the restricted standard; MLflow answers, nothing else yet."""
    subprocess.run(["kubectl", "delete", "namespace", k8s.NAMESPACE, "--ignore-not-found"], check=True)
    k8s.run("kubectl", "create", "namespace", k8s.NAMESPACE)
    k8s.run("kubectl", "label", "namespace", k8s.NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    literals = [f"--from-literal={name}={value}" for name, value in s3_keys.items()]
    k8s.kubectl("create", "secret", "generic", S3_KEYS, *literals)
    config.load_kube_config()
    start = time.monotonic()
    k8s.helm("install", k8s.RELEASE, str(k8s.CHART), *installation)
    k8s.rolled_out("mlflow")
    figures["install_to_registry_s"] = round(time.monotonic() - start)
    yield k8s.RELEASE
    k8s.helm("uninstall", k8s.RELEASE, "--wait")
    k8s.run("kubectl", "delete", "namespace", k8s.NAMESPACE)


@pytest.fixture(scope="session")
def minio(release: str) -> str:
    k8s.rolled_out("minio")
    return f"{release}-minio"


@pytest.fixture(scope="session")
def champion(release: str, clip: bytes, figures: dict[str, float], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a tiny bundle that is registered in the release's MLflow and promoted; two pods answer with it."""
    from echoplane.adapters.registry import BUNDLE_TAG, CHAMPION, Registry

    start = time.monotonic()
    folder = make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
    with k8s.forwarded(f"{release}-mlflow", 5000) as uri:
        registry = Registry(uri)
        import mlflow.pyfunc

        mlflow.set_experiment("cluster")
        with mlflow.start_run():
            logged = mlflow.pyfunc.log_model(
                name="bundle",
                loader_module="echoplane.adapters.pyfunc",
                data_path=str(folder),
                pip_requirements=["numpy"],
            )
        bundle_id = bundles.read(folder).id
        tags = {BUNDLE_TAG: bundle_id, "runtime": "openvino", "precision": "f32", "threads": "1"}
        version = mlflow.register_model(logged.model_uri, k8s.TASK, tags=tags).version
        registry.client.set_registered_model_alias(k8s.TASK, CHAMPION, version)
    k8s.wait_until(lambda: k8s.answers(clip), 300)
    figures["install_to_first_answer_s"] = round(k8s.seconds_since_install())
    k8s.rolled_out("serving")
    figures["registration_to_two_ready_pods_s"] = round(time.monotonic() - start)
    return bundle_id
