"""A repository in a bucket of a real MinIO: copied there by the publisher, followed by a device over plain HTTP."""

from pathlib import Path

from echoplane.edge import publish, repository
from echoplane.edge.upload import receive, upload
from serving.edge.device import Device
from serving.edge.settings import EdgeSettings
from tests.edge_site import TASK, check_here
from tests.minio_process import Store
from tests.tiny_bundle import make_tiny_bundle


def test_a_device_follows_a_bucket_that_the_publisher_fills(tmp_path: Path, store: Store) -> None:
    repo = repository.create(tmp_path / "repo", tmp_path / "keys")
    first = publish.publish(repo, "stable", make_tiny_bundle(tmp_path / "a", 1), "all", [])
    assert upload(tmp_path / "repo", "s3://studies/edge") > 10
    store.allow("download", "studies/edge")
    store.allow("public", "studies/reports")
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
