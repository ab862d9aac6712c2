"""A fleet of simulated edge devices: staged roll-out, its cost to the repository, and kills at random points.

python -m benchmarks.edge_fleet --devices 1000 --kills 100

Devices are objects of one process with a tiny bundle; the golden check runs once per bundle: they are one machine. A
killed device is a forked process, whose check reads every digest. Requests and bytes are counted by the server.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from echoplane import bundle as bundles
from echoplane.edge import publish
from echoplane.edge.fleet import summary
from echoplane.edge.policy import Policy, decide
from echoplane.edge.upload import receive
from tests.edge_site import TASK, Site
from tests.tiny_bundle import make_tiny_bundle

SEED, CYCLES_A_DAY, SITE = 7, 288, 10_000
"""The site that is extrapolated to has this many devices, which look every 5 minutes."""
LONGEST_S = 0.12
"""Latest moment of a kill, about the length of a cycle that takes a bundle."""


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.edge_fleet", description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=100)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        good = [make_tiny_bundle(Path(folder) / f"bundle-{seed}", seed) for seed in (1, 2)]
        print(json.dumps({"kills": killed(site, good, args.kills)}, indent=1), flush=True)
        print(json.dumps({"fleet": rolled_out(site, good, args.devices)}, indent=1))
        site.close()
    return 0


def killed(site: Site, good: list[Path], kills: int) -> dict[str, int]:
    """Kills a device while it takes one of two bundles in turn, and counts what it serves afterwards."""
    rng, options = np.random.default_rng(SEED), {"check_bundle": lambda task, folder: bundles.read(folder)}
    serving = 0
    done = 0
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
    return {"kills": done, "a whole bundle serves": serving}


def rolled_out(site: Site, good: list[Path], count: int) -> dict[str, object]:
    """Rolls a bundle out to `count` devices by the policy, and counts what each step cost."""
    names = [f"box-{number}" for number in range(count)]
    current = publish.plan_of(site.repository, "stable").tasks[TASK].candidate
    new = next(folder for folder in good if bundles.read(folder).id != current.bundle)
    devices = [site.device(name) for name in names]
    site.requests.clear()
    start_s = time.monotonic()
    [device.cycle() for device in devices]
    taking = len(site.requests) / count
    publish.publish(site.repository, "stable", new, "first", names)
    rings, limits = [], Policy(soak_h=0)
    while True:
        for device in devices:
            device.cycle()
        received = receive(str(site.folder / "reports"))
        plan = publish.plan_of(site.repository, "stable").tasks[TASK]
        rings.append(f"{plan.candidate.ring}: {summary(received.reports, TASK)['serving']} serving what they should")
        decision = decide(plan, TASK, received, limits, datetime.now(UTC))
        if decision.action != "widen":
            break
        publish.widen(site.rollout(), decision.ring, names)
    elapsed_s = time.monotonic() - start_s
    site.requests.clear()
    [device.cycle() for device in devices]
    idle = len(site.requests) / count
    return {
        "devices": count,
        "rings": rings,
        "end": f"{decision.action}: {decision.reason}",
        "seconds for all": round(elapsed_s, 1),
        "requests per device that takes a bundle": taking,
        "requests per device and cycle without news": idle,
        f"extrapolated: requests per second of {SITE:,} devices every 5 minutes": round(
            SITE * CYCLES_A_DAY * idle / 86_400, 1
        ),
    }


if __name__ == "__main__":
    raise SystemExit(main())
