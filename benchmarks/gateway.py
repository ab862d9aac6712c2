"""Speed of the DICOM gateway against a bare pynetdicom receiver, which writes files without flushing them to disk.

`python -m benchmarks.gateway` needs dcmtk's storescu. Both receivers are processes of their own and get the same files
in four associations, in turns, so that what else the machine does falls on both alike.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.results import record
from tests.gateway_process import START_S, acknowledged, gateway, make_study, storescu
from tests.serving_process import free_port

FILES, ASSOCIATIONS, ROUNDS = 80, 4, 3
FRAMES = 135
"""Frames of 120 x 160 pixels: 2.6 MB per file, as a compressed clip of an ultrasound machine has."""
BARE = """
import sys, pathlib
from pynetdicom import AE, AllStoragePresentationContexts, evt

def store(event):
    path = pathlib.Path(sys.argv[2]) / str(event.request.AffectedSOPInstanceUID)
    path.write_bytes(event.encoded_dataset())
    return 0

entity = AE(ae_title="ECHOPLANE")
entity.maximum_pdu_size = 128 * 1024
entity.supported_contexts = AllStoragePresentationContexts
entity.add_supported_context("1.2.840.10008.1.1")  # C-ECHO
entity.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, store)])
"""


def measure() -> None:
    """Records files per second of both receivers, and their ratio in the same run."""
    with tempfile.TemporaryDirectory() as folder:
        figures = _figures(Path(folder))
    record(
        "gateway",
        "Speed of the DICOM gateway",
        figures,
        machine.conditions("python -m benchmarks.gateway", None),
        f"{FILES} files of 2.6 MB from dcmtk's storescu in {ASSOCIATIONS} associations; medians of {ROUNDS} rounds, "
        "the receivers in turns. The gateway flushes each file, its folder entry and a database row to disk before it "
        "acknowledges; the bare receiver flushes nothing.",
    )


def _figures(folder: Path) -> list[dict[str, str]]:
    gateway_s, bare_s = list[float](), list[float]()
    for turn in range(ROUNDS):
        files = make_study(folder / f"study-{turn}", FILES, FRAMES)
        bare_s.append(_bare(folder / f"bare-{turn}", files))
        (folder / f"own-{turn}").mkdir()
        with gateway(folder / f"own-{turn}", quiet_s=3600) as running:
            gateway_s.append(_send(running.port, files))
    own, bare = FILES / statistics.median(gateway_s), FILES / statistics.median(bare_s)
    ratio = statistics.median(bare / own for own, bare in zip(gateway_s, bare_s, strict=True))
    return [
        {"figure": "gateway, files per second", "value": f"{own:.1f}", "expected": "at least 15"},
        {"figure": "bare receiver, files per second", "value": f"{bare:.1f}"},
        {"figure": "gateway's speed as a share of the bare receiver's", "value": f"{ratio:.2f}"},
    ]


def _bare(folder: Path, files: Sequence[Path]) -> float:
    folder.mkdir()
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", BARE, str(port), str(folder)])
    try:
        deadline = time.monotonic() + START_S
        while not _answers(port):
            if time.monotonic() > deadline:
                raise SystemExit("the bare receiver did not start")
            time.sleep(0.1)
        return _send(port, files)
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    command = ["echoscu", "-aec", "ECHOPLANE", "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _send(port: int, files: Sequence[Path]) -> float:
    """Returns the seconds until every file is acknowledged."""
    begin = time.perf_counter()
    senders = [storescu(port, files[k::ASSOCIATIONS]) for k in range(ASSOCIATIONS)]
    confirmed = sum(len(acknowledged(sender)) for sender in senders)
    if confirmed != len(files):
        raise SystemExit(f"{confirmed} of {len(files)} files were acknowledged; see the receiver's output.")
    return time.perf_counter() - begin


if __name__ == "__main__":
    argparse.ArgumentParser("python -m benchmarks.gateway", description=measure.__doc__).parse_args()
    measure()
