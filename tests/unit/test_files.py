"""Files are written whole or not at all."""

import hashlib
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from echoplane.files import file_sha256, replacing, write_atomically


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError), replacing(tmp_path / "a") as file:
        fail(file)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_secret_is_never_readable_by_others(tmp_path: Path) -> None:
    with replacing(tmp_path / "folder" / "key", mode=0o600) as file:
        (partial,) = (tmp_path / "folder").iterdir()
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
        file.write(b"secret")
    assert stat.S_IMODE((tmp_path / "folder" / "key").stat().st_mode) == 0o600


def test_the_digest_of_a_file_is_that_of_its_content(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"x" * 3_000_000)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
