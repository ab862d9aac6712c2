"""A real MinIO on a free port of this machine, for tests and benchmarks that need a bucket."""

import os
import re
import shutil
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from pyarrow.fs import S3FileSystem

from echoplane import parent
from tests.serving_process import free_port

CACHE = Path(os.environ.get("CLUSTER_CACHE", str(Path.home() / ".cache/test-cluster")))
BINARY = shutil.which("minio") or shutil.which("minio", path=str(CACHE / "bin"))
MC = shutil.which("mc") or shutil.which("mc", path=str(CACHE / "bin"))
NO_MINIO = "there is no minio or no mc on PATH or in bin/ of the cluster's cache (CLUSTER_CACHE)"
KEY, SECRET = "echoplane", "only-for-this-test"
START_S = 120


class Store:
    """A MinIO whose objects lie in `folder`; they outlive `stop` and `start`. It ends with this process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    @property
    def access(self) -> dict[str, str]:
        """Environment variables by which a program reaches the store with all rights."""
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        own = {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_UPDATE": "off"}
        self.process = parent.start(
            [str(BINARY), "server", str(self.folder), "--address", f"127.0.0.1:{self.port}", "--quiet"],
            env=os.environ | own | {"MINIO_PROMETHEUS_AUTH_TYPE": "public"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{self.endpoint}/minio/health/live", timeout=2):  # noqa: S310
                return
            time.sleep(0.1)
        raise AssertionError(f"MinIO did not start within {START_S} s")

    def stop(self) -> None:
        """Kills the server, as a power cut would."""
        parent.stop(self.process, grace_s=0)

    def files(self) -> S3FileSystem:
        """The buckets as a file system, with all rights."""
        address = f"127.0.0.1:{self.port}"
        options = {"endpoint_override": address, "scheme": "http", "allow_bucket_creation": True}
        return S3FileSystem(access_key=KEY, secret_key=SECRET, **options)

    def allow(self, access: str, place: str) -> None:
        """Lets anybody `download` from, `upload` to, or do both (`public`) below a bucket or a prefix in it."""
        user = {"MC_HOST_here": f"http://{KEY}:{SECRET}@127.0.0.1:{self.port}", "MC_CONFIG_DIR": f"{self.folder}-mc"}
        command = [str(MC), "anonymous", "set", access, f"here/{place}"]
        subprocess.run(command, env=os.environ | user, check=True, capture_output=True, timeout=30)

    def requests(self, bucket: str, call: str) -> int:
        """The number of requests of one kind (`GetObject`) for a bucket, counted by the server since it was started."""
        with urllib.request.urlopen(f"{self.endpoint}/minio/metrics/v3/bucket/api/{bucket}", timeout=30) as answer:  # noqa: S310
            text = answer.read().decode()
        found = re.search(rf'^minio_bucket_api_total{{bucket="{bucket}",name="{call}",.*}} (\d+)$', text, re.MULTILINE)
        return int(found[1]) if found else 0
