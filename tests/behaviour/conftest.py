"""One running service for all behaviour tests: they must leave it able to answer the next."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving_checks import MAX_UPLOAD_MIB
from tests.serving_process import Running, serve
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path) -> Iterator[Running]:
    settings = {
        "ECHOPLANE_BUNDLES": str(bundle_folder),
        "ECHOPLANE_PRECISION": "f32",
        "ECHOPLANE_MAX_UPLOAD_MIB": str(MAX_UPLOAD_MIB),
        "ECHOPLANE_MAX_IN_FLIGHT": "4",
        "ECHOPLANE_MAX_FILES": "5",
    }
    with serve(tmp_path_factory.mktemp("service"), settings) as running:
        yield running
        with running.client() as client:
            assert client.get("/readyz").status_code == 200, "the service did not live through these tests"


@pytest.fixture
def client(service: Running) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client
