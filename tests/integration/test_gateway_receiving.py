"""dcmtk sends to the gateway, the process is killed, the disk is full, nothing acknowledged is lost."""

import hashlib
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import pydicom
import pytest

from tests import dicom_files
from tests.gateway_process import acknowledged, gateway, make_study, storescu

pytestmark = pytest.mark.skipif(not shutil.which("storescu"), reason="dcmtk's storescu is not on the PATH")
ASSOCIATIONS = 4


def stored(store: Path) -> dict[str, str]:
    """SHA-256 of the pixel data in the store by SOP Instance UID; each row must have its file, and each file a row."""
    with sqlite3.connect(store / "gateway.db") as db:
        rows = db.execute("SELECT sop_uid, file FROM instances").fetchall()
    assert {file for _, file in rows} == {path.name for path in (store / "instances").iterdir()}
    return {uid: pixels(store / "instances" / file) for uid, file in rows}


def sent(files: list[Path]) -> dict[str, str]:
    return {pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID: pixels(path) for path in files}


def pixels(path: Path) -> str:
    return hashlib.sha256(pydicom.dcmread(path).PixelData).hexdigest()


def test_500_files_in_four_associations_are_stored_exactly_once_though_the_gateway_is_killed(tmp_path: Path) -> None:
    files = make_study(tmp_path / "study", 500, frames=2)
    shares = [files[k::ASSOCIATIONS] for k in range(ASSOCIATIONS)]
    with gateway(tmp_path, quiet_s=3600) as first:
        senders = [storescu(first.port, share) for share in shares]
        while len(list((first.store / "instances").iterdir())) < len(files) // 2:
            time.sleep(0.05)
        first.kill()
        confirmed = [path for sender in senders for path in acknowledged(sender)]
    assert 0 < len(confirmed) < len(files)
    with gateway(tmp_path, quiet_s=3600) as second:
        assert set(sent(confirmed)) <= set(stored(second.store)), "an acknowledged file is lost"
        again = [storescu(second.port, share) for share in shares]
        assert sorted(path for sender in again for path in acknowledged(sender)) == files
        assert stored(second.store) == sent(files)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A disk of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "echoplane-test", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_is_out_of_resources_and_never_acknowledged(tmp_path: Path, small_disk: Path) -> None:
    files = make_study(tmp_path / "study", 16, frames=60)  # 1.1 MB each
    with gateway(tmp_path, store=str(small_disk / "store"), quiet_s=3600) as running:
        sender = storescu(running.port, files, "--no-halt")
        said, _ = sender.communicate(timeout=60)
        assert "Refused: OutOfResources" in said
        kept = stored(running.store)
        assert 0 < len(kept) == said.count("Received Store Response (Success)") < len(files)
        assert not list((running.store / "incoming").iterdir())
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        assert acknowledged(storescu(running.port, files)) == files
        assert stored(running.store) == sent(files)
        assert not any(planted in running.log for planted in dicom_files.PLANTED)
