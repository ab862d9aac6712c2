"""A repository in a bucket of a real MinIO: copied there by the publisher, followed by a device over plain HTTP."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from echoplane.edge import publish, repository
from echoplane.edge.upload import receive, upload
from serving.edge.device import Device
from serving.edge.settings import EdgeSettings
from tests.edge_site import TASK, check_here
from tests.integration.test_storage import BINARY, CACHE, KEY, SECRET, Store, store  # noqa: F401 (a fixture)
from tests.tiny_bundle import make_tiny_bundle

MC = shutil.which("mc") or shutil.which("mc", path=str(CACHE / "bin"))
pytestmark = pytest.mark.skipif(not (BINARY and MC), reason="there is no minio or no mc on PATH or in the cache")


def test_a_device_follows_a_bucket_that_the_publisher_fills(tmp_path: Path, store: Store) -> None:  # noqa: F811
    repo = repository.create(tmp_path / "repo", tmp_path / "keys")
    first = publish.publish(repo, "stable", make_tiny_bundle(tmp_path / "a", 1), "all", [])
    assert upload(tmp_path / "repo", "s3://studies/edge") > 10
    environment = os.environ | {
        "MC_HOST_here": f"http://{KEY}:{SECRET}@127.0.0.1:{store.port}",
        "MC_CONFIG_DIR": str(tmp_path / "mc"),
    }
    for access, folder in (("download", "edge"), ("public", "reports")):
        command = [str(MC), "anonymous", "set", access, f"here/studies/{folder}"]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=30)
    settings = EdgeSettings(
        repository_url=f"{store.endpoint}/studies/edge",
        root_file=tmp_path / "repo" / "metadata" / "1.root.json",
        folder=tmp_path / "device",
        device="box-1",
        tasks=TASK,
        reserve_mib=0,
        reports=f"{store.endpoint}/studies/reports",
    )
    device = Device(settings, check_bundle=check_here)
    assert device.cycle().tasks[TASK].bundle == first.bundle
    second = publish.publish(repo, "stable", make_tiny_bundle(tmp_path / "b", 2), "all", [])
    assert device.cycle().tasks[TASK].bundle == first.bundle, "nothing was copied yet"
    upload(tmp_path / "repo", "s3://studies/edge")
    assert device.cycle().tasks[TASK].bundle == second.bundle
    (known,) = receive("s3://studies/reports").reports
    assert (known.device, known.tasks[TASK].bundle) == ("box-1", second.bundle)
