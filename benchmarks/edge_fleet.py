"""A fleet of simulated edge devices: staged roll-out, its cost to the repository, and kills at random points.

python -m benchmarks.edge_fleet --devices 1000 --kills 100

Devices are objects of one process with a tiny bundle; the golden check runs once per bundle: they are one machine. A
killed device is a forked process, whose check reads every digest. Requests and bytes are counted by the server. Exit
status 1 if a figure is not as expected.
"""

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.results import CHECKOUT, record
from echoplane import bundle as bundles
from echoplane.edge import publish
from echoplane.edge.policy import Policy, decide, tally
from echoplane.edge.upload import receive
from serving.edge.device import Device
from tests.edge_site import TASK, Site
from tests.tiny_bundle import make_tiny_bundle

DEVICES, KILLS, SEED = 1000, 100, 7
CYCLES_A_DAY, SITE = 288, 10_000
"""The site that is extrapolated to has this many devices, which look every 5 minutes."""
LONGEST_S = 0.12
"""Latest moment of a kill, about the length of a cycle that takes a bundle."""
SHIPPED = CHECKOUT / "models" / TASK
"""Bundle whose size is extrapolated with."""
DAY_S, KIB, GIB = 86_400, 1 << 10, 1 << 30

Figures = list[dict[str, str]]


@dataclass(frozen=True)
class Cost:
    """Cost of one cycle per device: requests, bytes that the server sent, time of the simulated device and server."""

    requests: float
    sent_bytes: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.requests:.1f} requests, {self.sent_bytes / KIB:.1f} KiB, {1000 * self.seconds:.0f} ms"


@dataclass
class RollOut:
    """Observed course of a roll-out: devices that served it when each ring was judged, and times in seconds."""

    served: list[int]
    end: str = ""
    widen_s: float = 0
    receive_s: float = 0
    total_s: float = 0


def measure() -> None:
    """Records the figures of DEVICES devices and KILLS kills."""
    if not run(DEVICES, KILLS):
        raise SystemExit("the simulated fleet did not end as expected; see above.")


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.edge_fleet", description=__doc__)
    parser.add_argument("--devices", type=int, default=DEVICES, help=f"number of devices. Default: {DEVICES}")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"number of kills. Default: {KILLS}")
    args = parser.parse_args()
    return 0 if run(args.devices, args.kills) else 1


def run(devices: int, kills: int) -> bool:
    """Measures, prints and records every figure; returns whether all are as expected."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        good = [make_tiny_bundle(Path(folder) / f"bundle-{seed}", seed) for seed in (1, 2)]
        whole = killed(site, good, kills)
        kept = {"figure": f"{kills} kills at random points: a whole bundle serves after", "value": f"{whole}"}
        figures = [kept | {"expected": f"{kills}"}, *rolled_out(site, good, devices)]
        site.close()
    print("\n".join(f"{one['figure']}: {one['value']}" for one in figures))
    command = f"python -m benchmarks.edge_fleet --devices {devices} --kills {kills}"
    text = (
        f"{devices:,} devices as objects of one process, with a bundle of 75 KB, and an HTTP server beside them that "
        "counts requests and bytes; publisher and policy are the product's. The golden check runs once per bundle. A "
        "killed device is a forked process. What is extrapolated is said; everything else was measured."
    )
    record("edge-fleet", "A thousand simulated edge devices", figures, machine.conditions(command, SEED), text)
    return all(one["value"] == one.get("expected", one["value"]) for one in figures)


def killed(site: Site, good: list[Path], kills: int) -> int:
    """Kills a device while it takes one of two bundles in turn; returns how often it then serves one of them, whole."""
    rng = np.random.default_rng(SEED)
    options = {"check_bundle": lambda task, folder: bundles.read(folder), "reports": ""}
    serving, done = 0, 0
    offered = {publish.publish(site.repository, "stable", good[0], "all", []).bundle}
    site.device("killed", **options).cycle()
    while done < kills:
        offered.add(publish.publish(site.repository, "stable", good[(done + 1) % 2], "all", []).bundle)
        pid = os.fork()
        if pid == 0:
            site.device("killed", **options).cycle()
            os._exit(0)
        time.sleep(rng.uniform(0, LONGEST_S))
        os.kill(pid, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGKILL:
            continue  # it had finished
        done += 1
        link = site.device("killed", **options).agent.slots.link(TASK)
        serving += bundles.read(link.resolve()).id in offered
    return serving


def rolled_out(site: Site, good: list[Path], count: int) -> Figures:
    """Rolls a bundle out to `count` devices by the policy, and says what each part cost."""
    names = [f"box-{number}" for number in range(count)]
    current = publish.plan_of(site.repository, "stable").tasks[TASK].candidate
    new = next(folder for folder in good if bundles.read(folder).id != current.bundle)
    devices = [site.device(name) for name in names]
    taking = cost(site, devices)
    publish_s = seconds(lambda: publish.publish(site.repository, "stable", new, "first", names))
    seen = widened(site, devices)
    idle = cost(site, devices)
    rings = (1, -(-count // 10), count)
    publisher = f"{publish_s:.2f}, {seen.widen_s:.2f}, {seen.receive_s:.2f}"
    return [
        {
            "figure": "devices that served it when each ring was judged",
            "value": ", ".join(map(str, seen.served)),
            "expected": ", ".join(map(str, rings)),
        },
        {"figure": "end of the roll-out", "value": seen.end, "expected": "done"},
        {"figure": "roll-out to all, devices one after the other, s", "value": f"{seen.total_s:.0f}"},
        {"figure": "publisher: to publish, to open a ring, to read all reports, s", "value": publisher},
        {"figure": "a device's cycle that takes a first bundle", "value": str(taking)},
        {"figure": "a device's cycle without news", "value": str(idle)},
        {
            "figure": f"extrapolated to a day: requests of {count:,} devices, every 5 minutes",
            "value": per_day(count, idle),
        },
        *extrapolated(idle),
    ]


def widened(site: Site, devices: list[Device]) -> RollOut:
    """Lets every device look, then does what the policy says, until it no longer widens."""
    names, limits, seen = [device.agent.device for device in devices], Policy(soak_h=0), RollOut([])
    start_s = time.monotonic()
    while True:
        for device in devices:
            device.cycle()
        read_s = time.monotonic()
        received = receive(str(site.folder / "reports"))
        seen.receive_s = time.monotonic() - read_s
        plan = publish.plan_of(site.repository, "stable").tasks[TASK]
        decision = decide(plan, TASK, received, limits, datetime.now(UTC))
        seen.served.append(tally(plan.candidate, TASK, received).serving)
        if decision.action != "widen":
            seen.end, seen.total_s = decision.action, time.monotonic() - start_s
            return seen
        seen.widen_s = seconds(lambda ring=decision.ring: publish.widen(site.rollout(), ring, names))


def extrapolated(idle: Cost) -> Figures:
    """Returns what a site of SITE devices needs, if each costs what a device of this fleet did."""
    bundle_bytes = sum(path.stat().st_size for path in SHIPPED.iterdir())
    sent_gib = SITE * CYCLES_A_DAY * idle.sent_bytes / GIB
    start = f"extrapolated to {SITE:,} devices:"
    return [
        {
            "figure": f"{start} requests per second, and per day",
            "value": f"{SITE * CYCLES_A_DAY * idle.requests / DAY_S:.0f}, {per_day(SITE, idle)}",
        },
        {"figure": f"{start} sent per day without news, GiB", "value": f"{sent_gib:.0f}"},
        {
            "figure": f"{start} a bundle of {bundle_bytes / (1 << 20):.1f} MiB for all of them, GiB",
            "value": f"{SITE * bundle_bytes / GIB:.0f}",
        },
    ]


def per_day(count: int, idle: Cost) -> str:
    return f"{count * CYCLES_A_DAY * idle.requests:,.0f}"


def cost(site: Site, devices: list[Device]) -> Cost:
    """Runs one cycle of every device."""
    requests, sent_bytes = len(site.requests), site.sent_bytes
    elapsed_s = seconds(lambda: [device.cycle() for device in devices])
    count = len(devices)
    return Cost((len(site.requests) - requests) / count, (site.sent_bytes - sent_bytes) / count, elapsed_s / count)


def seconds(act: Callable[[], object]) -> float:
    start_s = time.monotonic()
    act()
    return time.monotonic() - start_s


if __name__ == "__main__":
    raise SystemExit(main())
