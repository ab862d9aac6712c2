"""Where studies lie: a folder, or the objects under `s3://BUCKET/PREFIX`, read alike.

An object store is reached by AWS_ENDPOINT_URL (left out: AWS itself), AWS_REGION, AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY. While it is away, calls are tried again for AWAY_S: a store that restarts stops no run.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlparse

from tenacity import retry as tried_again
from tenacity import retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from echoplane.errors import ConfigError, StageError

AWAY_S = 180.0
BUCKET = "s3://"
REFUSALS = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "InvalidAccessKeyId", "SIGNATURE_DOES_NOT_MATCH")
"""In the messages of S3's errors: asking again would change nothing."""
PASSED_OVER = ("DICOMDIR",)

Answer = TypeVar("Answer")


class StoreAway(StageError):
    """The object store does not answer, or only with an error of its own."""


@dataclass(frozen=True)
class Stored:
    """One file: its name below the place, with `/`; its size in bytes; when it changed, in ns since 1970."""

    name: str
    size: int
    changed_ns: int


def listed(place: str) -> list[Stored]:
    """Every file below `place`, by name; hidden files and DICOMDIR are left out. ConfigError where it is no place."""
    found = _listed_bucket(place) if place.startswith(BUCKET) else _listed_folder(Path(place))
    shown = (one for one in found if not any(part.startswith(".") for part in one.name.split("/")))
    return sorted((one for one in shown if one.name.split("/")[-1] not in PASSED_OVER), key=lambda one: one.name)


def content(place: str, name: str) -> bytes:
    """The bytes of one listed file; FileNotFoundError where it is gone."""
    if not place.startswith(BUCKET):
        return (Path(place) / name).read_bytes()

    def read() -> bytes:
        with _bucket().open_input_stream(f"{_prefix(place)}/{name}") as stream:
            return bytes(stream.read())

    return _patiently(read)


def _listed_folder(folder: Path) -> list[Stored]:
    if not folder.is_dir():
        raise ConfigError("the place of the studies is not a folder that can be read.")
    files = [path for path in folder.rglob("*") if path.is_file()]
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    return [Stored(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _listed_bucket(place: str) -> list[Stored]:
    from pyarrow.fs import FileSelector, FileType

    prefix = _prefix(place)
    try:
        infos = _patiently(lambda: _bucket().get_file_info(FileSelector(prefix, recursive=True)))
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
    """S3 by the environment. Without a set of keys it is asked anonymously: a wait for a cloud's metadata is no use."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    endpoint = urlparse(os.environ.get("AWS_ENDPOINT_URL", ""))
    where = {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme} if endpoint.netloc else {}
    return S3FileSystem(
        access_key=os.environ.get("AWS_ACCESS_KEY_ID"),
        secret_key=os.environ.get("AWS_SECRET_ACCESS_KEY"),
        session_token=os.environ.get("AWS_SESSION_TOKEN"),
        anonymous="AWS_ACCESS_KEY_ID" not in os.environ,
        region=os.environ.get("AWS_REGION", "us-east-1"),
        connect_timeout=5,
        request_timeout=60,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=2),
        **where,
    )


def _patiently(ask: Callable[[], Answer]) -> Answer:
    """What `ask` answers, tried again while the store is away; an error of ours names neither address nor object."""

    @tried_again(
        retry=retry_if_exception_type(StoreAway),
        wait=wait_exponential_jitter(initial=0.5, max=10),
        stop=stop_after_delay(AWAY_S),
        reraise=True,
    )
    def asked() -> Answer:
        try:
            return ask()
        except FileNotFoundError:
            raise
        except OSError as error:
            if "NO_SUCH_BUCKET" in str(error):
                raise FileNotFoundError from None
            if any(refusal in str(error) for refusal in REFUSALS):
                raise ConfigError(
                    "the object store refuses: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may read."
                ) from None
            raise StoreAway(
                f"the object store has not answered for {AWAY_S:.0f} s; is AWS_ENDPOINT_URL right?"
            ) from error

    return asked()
