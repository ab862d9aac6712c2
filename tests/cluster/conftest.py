"""One release for all cluster tests, on the Kubernetes of $KUBECONFIG: they must leave it able to answer the next.

IMAGE_TAG names images that the nodes have already; without it they are built by infra/images/build with $BUILDER.
MINIO_IMAGE, where given, puts the artifacts into the chart's MinIO."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from echoplane import bundle as bundles
from tests.cluster import kubernetes as k8s
from tests.tiny_bundle import make_tiny_bundle

ROOT = Path(__file__).resolve().parents[2]
S3_KEYS = "echoplane-s3"


@pytest.fixture(scope="session")
def tag() -> str:
    """Tag of the images under test."""
    if missing := [name for name in ("kubectl", "helm") if not shutil.which(name)]:
        pytest.skip(f"{' and '.join(missing)} not on the PATH")
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    if given := os.environ.get("IMAGE_TAG"):
        return given
    k8s.run("bash", str(ROOT / "infra" / "images" / "build"), "serving", "mlflow", timeout_s=1500)
    return k8s.run("bash", str(ROOT / "infra" / "images" / "build"), "--tag").strip()


@pytest.fixture(scope="session")
def installation(tag: str) -> list[str]:
    """The options of helm that install the release or change it."""
    options = ["--values", str(k8s.VALUES), "--set", f"imageTag={tag}"]
    if image := os.environ.get("MINIO_IMAGE"):
        options += [
            "--set",
            f"minio.enabled=true,minio.image={image},minio.volume.size=1Gi,s3.existingSecret={S3_KEYS}",
        ]
    return options


@pytest.fixture(scope="session")
def release(installation: list[str]) -> Iterator[str]:
    """The chart, installed in a namespace that enforces the restricted standard; MLflow answers, nothing else yet."""
    subprocess.run(["kubectl", "delete", "namespace", k8s.NAMESPACE, "--ignore-not-found"], check=True)
    k8s.run("kubectl", "create", "namespace", k8s.NAMESPACE)
    k8s.run("kubectl", "label", "namespace", k8s.NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    keys = {"AWS_ACCESS_KEY_ID": "echoplane", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
    literals = [f"--from-literal={name}={value}" for name, value in keys.items()]
    k8s.kubectl("create", "secret", "generic", S3_KEYS, *literals)
    k8s.helm("install", k8s.RELEASE, str(k8s.CHART), *installation)
    k8s.rolled_out("mlflow")
    yield k8s.RELEASE
    k8s.helm("uninstall", k8s.RELEASE, "--wait")
    k8s.run("kubectl", "delete", "namespace", k8s.NAMESPACE)


@pytest.fixture(scope="session")
def champion(release: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a tiny bundle that is registered in the release's MLflow and promoted; two pods answer with it."""
    from echoplane.adapters.registry import BUNDLE_TAG, CHAMPION, Registry

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
    k8s.rolled_out("serving")
    return bundle_id
