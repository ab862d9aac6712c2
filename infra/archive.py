"""Inside of the MLflow pod: its database and its artifacts as a tar on stdout (`out`), or back from stdin (`in`).

`infra/backup` and `infra/restore` run it. The database goes first: what is written meanwhile can only be artifacts that
no row names yet. Only SQLite is copied; a PostgreSQL server is dumped by pg_dump."""

import contextlib
import os
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import urlparse

DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
SQLITE = "sqlite:///"


def out(stream: IO[bytes]) -> None:
    with tarfile.open(fileobj=stream, mode="w|") as tar:
        if database := _database():
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / DATABASE
                _copy(database, copy)
                tar.add(copy, DATABASE)
        for name, file in _artifacts():
            info = tarfile.TarInfo(f"{ARTIFACTS}/{name}")
            info.size = file.seek(0, os.SEEK_END)
            file.seek(0)
            tar.addfile(info, file)


def into(stream: IO[bytes]) -> None:
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is None:
                continue
            if member.name == DATABASE:
                _put_database(content)
            else:
                _put_artifact(member.name.removeprefix(f"{ARTIFACTS}/"), content)


def _database() -> Path | None:
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    if uri.startswith(SQLITE):
        return Path(uri.removeprefix(SQLITE))
    sys.stderr.write("the database is not SQLite: dump and restore it by the server's own tools, pg_dump for one.\n")
    return None


def _copy(database: Path, copy: Path) -> None:
    """SQLite's own way of copying a database that is being written to; the copy is checked."""
    with (
        contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        (said,) = target.execute("PRAGMA integrity_check").fetchone()
    if said != "ok":
        raise SystemExit(f"the database is damaged: {said}")


def _put_database(content: IO[bytes]) -> None:
    """In place of the one that is there. The server that runs keeps the old one open: restart it."""
    if (database := _database()) is None:
        return
    with tempfile.TemporaryDirectory(dir=database.parent) as folder:
        arrived, checked = Path(folder) / "arrived", Path(folder) / "checked"
        with arrived.open("wb") as file:
            shutil.copyfileobj(content, file)
        _copy(arrived, checked)
        for beside in ("-wal", "-shm", "-journal"):
            database.with_name(database.name + beside).unlink(missing_ok=True)
        checked.replace(database)


def _place() -> tuple[str, str]:
    """Bucket and prefix of the artifacts; no bucket where they lie in a folder."""
    parts = urlparse(os.environ["MLFLOW_ARTIFACTS_DESTINATION"])
    return (parts.netloc, parts.path.strip("/")) if parts.scheme == "s3" else ("", parts.path)


def _artifacts() -> Iterator[tuple[str, IO[bytes]]]:
    bucket, place = _place()
    if not bucket:
        for path in sorted(Path(place).rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    yield path.relative_to(place).as_posix(), file
        return
    import boto3

    client = boto3.client("s3")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{place}/"):
        for one in page.get("Contents", []):
            with tempfile.TemporaryFile() as file:
                client.download_fileobj(bucket, one["Key"], file)
                yield one["Key"].removeprefix(f"{place}/"), file


def _put_artifact(name: str, content: IO[bytes]) -> None:
    bucket, place = _place()
    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(content, file)
        file.seek(0)
        if bucket:
            import boto3

            boto3.client("s3").upload_fileobj(file, bucket, f"{place}/{name}")
            return
        path = Path(place, name).resolve()
        if not path.is_relative_to(Path(place).resolve()):
            raise SystemExit(f"the archive names a file outside of the artifacts: {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            shutil.copyfileobj(file, target)


if __name__ == "__main__":
    out(sys.stdout.buffer) if sys.argv[1] == "out" else into(sys.stdin.buffer)
