"""Many small files: memory, time, and the same bytes after kills: `python -m benchmarks.deid_scale 1600 16000`.

Each size runs as the command with one worker. Memory is that of all its processes together, sampled; the peak of the
second half beside that of the first shows whether it grows. The smallest size runs once more, killed at random points.
"""

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from benchmarks.results import CHECKOUT
from tests.interrupting import kill_once
from tests.unit.test_deid_builder import echo, set_native, to_bytes

SEED, KILLS = 1600, 4
SAMPLED_S = 0.1
_MIB = 1 << 20


def write_files(folder: Path, count: int) -> None:
    """Writes `count` MR images of 32 x 32 pixels of 50 patients, equal but for their identity."""
    for number in range(count):
        place = folder / f"patient-{number % 50:02}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:06}.dcm").write_bytes(to_bytes(_image(number)))


def _image(number: int) -> Dataset:
    dataset = echo(
        np.zeros((1, 120, 160, 3), np.uint8),
        SOPClassUID=MRImageStorage,
        Modality="MR",
        PatientID=f"MRN{number % 50:05}",
        StudyInstanceUID=f"1.2.826.0.1.999.1.{number % 50}",
        SOPInstanceUID=f"1.2.826.0.1.999.3.{number}",
    )
    ramp = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint16)
    set_native(dataset, ramp[None], "MONOCHROME2")
    return dataset


def _start(source: Path, target: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "echoplane.cli", "deid", str(source), str(target), "--workers", "1"]
    environment = os.environ | {"ECHOPLANE_DEID_KEY": bytes(range(1, 33)).hex()}
    with log.open("ab") as stream:
        return subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=stream, stderr=stream)


def _memory_mib(run: subprocess.Popen[bytes]) -> float:
    """Returns the resident memory of a process and all that it has started."""
    total = 0
    try:
        for process in [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.Error:  # it has ended in between
        return 0.0
    return total / _MIB


def timed(source: Path, target: Path, log: Path) -> tuple[float, float, float]:
    """Runs to the end; returns the seconds, and the peak of memory in MiB in the first and the second half."""
    started, samples = time.perf_counter(), []
    run = _start(source, target, log)
    while run.poll() is None:
        samples.append(_memory_mib(run))
        time.sleep(SAMPLED_S)
    if run.returncode:
        raise SystemExit(f"the run ended with {run.returncode}: {log.read_text()[-2000:]}")
    half = len(samples) // 2
    return time.perf_counter() - started, max(samples[:half], default=0.0), max(samples[half:], default=0.0)


def killed(source: Path, target: Path, log: Path, count: int, seed: int = SEED) -> int:
    """Kills a run at random points, then lets it end; returns how often it was killed."""
    points = sorted(random.Random(seed).sample(range(1, count), KILLS))  # noqa: S311
    done = 0
    for point in points:
        run = _start(source, target, log)
        try:
            started = kill_once(run, lambda point=point: len(list(target.rglob("dicom/**/*.dcm"))) >= point, log)
        except AssertionError:  # it ended before
            break
        psutil.wait_procs(started, timeout=60)
        done += 1
    timed(source, target, log)
    return done


def digest(target: Path) -> str:
    """Returns a digest of the names and bytes of all results."""
    found = hashlib.sha256()
    for path in sorted((target / "dicom").rglob("*")):
        if path.is_file():
            found.update(path.relative_to(target).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def main() -> None:
    """Prints a line per size, and whether a run that was killed has the same bytes."""
    sizes = sorted(int(size) for size in sys.argv[1:]) or [1600, 16_000]
    for number, size in enumerate(sizes):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_files(folder / "in", size)
            seconds, first, second = timed(folder / "in", folder / "out", folder / "log")
            print(f"{size} files: {seconds:.0f} s, {1000 * seconds / size:.1f} ms per file, "
                  f"peak {first:.0f} MiB in the first half and {second:.0f} MiB in the second", flush=True)  # fmt: skip
            if number == 0:
                kills = killed(folder / "in", folder / "again", folder / "log", size)
                same = digest(folder / "again") == digest(folder / "out")
                print(f"killed {kills} times: {'the same bytes' if same else 'OTHER BYTES'}", flush=True)


if __name__ == "__main__":
    main()
