"""Ships the prediction log and feedback to an object store; the only module that imports its client.

A finished file becomes one compressed object under PREFIX/date=YYYY-MM-DD/ and is removed once the store has it. The
name stays the same, so a file that is shipped twice after a crash is one object. While the store is unavailable files
wait in the folder, which has a size limit of its own.
"""

import gzip
import io
import logging
import os
import re
import socket
import threading
from pathlib import Path
from urllib.parse import urlparse

import psutil
import urllib3
from minio import Minio
from minio.error import MinioException

from echoplane.errors import ConfigError
from echoplane.monitoring.feedback import FEEDBACK_SUFFIX
from echoplane.monitoring.prediction_log import SUFFIX, PredictionLog

SHIP_S = 30.0
"""Interval in seconds at which finished files are shipped, and time after which a file is finished."""
NAME = re.compile(rf"predictions-(\d{{4}})(\d\d)(\d\d)T\d+-(\d+){re.escape(SUFFIX)}$")

log = logging.getLogger(__name__)


class LogShipper:
    """Ships what `predictions` and the processes before it wrote to `address`, s3://BUCKET/PREFIX.

    The store is configured as in `echoplane.storage`. Raises ConfigError if the address or the configuration is wrong.
    """

    def __init__(self, predictions: PredictionLog, address: str) -> None:
        parts = urlparse(address)
        if parts.scheme != "s3" or not parts.netloc or parts.query or "@" in parts.netloc:
            raise ConfigError("the prediction log is shipped to s3://BUCKET/PREFIX, without credentials or options.")
        self._log, self._bucket, self._prefix = predictions, parts.netloc, parts.path.strip("/")
        self._client, self._host = _client(), re.sub(r"[^\w-]", "-", socket.gethostname())
        self._feedback_sizes: dict[str, int] = {}
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-shipper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ships what is left, once the log is closed."""
        self._stop.set()
        self._thread.join()
        self.step(everything=True)

    def _run(self) -> None:
        while not self._stop.wait(SHIP_S):
            self.step()

    def step(self, *, everything: bool = False) -> None:
        """Ships finished files; `everything` includes the one that is open. An error is logged once, and the next step
        tries again."""
        try:
            for path in sorted(self._log.folder.glob(f"*{SUFFIX}")):
                if (everything and path == self._log.path) or self._is_finished(path):
                    self._ship(path)
            for path in self._log.folder.glob(f"*{FEEDBACK_SUFFIX}"):
                self._ship_feedback(path)
            self._failing = False
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            if not self._failing:
                log.warning("the prediction log can't be shipped (%s); files wait in the folder.", type(error).__name__)
            self._failing = True

    def _is_finished(self, path: Path) -> bool:
        name = NAME.match(path.name)
        if name is None or path == self._log.path:
            return False
        pid = int(name[4])
        return pid == os.getpid() or not _is_writer(pid, path)

    def _ship(self, path: Path) -> None:
        year, month, day, _ = NAME.match(path.name).groups()  # type: ignore[union-attr]
        content = path.read_bytes()
        if content:
            compressed = gzip.compress(content, mtime=0)  # the same bytes if it is shipped again
            self._put(f"date={year}-{month}-{day}/{self._host}-{path.name}.gz", compressed)
        path.unlink()

    def _ship_feedback(self, path: Path) -> None:
        """Ships a feedback file whole whenever it has grown; it is small, and its process may write on."""
        size = path.stat().st_size
        if size and size != self._feedback_sizes.get(path.name):
            self._put(f"feedback/{self._host}-{path.name}", path.read_bytes())
            self._feedback_sizes[path.name] = size

    def _put(self, name: str, content: bytes) -> None:
        key = f"{self._prefix}/{name}".strip("/")
        self._client.put_object(
            bucket_name=self._bucket, object_name=key, data=io.BytesIO(content), length=len(content)
        )


def _is_writer(pid: int, path: Path) -> bool:
    """Returns True if process `pid` may write to `path`: it runs, and began before the file's last change."""
    try:
        return psutil.Process(pid).create_time() <= path.stat().st_mtime
    except psutil.Error:
        return False


def _client() -> Minio:
    endpoint = urlparse(
        os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "https://s3.amazonaws.com"
    )
    if endpoint.scheme not in ("http", "https") or not endpoint.netloc:
        raise ConfigError("AWS_ENDPOINT_URL must begin with http:// or https://, and name a host.")
    timeout = urllib3.Timeout(connect=5, read=60)
    return Minio(
        endpoint=endpoint.netloc,
        access_key=os.environ.get("AWS_ACCESS_KEY_ID"),
        secret_key=os.environ.get("AWS_SECRET_ACCESS_KEY"),
        session_token=os.environ.get("AWS_SESSION_TOKEN"),
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        secure=endpoint.scheme == "https",
        http_client=urllib3.PoolManager(timeout=timeout, retries=False),
    )
