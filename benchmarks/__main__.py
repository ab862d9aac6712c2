"""Measure every figure of docs/results.md again and rewrite the page: `make bench`.

python -m benchmarks                 # all of them
python -m benchmarks leakage         # one, then the page
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    accuracy_estimate,
    active_learning,
    cmr_speed,
    cmr_travel,
    deid,
    deid_masks,
    drift_false_alarms,
    edge_fleet,
    edge_processes,
    gateway,
    hostile,
    interruption,
    leakage,
    machine,
    monitor_speed,
    results,
    serving,
    views_controls,
    views_outside,
    views_speed,
)

DEMO = results.CHECKOUT / "build" / "demo"


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure the figures of docs/results.md.")
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], help="which; all where none is named")
    names = parser.parse_args().names or list(BENCHMARKS)
    for name in names:
        print(f"{name} ...", flush=True)
        BENCHMARKS[name]()
    measured = [name for name in BENCHMARKS if (results.MEASURED / f"{name}.json").exists()]
    results.write_page(measured)
    print(f"{results.PAGE} holds {', '.join(measured)}")
    return 0


def _demo() -> None:
    """The main job from nothing, as a new user runs it."""
    shutil.rmtree(DEMO, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "demo"], check=True)
    report = _report()
    low, high = report["accuracy_low"], report["accuracy_high"]
    figures = [
        {"figure": "seconds, all stages", "value": f"{report['seconds']:.0f}", "expected": "at most 300"},
        {"figure": "unseen patients, clips", "value": f"{report['n_test_patients']}, {report['n_test_clips']}"},
        {
            "figure": "accuracy, 95 % interval, patients resampled",
            "value": f"{report['accuracy']:.3f} ({low:.3f} to {high:.3f})",
            "expected": "at least 0.95, lower bound at least 0.90",
        },
        {
            "figure": "largest difference between a served and an evaluated probability",
            "value": f"{report['skew_max']:.0e}",
            "expected": "at most 1e-6",
        },
    ]
    figures += [{"figure": f"{s['name']}, s", "value": f"{s['seconds']:.0f}"} for s in report["stages"]]
    text = "The main job on synthetic patients, from nothing, as `make demo` runs it."
    results.record("demo", "The main job", figures, machine.conditions("make demo", 1), text)


def _report() -> dict[str, Any]:
    path = DEMO / "report.json"
    if not path.exists():
        raise SystemExit("run `make demo` first, or all of `make bench`: this benchmark uses the demo's model.")
    return json.loads(path.read_text())


def _steps() -> dict[str, Any]:
    from pipelines.local import manifests

    return manifests(DEMO / "work")


BENCHMARKS: dict[str, Callable[[], None]] = {
    "demo": _demo,
    "deid": deid.measure,
    "deid-masks": deid_masks.measure,
    "leakage": lambda: leakage.measure(DEMO / "work", _steps()),
    "interruption": lambda: interruption.measure(_report(), Path(results.CHECKOUT / "build" / "interrupted")),
    "serving": lambda: serving.measure(_steps()["export"].path, _report()),
    "cmr-speed": cmr_speed.measure,
    "cmr-travel": cmr_travel.measure,
    "gateway": gateway.measure,
    "edge-fleet": edge_fleet.measure,
    "edge-processes": edge_processes.measure,
    "hostile": hostile.measure,
    "drift-false-alarms": drift_false_alarms.measure,
    "monitor-speed": monitor_speed.measure,
    "accuracy-estimate": accuracy_estimate.measure,
    "active-learning": active_learning.measure,
    "views-speed": views_speed.measure,
    "views-outside": views_outside.measure,
    "views-controls": views_controls.measure,
}

if __name__ == "__main__":
    sys.exit(main())
