"""A fleet of edge agents as processes on a real MinIO and a real repository, taken through what happens to fleets.

What a device serves is read behind the link of its service, every digest checked; requests are counted by MinIO. The
first device has its service too, which is asked all the time.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from echoplane.bundle.spec import GOLDEN
from echoplane.edge import publish, repository
from echoplane.edge.fleet import Report
from echoplane.edge.keys import read_keys
from tests.edge_fleet import TENTH, Asked, Fleet, reports_serving
from tests.edge_process import REPOSITORY, Box, SlowLink
from tests.edge_site import TASK, make_bad_bundle
from tests.minio_process import Store
from tests.tiny_bundle import make_tiny_bundle

WAIT_S = 900
"""Longest time in seconds that a step is waited for."""
LOOK_S, WATCH_S = 0.5, 0.02
ANSWERS = 250
"""Answers that the bundle before has given when one that abstains is offered; the policy compares from 200 on."""
AWAY_S = 30
"""Shortest time in seconds for which the store is away."""
LINK_BYTES_PER_S, CUT_BYTES = 10_000, 16_384
"""Speed of a killed device's link, on which the largest file takes seven seconds, and what has arrived of it then."""
HALTED = "more abstentions at two sites"

Seen = tuple[str, str]
"""What should be seen, and what was."""


@dataclass(frozen=True)
class Step:
    """One step of the rehearsal, its duration, and the agents' requests meanwhile."""

    what: str
    expected: str
    seen: str
    seconds: float
    requests_per_agent: float

    @property
    def passed(self) -> bool:
        return self.seen == self.expected


def rehearsed(folder: Path, devices: int, poll_s: float, stagger_s: float) -> Iterator[Step]:
    """Takes a fleet through all steps, and yields each at its end."""
    good = [make_tiny_bundle(folder / f"bundle-{seed}", seed) for seed in range(4)]
    bad = make_bad_bundle(folder / "bundle-bad")
    unsure = make_tiny_bundle(folder / "bundle-unsure", 5, abstain_below=0.999)
    store = Store(folder / "minio")
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, store.access))
        store.start()
        stack.callback(store.stop)
        fleet = Fleet(folder, store, devices, poll_s)
        stack.callback(lambda: [box.kill() for box in fleet.boxes])
        first = fleet.boxes[0]
        first.set(SERVICE_URL=first.url, PREDICTION_LOG=str(first.folder / "predictions"))
        stack.enter_context(first.serving())
        asked = Asked(first.url)
        stack.callback(asked.close)
        yield _step(fleet, "a bundle for devices that have none", lambda: first_bundle(fleet, good[0], stagger_s))
        yield _step(fleet, "another by rings, widened by the policy", lambda: by_rings(fleet, good[1]))
        yield _step(fleet, "a bundle whose golden check fails", lambda: bad_bundle(fleet, bad))
        yield _step(fleet, "a bundle that cannot tell", lambda: unsure_bundle(fleet, unsure, asked))
        yield _step(fleet, "agents killed in mid-download", lambda: killed(fleet, good[2], stack))
        yield _step(fleet, "a halt after all have taken it", lambda: halted(fleet))
        yield _step(fleet, "MinIO is killed", lambda: store_away(fleet))
        yield _step(fleet, "MinIO is back, with another bundle", lambda: store_back(fleet, good[3]))
        yield _step(fleet, "one device's service, asked throughout", lambda: answered(asked, fleet))


def first_bundle(fleet: Fleet, bundle: Path, stagger_s: float) -> Seen:
    """Starts the agents, which have nothing to serve, one after the other."""
    new = fleet.publisher.publish(bundle, "all", fleet.names)
    for box in fleet.boxes:
        box.start()
        time.sleep(stagger_s)
    return _taken_by_all(fleet, new)


def by_rings(fleet: Fleet, bundle: Path) -> Seen:
    """Publishes to the first ring and does what the policy says until it is done."""
    sizes = {"first": 1, "tenth": -(-len(fleet.boxes) // TENTH), "all": len(fleet.boxes)}
    new = fleet.publisher.publish(bundle, "first", fleet.names)
    rings, ahead, action = list[str](), 0, ""
    deadline_s = time.monotonic() + WAIT_S
    while action not in ("done", "halt") and time.monotonic() < deadline_s:
        serving = fleet.serving(new)
        found = fleet.publisher.act()
        action = found["decision"]
        ahead = max(ahead, serving - sizes[found["ring"]])
        if action == "widen":
            rings.append(f"{found['ring']}: {found['reason']}")
        else:
            time.sleep(LOOK_S)
    _until(lambda: fleet.settled(new) == len(fleet.boxes))
    widened = [f"{ring}: {sizes[ring]} of {sizes[ring]} devices serve it, 0 refused it" for ring in ("first", "tenth")]
    text = "{}; then {}, {} serve it, {} were ahead of their ring"
    return (
        text.format("; ".join(widened), "done", len(fleet.boxes), 0),
        text.format("; ".join(rings), action, fleet.settled(new), ahead),
    )


def bad_bundle(fleet: Fleet, bundle: Path) -> Seen:
    """Offers a bundle to the first ring that fails there; the policy halts it."""
    old = fleet.boxes[0].bundle() or ""
    new = fleet.publisher.publish(bundle, "first", fleet.names)
    _until(lambda: fleet.reported(lambda report: _refuses(report, new)) > 0)
    tried = fleet.reported(lambda report: report.tasks[TASK].wanted == new)
    refused = fleet.reported(lambda report: _refuses(report, new))
    action = fleet.publisher.act()["decision"]
    _until(lambda: fleet.settled(old) == len(fleet.boxes))
    candidate = _plan(fleet).candidate
    signed = candidate and "golden output" in candidate.halted
    text = "{} tried it, {} refused it for its golden output; {}, {} reason in the signed plan; {} serve the one before"
    return (
        text.format(1, 1, "halt", "with this", len(fleet.boxes)),
        text.format(tried, refused, action, "with this" if signed else "without this", fleet.settled(old)),
    )


def unsure_bundle(fleet: Fleet, bundle: Path, asked: Asked) -> Seen:
    """Offers a bundle that passes its check and then answers "cannot tell"; the policy halts it by what the first
    device has counted."""
    old = fleet.boxes[0].bundle() or ""
    _until(lambda: asked.answers.count(old) >= ANSWERS)
    new = fleet.publisher.publish(bundle, "first", fleet.names)
    actions = list[str]()
    _until(lambda: actions.append(fleet.publisher.act(soak_h=1)["decision"]) or actions[-1] != "wait")
    candidate = _plan(fleet).candidate
    signed = candidate and 'It answered "cannot tell" in' in candidate.halted

    def returned(report: Report) -> bool:
        return f"{new[:12]} to {old[:12]}: the roll-out was halted" in report.tasks[TASK].last_change

    _until(lambda: fleet.settled(old) == len(fleet.boxes) and fleet.reported(returned) > 0)
    text = "{}, {} reason in the signed plan; {} took it and returned; {} serve the one before"
    return (
        text.format("halt", "with this", 1, len(fleet.boxes)),
        text.format(
            actions[-1], "with this" if signed else "without this", fleet.reported(returned), fleet.settled(old)
        ),
    )


def killed(fleet: Fleet, bundle: Path, stack: contextlib.ExitStack) -> Seen:
    """Gives a tenth of the devices a slow link, publishes to all, and kills those in the middle of the largest file."""
    old = fleet.boxes[0].bundle()
    links = {box.device: SlowLink(fleet.store.port, LINK_BYTES_PER_S) for box in fleet.tenth}
    for box in fleet.tenth:
        stack.callback(links[box.device].close)
        box.kill()
        box.set(REPOSITORY_URL=f"{links[box.device].url}/{REPOSITORY}")
        box.start()
    new = fleet.publisher.publish(bundle, "all", fleet.names)
    cut_at = _killed_in_mid_download(fleet.tenth, new)
    served = sum(box.bundle() == old for box in fleet.tenth)
    for box in fleet.tenth:
        box.start()
    _until(lambda: fleet.settled(new) == len(fleet.boxes))
    size = (bundle / GOLDEN).stat().st_size
    cut = sum(CUT_BYTES <= byte < size for byte in cut_at.values())
    continued = sum(_golden_ranges(links[name]) == ["", f"bytes={byte}-"] for name, byte in cut_at.items())
    text = "{} killed; {} served the one before; {} continued at the byte; {} serve it"
    count = len(fleet.tenth)
    return (
        text.format(count, count, count, len(fleet.boxes)),
        text.format(cut, served, continued, fleet.settled(new)),
    )


def halted(fleet: Fleet) -> Seen:
    """Halts the roll-out that every device has joined."""
    old = _plan(fleet).stable or ""
    fleet.publisher.halt(HALTED)

    def back(report: Report) -> bool:
        return reports_serving(report, old) and HALTED in report.tasks[TASK].last_change

    _until(lambda: fleet.serving(old) == fleet.reported(back) == len(fleet.boxes))
    text = "{} serve the one before, {} report the reason"
    return text.format(len(fleet.boxes), len(fleet.boxes)), text.format(fleet.serving(old), fleet.reported(back))


def store_away(fleet: Fleet) -> Seen:
    """Kills the store, waits until every agent has noticed, and starts some agents anew meanwhile."""
    old = fleet.boxes[0].bundle() or ""
    start_s = time.monotonic()
    fleet.stop_store()
    for box in fleet.tenth:
        box.kill()
    written = {box.device: len(box.log) for box in fleet.boxes}
    for box in fleet.tenth:
        box.start()

    def noticed() -> int:
        return sum("out of reach" in box.log[written[box.device] :] for box in fleet.boxes)

    _until(lambda: noticed() == len(fleet.boxes) and time.monotonic() - start_s >= AWAY_S)
    alive = sum(box.alive for box in fleet.boxes)
    text = "{} agents noticed, {} run on, {} devices serve on"
    count = len(fleet.boxes)
    return text.format(count, count, count), text.format(noticed(), alive, fleet.serving(old))


def store_back(fleet: Fleet, bundle: Path) -> Seen:
    """Starts the store with its objects and publishes to all."""
    fleet.start_store()
    return _taken_by_all(fleet, fleet.publisher.publish(bundle, "all", fleet.names))


def answered(asked: Asked, fleet: Fleet) -> Seen:
    """Says which bundles answered, by the order in which each first did, and how many requests failed."""
    last = fleet.boxes[0].bundle()
    _until(lambda: asked.bundles[-1:] == [last])
    order = list(dict.fromkeys(asked.bundles))
    numbers = " ".join(str(1 + order.index(bundle)) for bundle in asked.bundles)
    text = "{} requests failed; bundles {} answered"
    return text.format(0, "1 2 3 2 4 2 5"), text.format(len(asked.failures), numbers)


def _taken_by_all(fleet: Fleet, bundle: str) -> Seen:
    _until(lambda: fleet.settled(bundle) == len(fleet.boxes))
    text = "{} serve it and report so"
    return text.format(len(fleet.boxes)), text.format(fleet.settled(bundle))


def _killed_in_mid_download(boxes: list[Box], bundle: str) -> dict[str, int]:
    """Kills each agent once CUT_BYTES of the largest file have arrived; returns the size of what each then has."""
    cut_at = dict[str, int]()
    deadline_s = time.monotonic() + WAIT_S
    while len(cut_at) < len(boxes) and time.monotonic() < deadline_s:
        for box in boxes:
            path = box.folder / "edge" / "partial" / bundle / GOLDEN
            if box.device not in cut_at and path.exists() and path.stat().st_size >= CUT_BYTES:
                box.kill()
                cut_at[box.device] = path.stat().st_size
        time.sleep(WATCH_S)
    return cut_at


def _golden_ranges(link: SlowLink) -> list[str]:
    return [asked for path, asked in link.requests if path.endswith(GOLDEN)]


def _refuses(report: Report, bundle: str) -> bool:
    task = report.tasks[TASK]
    return (task.state, task.wanted) == ("refused", bundle) and "golden output" in task.reason


def _plan(fleet: Fleet) -> publish.TaskPlan:
    online = read_keys([fleet.publisher.keys / "online"])
    return publish.plan_of(repository.EdgeRepository(fleet.publisher.repository, online), "stable").tasks[TASK]


def _step(fleet: Fleet, what: str, act: Callable[[], Seen]) -> Step:
    requests, start_s = fleet.requests, time.monotonic()
    expected, seen = act()
    elapsed_s = time.monotonic() - start_s
    return Step(what, expected, seen, elapsed_s, (fleet.requests - requests) / len(fleet.boxes))


def _until(holds: Callable[[], bool]) -> None:
    """Waits until `holds`, or for WAIT_S: what is then seen tells the rest."""
    deadline_s = time.monotonic() + WAIT_S
    while not holds() and time.monotonic() < deadline_s:
        time.sleep(LOOK_S)
