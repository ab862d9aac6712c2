"""`infra/restore` refuses a damaged backup before it changes anything, and brings back a whole one."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

RESTORE = Path(__file__).resolve().parents[2] / "infra" / "restore"
KUBECTL = """#!/bin/sh
echo "$@" >>"$CALLS"
case "$*" in
*"get secret echoplane-$PRESENT "*"-o name") echo "secret/echoplane-$PRESENT" ;;
*"get secret echoplane-$PRESENT "*) printf %s "$CONTENT" ;;
esac
"""


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    folder = tmp_path / "backup"
    folder.mkdir()
    (folder / "mlflow.tar").write_bytes(b"an archive")
    (folder / "deid-key").write_text("ab" * 32)
    write_sums(folder, "mlflow.tar", "deid-key")
    return folder


def write_sums(folder: Path, *names: str) -> None:
    """Writes the digests of these files as `sha256sum` does."""
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def restore(folder: Path, present: str = "nothing", content: str = "") -> tuple[subprocess.CompletedProcess[str], str]:
    """Returns the outcome, and what kubectl was called with. The namespace has no Secret but that of key `present`."""
    programs, calls = folder.parent / "bin", folder.parent / "calls"
    programs.mkdir(exist_ok=True)
    (programs / "kubectl").write_text(KUBECTL)
    (programs / "kubectl").chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(calls)}
    environment |= {"PRESENT": present, "CONTENT": content}
    command = ["bash", str(RESTORE), "heart", str(folder)]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return outcome, calls.read_text() if calls.exists() else ""


def test_a_whole_backup_is_restored(backup: Path) -> None:
    outcome, calls = restore(backup)
    assert outcome.returncode == 0, outcome.stderr
    assert "rollout restart deploy/echoplane-mlflow" in calls


def test_both_keys_are_made_again(backup: Path) -> None:
    (backup / "signing-key").write_text("a private key\n")
    write_sums(backup, "mlflow.tar", "deid-key", "signing-key")
    outcome, calls = restore(backup)
    assert outcome.returncode == 0, outcome.stderr
    for key in ("deid-key", "signing-key"):
        assert f"create secret generic echoplane-{key} --from-file=key={backup}/{key}" in calls


@pytest.mark.parametrize("key", ["deid-key", "signing-key"])
def test_another_key_in_the_namespace_ends_it_before_anything_changes(backup: Path, key: str) -> None:
    (backup / key).write_text("the saved key")
    write_sums(backup, "mlflow.tar", *{"deid-key", key})
    outcome, calls = restore(backup, key, "another key")
    assert outcome.returncode == 1
    assert "Nothing was restored" in outcome.stderr
    assert "create" not in calls
    assert "exec" not in calls
    assert restore(backup, key, "the saved key")[0].returncode == 0


def test_s16_a_file_that_the_digests_leave_out_is_refused(backup: Path) -> None:
    (backup / "deid-key").write_text("cd" * 32)
    write_sums(backup, "mlflow.tar")
    outcome, calls = restore(backup)
    assert outcome.returncode == 1
    assert "does not list exactly the files" in outcome.stderr
    assert "deid-key" in outcome.stderr
    assert calls == ""


@pytest.mark.parametrize("listed", [(), ("mlflow.tar", "deid-key", "deid-key")])
def test_s16_digests_that_list_nothing_or_a_file_twice_are_refused(backup: Path, listed: tuple[str, ...]) -> None:
    write_sums(backup, *listed)
    outcome, calls = restore(backup)
    assert outcome.returncode == 1
    assert calls == ""


def test_s16_a_folder_or_a_link_beside_the_files_is_refused(backup: Path) -> None:
    (backup / "more").mkdir()
    assert restore(backup)[0].returncode == 1
    (backup / "more").rmdir()
    (backup / "more").symlink_to("mlflow.tar")
    outcome, calls = restore(backup)
    assert outcome.returncode == 1
    assert calls == ""


def test_a_changed_file_is_refused(backup: Path) -> None:
    (backup / "mlflow.tar").write_bytes(b"another archive")
    outcome, calls = restore(backup)
    assert outcome.returncode == 1
    assert calls == ""
