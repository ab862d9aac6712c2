"""The service in an environment made from requirements/serving.txt alone: no torch, no kfp, and all that it needs.

It answers from a folder, and follows the champion of a real MLflow server."""

import contextlib
import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from echoplane import bundle as bundles
from echoplane.adapters.local_mlflow import local_server
from echoplane.adapters.registry import BUNDLE_TAG, CHAMPION, Registry
from tests import dicom_files as dicom
from tests.serving_process import CHECKOUT, serve
from tests.tiny_bundle import make_tiny_bundle

TASK = "echo-view-video"
REQUIREMENTS = CHECKOUT / "requirements" / "serving.txt"


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of that environment, made once for each state of serving.txt."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = CHECKOUT / "build" / "serving-alone" / digest
    if not (folder / "complete").exists():
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        place = ["--quiet", "--python", str(folder / "bin" / "python")]
        install = [uv, "pip", "install", *place, "--no-deps", "--require-hashes", "--requirement", str(REQUIREMENTS)]
        subprocess.run(install, check=True)
        (folder / "complete").touch()
    return folder / "bin" / "python"


def ask(client: httpx.Client) -> dict:
    response = client.post(f"/v1/{TASK}", files={"file": ("clip.dcm", dicom.jpeg_clip())})
    assert response.status_code == 200, response.text
    return response.json()


def register(registry: Registry, folder: Path, **tags: str) -> str:
    """The number of a new version that holds the bundle in `folder`, promoted at once."""
    import mlflow.pyfunc

    mlflow.set_experiment("serving")
    with mlflow.start_run():
        logged = mlflow.pyfunc.log_model(
            name="bundle",
            loader_module="echoplane.adapters.pyfunc",
            data_path=str(folder),
            pip_requirements=["numpy"],
        )
    tags[BUNDLE_TAG] = bundles.read(folder).id
    number = str(mlflow.register_model(logged.model_uri, TASK, tags=tags).version)
    registry.client.set_registered_model_alias(TASK, CHAMPION, number)
    return number


def slot(client: httpx.Client) -> dict:
    return client.get("/v1/models").json()["models"][0]


def wait_for_version(client: httpx.Client, number: str) -> None:
    wait_until(lambda: (slot(client)["model"] or {}).get("version") == number)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("module", ["torch", "kfp", "ray", "pandas", "matplotlib"])
def test_what_serving_must_not_need_is_not_there(python: Path, module: str) -> None:
    tried = subprocess.run([str(python), "-c", f"import {module}"], capture_output=True, text=True, check=False)
    assert f"No module named '{module}'" in tried.stderr


def test_the_service_answers_a_request_from_a_bundle_folder(python: Path, tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    with serve(tmp_path, {"ECHOPLANE_BUNDLES": str(bundle)}, python=python) as running, running.client() as client:
        assert ask(client)["model"]["bundle"] == bundles.read(bundle).id


def test_the_service_follows_the_champion_of_a_registry_and_outlives_it(python: Path, tmp_path: Path) -> None:
    folders = [make_tiny_bundle(tmp_path / f"bundle{seed}", seed) for seed in range(3)]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with contextlib.ExitStack() as stack:
        mlflow_server = stack.enter_context(contextlib.ExitStack())
        uri = mlflow_server.enter_context(local_server(tmp_path / "mlflow"))
        settings = {"MLFLOW_TRACKING_URI": uri, "ECHOPLANE_POLL_S": "0.2", "TMPDIR": str(temporary)}
        settings["ECHOPLANE_ALLOW_UNSIGNED_MODELS"] = "true"
        service = stack.enter_context(serve(tmp_path, settings, python=python, ready=False))
        client, registry = stack.enter_context(service.client()), Registry(uri)
        wait_until(lambda: "no champion" in (slot(client)["problem"] or ""))
        assert client.get("/readyz").status_code == 503

        first = register(registry, folders[0], runtime="openvino", precision="f32", threads="1")
        wait_for_version(client, first)
        model = ask(client)["model"]
        assert (model["version"], model["bundle"]) == (first, bundles.read(folders[0]).id)
        assert (model["runtime"], model["precision"]) == ("openvino", "f32")

        second = register(registry, folders[1], runtime="onnxruntime", precision="f32", threads="2")
        wait_for_version(client, second)
        assert ask(client)["model"]["runtime"] == "onnxruntime"

        register(registry, folders[2], runtime="onnxruntime", precision="f32", threads="none")
        wait_until(lambda: slot(client)["problem"] is not None)
        assert ask(client)["model"]["version"] == second

        registry.client.set_registered_model_alias(TASK, CHAMPION, first)  # a rollback
        wait_for_version(client, first)
        assert list(temporary.glob("echoplane-*")) == [], "downloads are removed once they are loaded"

        mlflow_server.close()
        wait_until(lambda: "MLflow" in (slot(client)["problem"] or ""))
        assert ask(client)["model"]["bundle"] == bundles.read(folders[0]).id
        assert client.get("/readyz").status_code == 200
