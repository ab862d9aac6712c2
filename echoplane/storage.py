"""Storage of studies: a folder, or the objects under `s3://BUCKET/PREFIX`, read in the same way.

An object store is configured by AWS_ENDPOINT_URL_S3 or else AWS_ENDPOINT_URL (unset: AWS itself), AWS_REGION,
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Calls are retried while it is unavailable.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from echoplane.errors import ConfigError, StoreUnavailable
from echoplane.files import write_atomically
from echoplane.retry import retry_while_unavailable

BUCKET = "s3://"
REFUSALS = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "InvalidAccessKeyId", "SIGNATURE_DOES_NOT_MATCH")
"""Markers in S3 error messages that mean a retry would change nothing."""
PASSED_OVER = ("DICOMDIR",)
CONNECTION = ("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@dataclass(frozen=True)
class Stored:
    """One file: its name below the root, with `/`; its size in bytes; its modification time in ns since 1970."""

    name: str
    size: int
    changed_ns: int


def listed(place: str) -> list[Stored]:
    """Lists every file below `place`, by name, without hidden files and DICOMDIR. Raises ConfigError if `place` does
    not exist.

    A name that is not UTF-8 is written with backslashes, so that a table can hold it; its content cannot be read.
    """
    found = _listed_bucket(place) if place.startswith(BUCKET) else _listed_folder(Path(place))
    shown = (one for one in found if not any(part.startswith(".") for part in one.name.split("/")))
    return sorted((one for one in shown if one.name.split("/")[-1] not in PASSED_OVER), key=lambda one: one.name)


def content(place: str, name: str) -> bytes:
    """Returns the bytes of one listed file. Raises FileNotFoundError if it no longer exists."""
    if not place.startswith(BUCKET):
        return (Path(place) / name).read_bytes()

    def read() -> bytes:
        with _answering(), _bucket().open_input_stream(f"{_prefix(place)}/{name}", compression=None) as stream:
            return bytes(stream.read())  # as it is: pyarrow would decompress a name that ends in .gz

    return retry_while_unavailable(read)


def write(place: str, name: str, written: bytes) -> None:
    """Writes one file or object below `place`. Raises StoreUnavailable if the store stays away."""
    if not place.startswith(BUCKET):
        write_atomically(Path(place) / name, written)
        return
    prefix = _prefix(place)

    def put() -> None:
        with _answering(), _bucket().open_output_stream(f"{prefix}/{name}") as stream:
            stream.write(written)

    try:
        retry_while_unavailable(put)
    except FileNotFoundError:
        raise ConfigError("there is no such bucket; make it, or check the s3:// address.") from None


def remove(place: str, name: str) -> None:
    """Removes one listed file or object below `place`, if it is still there."""
    if not place.startswith(BUCKET):
        (Path(place) / name).unlink(missing_ok=True)
        return

    def delete() -> None:
        with _answering(), contextlib.suppress(FileNotFoundError):
            _bucket().delete_file(f"{_prefix(place)}/{name}")

    retry_while_unavailable(delete)


def _listed_folder(folder: Path) -> list[Stored]:
    if not folder.is_dir():
        raise ConfigError("the place of the studies is not a folder that can be read.")
    files = [path for path in folder.rglob("*") if path.is_file()]
    stats = [(os.fsencode(path.relative_to(folder)), path.stat()) for path in files]
    return [Stored(name.decode(errors="backslashreplace"), stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _listed_bucket(place: str) -> list[Stored]:
    from pyarrow.fs import FileSelector, FileType

    prefix = _prefix(place)

    def look() -> Any:
        with _answering():
            return _bucket().get_file_info(FileSelector(prefix, recursive=True))

    try:
        infos = retry_while_unavailable(look)
    except FileNotFoundError:
        raise ConfigError("there is no such bucket, or nothing under that prefix; check the s3:// address.") from None
    return [
        Stored(info.path.removeprefix(f"{prefix}/"), info.size, info.mtime_ns)
        for info in infos
        if info.type == FileType.File
    ]


def _prefix(place: str) -> str:
    parts = urlparse(place)
    if not parts.netloc or parts.query or "@" in parts.netloc:
        raise ConfigError("a bucket is given as s3://BUCKET/PREFIX, without credentials or options.")
    return f"{parts.netloc}{parts.path}".rstrip("/")


def _bucket() -> Any:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return _connected(endpoint, *(os.environ.get(name) for name in CONNECTION))


@lru_cache(maxsize=1)
def _connected(endpoint: str | None, region: str | None, key: str | None, secret: str | None, token: str | None) -> Any:
    """Connects to S3. Without keys it connects anonymously, which avoids waiting for a cloud's metadata service."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    parts = urlparse(endpoint or "")
    where = {"endpoint_override": parts.netloc, "scheme": parts.scheme} if parts.netloc else {}
    return S3FileSystem(
        access_key=key,
        secret_key=secret,
        session_token=token,
        anonymous=key is None,
        region=region or "us-east-1",
        connect_timeout=5,
        request_timeout=60,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=2),
        **where,
    )


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Turns pyarrow's exceptions into echoplane errors, which name neither address nor object."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if "NO_SUCH_BUCKET" in str(error):
            raise FileNotFoundError from None
        if any(refusal in str(error) for refusal in REFUSALS):
            raise ConfigError(
                "the object store refuses: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may read."
            ) from None
        raise StoreUnavailable("the object store does not answer; is AWS_ENDPOINT_URL right?") from error
