"""Debian's Orthanc as a peer: unpacked under build/peers, its database a temporary folder.

Version 1.10 listens on every address whatever its settings say, and only then turns other hosts away. So it runs in
a network namespace of its own, where there is nothing but a loopback, and refuses to start anywhere else.
"""

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from echoplane.adapters.local_mlflow import free_port

START_S, STOP_S, ANSWER_S, FETCH_S, RUN_S = 30, 10, 60, 180, 150
_SET_FLAGS, _UP, _RUNNING = 0x8914, 0x1, 0x40
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu")


def run(source: Path, target: Path, folder: Path) -> float | None:
    """Anonymise as `POST /instances/ID/anonymize {}` does; seconds, or None where it can't be had or refuses."""
    program = folder / "root" / "usr" / "sbin" / "Orthanc"
    if not shutil.which("unshare") or not (program.exists() or _unpack(folder)):
        return None
    alone = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-m", "benchmarks.deid_orthanc"]
    checkout = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [*alone, source, target, folder], cwd=checkout, capture_output=True, text=True, timeout=RUN_S, check=False
    )
    if done.returncode or not target.exists():
        sys.stderr.write(f"orthanc: {done.stderr.strip().splitlines()[-1:]}\n")
        return None
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def main(source: Path, target: Path, folder: Path) -> float:
    """What `run` starts inside the namespace: seconds."""
    _only_loopback()
    root = folder / "root"
    with tempfile.TemporaryDirectory() as name, _server(root / "usr/sbin/Orthanc", root, Path(name)) as address:
        if address is None:
            raise SystemExit("Orthanc did not come up")
        start = time.perf_counter()
        stored = json.loads(_post(f"{address}/instances", source.read_bytes()))
        target.write_bytes(_post(f"{address}/instances/{stored['ID']}/anonymize", b"{}"))
        return time.perf_counter() - start


def _only_loopback() -> None:
    """Refuse a namespace with any other interface, and bring the loopback up (netdevice(7))."""
    others = [name for _, name in socket.if_nameindex() if name != "lo"]
    if others:
        raise SystemExit(
            f"Orthanc would listen on {', '.join(others)}; it runs in a network namespace of its own alone"
        )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP | _RUNNING))


def _unpack(folder: Path) -> bool:
    """Fetch the package with what it needs here, and unpack it beside; nothing of the system changes."""
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    if not shutil.which("apt-get"):
        return False
    fetch = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "--download-only"]
    fetch += ["-o", f"Dir::Cache::archives={archives}", "orthanc"]
    try:
        subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True, timeout=FETCH_S)
        subprocess.run(fetch, check=True, capture_output=True, timeout=FETCH_S)
        for archive in archives.glob("*.deb"):
            subprocess.run(["dpkg", "-x", archive, folder / "root"], check=True, capture_output=True)
    except (subprocess.SubprocessError, OSError):
        return False
    return True


@contextmanager
def _server(program: Path, root: Path, folder: Path) -> Iterator[str | None]:
    """Its address while it runs, or None where it does not come up."""
    port = free_port()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "DicomServerEnabled": False,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    libraries = os.pathsep.join(str(root / part) for part in _LIBRARIES)
    process = subprocess.Popen(
        [program, folder / "orthanc.json"],
        env=os.environ | {"LD_LIBRARY_PATH": libraries, "DCMDICTPATH": str(root / "usr/share/libdcmtk17/dicom.dic")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        yield address if _answers(address, process) else None
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(address: str, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/system", timeout=ANSWER_S):  # noqa: S310 - our own loopback
                return True
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    return False


def _post(url: str, content: bytes) -> bytes:
    request = urllib.request.Request(url, content, method="POST")  # noqa: S310 - our own loopback
    with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
        return bytes(answer.read())


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:]))))
