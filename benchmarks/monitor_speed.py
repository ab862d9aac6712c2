"""Time and memory that the monitor needs to catch up with a long prediction log.

python -m benchmarks monitor-speed                     # 1,000,000 rows, minutes
python -m benchmarks.monitor_speed --rows 100000

The log is written to build/bench/monitor and removed afterwards. The monitor runs in a process of its own, whose
largest memory is measured; reading and checking the rows alone is measured beside it.
"""

import argparse
import multiprocessing
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, results
from echoplane.monitoring.log_reader import read_step
from echoplane.monitoring.model_monitor import Monitors
from echoplane.monitoring.prediction_log import Row, packed
from echoplane.monitoring.reference import Reference, reference_of
from echoplane.tasks import BUILT_IN

FOLDER = results.MEASURED / "monitor"
LABELS = tuple(f"view {number}" for number in range(12))
FEATURES = ("brightness", "contrast", "sharpness", "dark", "motion", "frames", "rows", "columns", "frame_time_ms")
SITES = ("lakeside", "harbour", "hillside")
SCANNERS = (("PHILIPS", "EPIQ 7C"), ("PHILIPS", "CX50"), ("GE", "VIVID E95"))
EMBEDDING = 128
DISTINCT = 20_000
"""Rows that are drawn; a longer log holds them again with other request ids and times."""
ROWS_PER_FILE = 60_000
ROWS = 1_000_000
START = datetime(2026, 11, 1, tzinfo=UTC)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.monitor_speed", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows of the log. Default {ROWS}")
    measure(parser.parse_args().rows)


def measure(count: int = ROWS) -> None:
    """Writes a log of `count` rows, lets a new monitor read it, and records the figures."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    try:
        write_log(FOLDER / "log", count)
        read, whole = _in_process(_read), _in_process(_watch)
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
    if not read["studies"] == whole["studies"] == count:
        raise SystemExit(f"{read['studies']} rows were read and {whole['studies']} watched, of {count}.")
    figures = [
        {"figure": f"{count:,} rows, s", "value": f"{whole['seconds']:.0f}", "expected": "at most 60 for 1,000,000"},
        {"figure": "the same, processor time, s", "value": f"{whole['processor_s']:.0f}"},
        {"figure": "the same, largest memory, MiB", "value": f"{whole['mib']:.0f}", "expected": "at most 1,024"},
        {"figure": "reading and checking the rows alone, s", "value": f"{read['seconds']:.0f}"},
        {"figure": "as many times as long", "value": f"{whole['seconds'] / read['seconds']:.1f}"},
        {"figure": "processor load of other programs at the start and the end", "value": f"{whole['load']}"},
    ]
    print(*(f"{one['figure']}: {one['value']}" for one in figures), sep="\n")
    text = (
        f"A new monitor reads the log of one model in service: {len(FEATURES) + 2} streams, three sites, two "
        f"manufacturers, three models, embeddings of {EMBEDDING} numbers. Its state is stored after every 32 MiB."
    )
    command = f"python -m benchmarks.monitor_speed --rows {count}"
    results.record("monitor-speed", "Drift: catching up with a log", figures, machine.conditions(command, 0), text)


def write_log(folder: Path, count: int) -> None:
    """Writes `count` rows without drift to files below `folder`."""
    folder.mkdir(parents=True)
    marks = [(row.request_id, row.time, row.model_dump_json()) for row in _rows(min(count, DISTINCT))]
    for first in range(0, count, ROWS_PER_FILE):
        lines = []
        for number in range(first, min(first + ROWS_PER_FILE, count)):
            request_id, at, line = marks[number % len(marks)]
            later = (START + timedelta(seconds=number)).isoformat().replace("+00:00", "Z")
            line = line.replace(at.isoformat().replace("+00:00", "Z"), later, 1)
            lines.append(line.replace(request_id, f"{number:016x}", 1) + "\n")
        (folder / f"predictions-{first:09d}.jsonl").write_text("".join(lines))


def _rows(count: int) -> list[Row]:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        probabilities = rng.dirichlet(np.full(len(LABELS), 0.2))
        manufacturer, model = SCANNERS[rng.integers(len(SCANNERS))]
        rows.append(
            Row(
                time=START + timedelta(seconds=number),
                request_id=f"{number:016x}",
                task=BUILT_IN[0],
                model_version="3",
                bundle="b" * 64,
                site=SITES[rng.integers(len(SITES))],
                manufacturer=manufacturer,
                device_model=model,
                label=LABELS[int(probabilities.argmax())],
                confidence=round(float(probabilities.max()), 4),
                probabilities=tuple(probabilities.round(4).tolist()),
                features=dict(zip(FEATURES, rng.normal(size=len(FEATURES)).round(4).tolist(), strict=True)),
                embedding=packed(rng.normal(size=EMBEDDING)),
                timings_ms={"decode": 3.1, "infer": 9.2, "total": 12.6},
                warnings=0,
            )
        )
    return rows


def _reference() -> Reference:
    rng = np.random.default_rng(1)
    features = {name: rng.normal(size=1_000).round(4).tolist() for name in FEATURES}
    confidence = rng.dirichlet(np.full(len(LABELS), 0.2), 1_000).max(axis=1).round(4).tolist()
    return reference_of(confidence, rng.choice(LABELS, 1_000).tolist(), features, rng.normal(size=(1_000, EMBEDDING)))


def _in_process(work: Any) -> dict[str, Any]:
    """Returns what `work` measures in a process that nothing else has run in."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return dict(pool.apply(work))


def _read() -> dict[str, Any]:
    started, positions, count, more = time.perf_counter(), {}, 0, True
    while more:
        step = read_step(str(FOLDER / "log"), positions)
        positions, more, count = step.positions, step.more, count + len(step.rows)
    return {"seconds": time.perf_counter() - started, "studies": count}


def _watch() -> dict[str, Any]:
    reference, load = _reference(), machine_load()
    started, processor_s = time.perf_counter(), time.process_time()
    watched = Monitors(FOLDER / "state", str(FOLDER / "log"), lambda _: reference)
    while watched.step().more:
        pass
    seconds, processor_s = time.perf_counter() - started, time.process_time() - processor_s
    studies = watched.current()[0].studies
    watched.close()
    return {
        "seconds": seconds,
        "processor_s": processor_s,
        "mib": _largest_mib(),
        "studies": studies,
        "load": f"{load}, {machine_load()}",
    }


def _largest_mib() -> float:
    """Returns the largest memory of this process; that of `getrusage` may be that of the process that started it."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def machine_load() -> str:
    """Returns the load average of the last minute."""
    return Path("/proc/loadavg").read_text().split()[0]


if __name__ == "__main__":
    main()
