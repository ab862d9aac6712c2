"""A fleet of edge agents as processes on a real MinIO and a real repository: roll-out, bad model, kills, outage.

python -m benchmarks.edge_processes --devices 50

The steps are those of tests/edge_rehearsal.py. Each agent is the program of a device (`python -m serving.edge run`)
with its own folder and a tiny bundle; the publisher is `echoplane edge`. Exit status 1 if a step does not end as
expected.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks import machine
from benchmarks.results import record
from tests.edge_rehearsal import Step, rehearsed
from tests.minio_process import BINARY, MC, NO_MINIO

DEVICES, POLL_S, STAGGER_S = 50, 10.0, 0.5
HEAD = "| what | expected | seen | seconds | requests per agent | as expected |\n|---|---|---|---|---|---|"


def measure() -> None:
    """Records every step for DEVICES devices; without MinIO it says so, and the page keeps what was measured before."""
    if not (BINARY and MC):
        print(f"edge-processes: not measured, {NO_MINIO}")
        return
    if not all(step.passed for step in run(DEVICES)):
        raise SystemExit("a step of the edge rehearsal did not end as expected; see above.")


def run(devices: int) -> list[Step]:
    """Runs and prints every step, and records the figures."""
    steps = list[Step]()
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for step in rehearsed(Path(folder), devices, POLL_S, STAGGER_S):
            print(_row(step), flush=True)
            steps.append(step)
    figures = [
        {"figure": f"{step.what}: {_cost(step)}", "value": step.seen, "expected": step.expected} for step in steps
    ]
    conditions = machine.conditions(f"python -m benchmarks.edge_processes --devices {devices}", None)
    record("edge-processes", "Edge agents as processes", figures, conditions, _text(devices))
    return steps


def _text(devices: int) -> str:
    return (
        f"{devices} agents as processes of one machine, each with a folder of its own and a bundle of 75 KB, look "
        f"every {POLL_S:g} s (in operation: 300 s) at a repository in a real MinIO beside them, which `echoplane edge` "
        "fills. What a device serves is read behind the link of its service, every digest checked; requests are "
        "counted by MinIO. One device also has its service, asked up to ten times a second. A killed device's link "
        "passes 10 kB/s. Agents, store, publisher and whatever else runs share the cores: the seconds are no device's."
    )


def _row(step: Step) -> str:
    cells = (step.what, step.expected, step.seen, f"{step.seconds:.0f}", f"{step.requests_per_agent:.1f}")
    return f"| {' | '.join((*cells, 'yes' if step.passed else 'NO'))} |"


def _cost(step: Step) -> str:
    return f"{step.seconds:.0f} s, {step.requests_per_agent:.1f} requests per agent"


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.edge_processes", description=__doc__)
    parser.add_argument("--devices", type=int, default=DEVICES, help=f"number of agents. Default: {DEVICES}")
    args = parser.parse_args()
    if not (BINARY and MC):
        raise SystemExit(f"{NO_MINIO}; put both programs there.")
    return 0 if all(step.passed for step in run(args.devices)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
