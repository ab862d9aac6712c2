"""The service's processes: a killed worker is replaced, and a service that is stopped ends its connections cleanly."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests import dicom_files as dicom
from tests.serving_checks import assert_answer, send
from tests.serving_process import Running, serve, wait_for


@pytest.fixture
def service(tmp_path: Path, bundle_folder: Path) -> Iterator[Running]:
    with serve(tmp_path, {"ECHOPLANE_BUNDLES": str(bundle_folder)}) as running:
        yield running


def worker(service: Running) -> psutil.Process:
    """The process that answers: the one with a socket of the service that is not the supervisor."""
    children = psutil.Process(service.pid).children(recursive=True)
    (found,) = [child for child in children if "--fd" in child.cmdline()]
    return found


def test_e12_a_killed_worker_is_replaced_with_a_line_in_the_log(service: Running) -> None:
    first = worker(service)
    killed_s = time.time()
    first.kill()
    first.wait(5)
    wait_for(service, "/readyz")
    with service.client() as client:
        assert_answer(send(client, dicom.jpeg_clip()))
        exposed = client.get("/metrics").text
    second = worker(service)
    assert second.create_time() - killed_s < 5
    assert f"worker {first.pid} ended unexpectedly; worker {second.pid} replaces it" in service.log
    assert "echoplane_in_flight 0.0" in exposed


def test_e20_a_request_on_a_kept_connection_after_sigterm_is_answered_and_then_the_connection_ends(
    service: Running,
) -> None:
    """E20: previously such a request was reset."""
    with service.client() as client:
        assert_answer(send(client, dicom.jpeg_clip()))
        os.kill(service.pid, signal.SIGTERM)
        time.sleep(1)
        response = send(client, dicom.jpeg_clip())
        assert_answer(response)
        assert response.headers["connection"] == "close"
        with pytest.raises(httpx.TransportError):
            client.get("/livez")
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(service.pid).wait(15)
    assert "Traceback" not in service.log
