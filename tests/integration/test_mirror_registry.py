"""The mirror script with Debian's skopeo and a real registry: to a folder, and from the folder to a registry."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from echoplane.adapters.local_mlflow import free_port

MIRROR = Path(__file__).resolve().parents[2] / "infra" / "mirror"
MISSING = [name for name in ("skopeo", "docker-registry") if not shutil.which(name)]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{' and '.join(MISSING)} not on the PATH")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Its host and port."""
    host = f"127.0.0.1:{free_port()}"
    config = tmp_path / "registry.yml"
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    config.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": host}}))
    command = ["docker-registry", "serve", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while True:
        with suppress(OSError), urllib.request.urlopen(f"http://{host}/v2/", timeout=2):
            break
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield host
    process.terminate()
    process.wait()


def image(folder: Path, said: str) -> Path:
    """A smallest image of one file, as an OCI layout."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, kind: str) -> dict:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("said")
        entry.size = len(said)
        tar.addfile(entry, io.BytesIO(said.encode()))
    layer = blob(packed.getvalue(), "layer.v1.tar")
    rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = blob(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode(), "config.v1+json")
    manifest = blob(json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode(), "manifest.v1+json")
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def mirror(tmp_path: Path, *arguments: str, **environment: str) -> str:
    settings = {"DIGESTS": str(tmp_path / "digests"), "COPY_OPTIONS": "--src-tls-verify=false --dest-tls-verify=false"}
    command = ["bash", str(MIRROR), *arguments]
    done = subprocess.run(command, env=os.environ | settings | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_our_images_reach_a_registry_by_way_of_a_folder_with_the_digests_that_are_written(
    registry: str, tmp_path: Path
) -> None:
    names = mirror(tmp_path, "--list", "echoplane").split()
    for name in names:
        built = image(tmp_path / "built" / name.split(":")[0], name)
        subprocess.run(
            ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{built}", f"docker://{registry}/built/{name}"],
            check=True,
            capture_output=True,
        )
    disk = f"dir:{tmp_path / 'disk'}"
    mirror(tmp_path, disk, "echoplane", OURS=f"docker://{registry}/built/")
    mirror(tmp_path, f"{registry}/heart/", "echoplane", FROM=disk)
    lines = [line.split() for line in (tmp_path / "digests").read_text().splitlines()]
    assert [name for name, _ in lines] == names
    for name, copy in lines:
        path, digest = copy.removeprefix(f"{registry}/").split("@")
        assert path == f"heart/{name.split(':')[0]}"
        for reference in (digest, name.split(":")[1]):
            request = urllib.request.Request(
                f"http://{registry}/v2/{path}/manifests/{reference}",
                headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
            )
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                assert f"sha256:{hashlib.sha256(answer.read()).hexdigest()}" == digest
    assert len({copy.split("@")[1] for _, copy in lines}) == len(names)
