"""A real MinIO for each test that asks for it, reached by the environment as a program reaches it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.minio_process import BINARY, MC, NO_MINIO, Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store with the bucket `studies` and three objects in it."""
    if not (BINARY and MC):
        pytest.skip(NO_MINIO)
    found = Store(tmp_path / "minio")
    for name, value in found.access.items():
        monkeypatch.setenv(name, value)
    found.start()
    files = found.files()
    files.create_dir("studies")
    for name in ("day 1/b.dcm", "day 1/a.dcm", "DICOMDIR"):
        with files.open_output_stream(f"studies/in/{name}") as stream:
            stream.write(name.encode())
    yield found
    found.stop()
