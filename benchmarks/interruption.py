"""The demo killed at five random points and started again, against the same demo left alone.

Each point is a stage drawn without repetition and a moment within it; every run but the last is killed (SIGKILL) there.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.results import record

SEED, KILLS = 1, 5
LONGEST_S = {"phantom": 20, "deid": 10, "dataset": 2, "train": 50, "export": 4, "evaluate": 3, "promote": 2, "serve": 2}
"""The latest moment, in seconds from a stage's start, at which it is killed: about half its length."""
STARTED = re.compile(r"\] (\w+)$")
DEMO = "import sys, pathlib; from demo.run import run; run(pathlib.Path(sys.argv[1]))"
SAME = ("data_digest", "split_id", "steps", "n_test_clips")


def measure(undisturbed: dict[str, Any], folder: Path) -> None:
    """Kill and resume a demo in `folder`; `undisturbed` is the report of one that nobody touched."""
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(SEED)
    stages = sorted(rng.choice(list(LONGEST_S), KILLS, replace=False), key=list(LONGEST_S).index)
    killed = [_killed_at(str(stage), rng.uniform(0, LONGEST_S[stage]), folder) for stage in stages]
    subprocess.run([sys.executable, "-c", DEMO, str(folder)], check=True, stdout=subprocess.DEVNULL)
    resumed = json.loads((folder / "report.json").read_text())
    low, high = undisturbed["accuracy_low"], undisturbed["accuracy_high"]
    figures = [
        {"figure": f"killed {moment_s:.0f} s into", "value": stage, "expected": ""} for stage, moment_s in killed
    ]
    figures += [
        {"figure": f"same {name}", "value": resumed[name] == undisturbed[name], "expected": True} for name in SAME
    ]
    accuracy = {"figure": "accuracy", "value": f"{resumed['accuracy']:.3f}", "expected": f"{low:.3f} to {high:.3f}"}
    record(
        "interruption",
        "Killed and started again",
        [*figures, accuracy],
        machine.conditions("make bench", SEED),
        "The demo, killed at five random points one after the other, against the demo left alone.",
    )


def _killed_at(stage: str, moment_s: float, folder: Path) -> tuple[str, float]:
    """Start the demo and kill it `moment_s` into `stage`."""
    demo = subprocess.Popen(
        [sys.executable, "-u", "-c", DEMO, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for line in demo.stdout or ():
        found = STARTED.search(line.rstrip())
        if found and found[1] == stage:
            time.sleep(moment_s)
            break
    os.kill(demo.pid, signal.SIGKILL)  # the demo alone: that nothing else of it goes on is part of what is tried
    demo.wait()
    return stage, moment_s
