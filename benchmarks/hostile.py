"""A service under hostile requests: does it live, how much memory does it take, and what do others notice?

`python -m benchmarks hostile` sends 5,000 requests of every kind to a service that may have 3 GiB; another client
sends ordinary clips beside them. `python -m benchmarks.hostile --requests 200` is a short version.
"""

import argparse
import contextlib
import functools
import itertools
import os
import shlex
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil

from benchmarks import hostile_files, hostile_requests, machine
from benchmarks.hostile_requests import Request, Target
from benchmarks.results import record
from echoplane.tokens import change_tokens, new_token
from tests import dicom_files as dicom
from tests.serving_process import Running, serve
from tests.tiny_bundle import make_tiny_bundle

REQUESTS = 5000
SEED = 20_261_130
CLIENTS, SLOW_CLIENTS = 4, 32
LIMIT_MIB = 3072
CGROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
BASELINE = 200
ORDINARY_PAUSE_S = 0.1
MEMORY_PAUSE_S = 0.2
LONG_TURN = 10
"""Turns of all kinds, in the last of which those that take long are sent too."""

Requests = Sequence[tuple[str, Request]]


@dataclass
class Outcome:
    """Answers, times and memory that a run showed."""

    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    """How often each status came, per kind of request."""
    alone_ms: list[float] = field(default_factory=list)
    beside_ms: list[float] = field(default_factory=list)
    """Times of ordinary requests before the hostile ones and beside them."""
    ordinary: Counter[str] = field(default_factory=Counter)
    memory_mib: float = 0.0
    """Largest sum of the proportional set sizes of the service's processes."""
    restarts: int = 0
    duration_s: float = 0.0

    def failures(self) -> dict[str, Counter[str]]:
        """Returns the kinds of requests that got a status of 500 or more, with these."""
        failed = {
            name: Counter({status: count for status, count in seen.items() if status.isdigit() and int(status) >= 500})
            for name, seen in self.statuses.items()
        }
        return {name: seen for name, seen in failed.items() if seen}


def measure() -> None:
    """Records the figures of the whole run."""
    outcome = run(REQUESTS)
    alone, beside = (np.percentile(times, [50, 99]) for times in (outcome.alone_ms, outcome.beside_ms))
    answered = sum(n for s, n in outcome.ordinary.items() if s == "200") / max(1, outcome.ordinary.total())
    figures = [
        {"figure": "hostile requests, kinds", "value": f"{REQUESTS}, {len(outcome.statuses)}"},
        {"figure": "seconds", "value": f"{outcome.duration_s:.0f}"},
        {"figure": "restarts of the service", "value": f"{outcome.restarts}", "expected": "0"},
        {
            "figure": "answers of 500 or more",
            "value": f"{sum(seen.total() for seen in outcome.failures().values())}",
            "expected": "0",
        },
        {
            "figure": f"largest memory of the service, MiB (limit {LIMIT_MIB})",
            "value": f"{outcome.memory_mib:.0f}",
            "expected": "below 2560",
        },
        {"figure": "ordinary requests alone, p50 and p99 ms", "value": f"{alone[0]:.0f}, {alone[1]:.0f}"},
        {
            "figure": "ordinary requests beside them, p50 and p99 ms",
            "value": f"{beside[0]:.0f}, {beside[1]:.0f}",
            "expected": "p99 at most twice that alone",
        },
        {"figure": "ordinary requests beside them that were answered", "value": f"{answered:.4f}", "expected": "1"},
    ]
    text = (
        f"A service with {LIMIT_MIB} MiB and two answer threads; {CLIENTS} hostile clients under one token, and up to "
        f"{SLOW_CLIENTS} slow ones; a client with another token sends a clip of 24 frames every {ORDINARY_PAUSE_S:g} s."
    )
    record("hostile", "Hostile requests", figures, machine.conditions("python -m benchmarks hostile", SEED), text)


def run(requests: int, slow: int = SLOW_CLIENTS, baseline: int = BASELINE, *, long: bool = True) -> Outcome:
    """Returns what was seen of a service with limited memory that got `requests` hostile requests, all kinds in turns,
    with those that take `long` in every tenth turn; beside `slow` clients, and after `baseline` ordinary requests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = make_tiny_bundle(folder / "bundle")
        tokens = {who: _token(folder / "tokens", who) for who in ("hostile", "ordinary")}
        settings = {
            "ECHOPLANE_BUNDLES": str(bundle),
            "ECHOPLANE_PRECISION": "f32",
            "ECHOPLANE_TOKEN_FILE": str(folder / "tokens"),
            "ECHOPLANE_REQUESTS_PER_MINUTE": "1000000",
        }
        with limited_python(folder) as python, serve(folder, settings, python=python) as service:
            port = int(service.url.rpartition(":")[2])
            targets = {who: Target("127.0.0.1", port, token) for who, token in tokens.items()}
            files = hostile_files.all_files(without=() if long else hostile_files.LONG)
            kinds = [hostile_requests.all_requests(files, dicom.jpeg_clip())] * LONG_TURN
            if long:
                kinds[-1] = kinds[-1] | hostile_requests.long_requests(files)
            turns = (_shuffled(kinds[number % LONG_TURN], number) for number in itertools.count())
            chosen = list(itertools.islice(itertools.chain.from_iterable(turns), requests))
            return _attack(service, targets, chosen, slow, baseline)


def _shuffled(kinds: dict[str, Request], turn: int) -> list[tuple[str, Request]]:
    names = list(kinds)
    return [
        (names[place], kinds[names[place]]) for place in np.random.default_rng((SEED, turn)).permutation(len(names))
    ]


def _token(path: Path, name: str) -> str:
    token, entry = new_token(name, "site", ("predict",))
    change_tokens(path, add=entry)
    return token


@contextlib.contextmanager
def limited_python(folder: Path) -> Iterator[Path]:
    """Yields a Python whose processes together have at most LIMIT_MIB of memory, if this user may make a cgroup."""
    for parent, limit in zip(CGROUPS, ("memory.limit_in_bytes", "memory.max"), strict=True):
        group = parent / f"echoplane-hostile-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(LIMIT_MIB << 20))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        script = folder / "python"
        script.write_text(f'#!/bin/sh\necho $$ > {group}/cgroup.procs\nexec {shlex.quote(sys.executable)} "$@"\n')
        script.chmod(0o755)
        try:
            yield script
        finally:
            _remove(group)
        return
    print(f"this user can't limit memory to {LIMIT_MIB} MiB by a cgroup; it is measured only", file=sys.stderr)
    yield Path(sys.executable)


def _remove(group: Path) -> None:
    for _ in range(50):  # its last processes are just ending
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return


def _attack(service: Running, targets: dict[str, Target], requests: Requests, slow: int, baseline: int) -> Outcome:
    clip = dicom.jpeg_clip()
    outcome, ended = Outcome(), threading.Event()
    before = _workers(service)
    with targets["ordinary"].client() as client:
        for _ in range(baseline):
            outcome.alone_ms.append(_ordinary(client, clip)[1])
    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS + 3) as pool:
        watching = [
            pool.submit(_watch_memory, service, outcome, ended),
            pool.submit(_send_ordinary, targets["ordinary"], clip, outcome, ended),
            pool.submit(_send_slowly, targets["hostile"], slow, outcome, ended),
        ]
        try:
            shares = [list(enumerate(requests))[number::CLIENTS] for number in range(CLIENTS)]
            for sent in [pool.submit(_send, targets["hostile"], share) for share in shares]:
                _merge(outcome.statuses, sent.result())
        finally:
            ended.set()
        for one in watching:
            one.result()
    outcome.duration_s = time.perf_counter() - start
    outcome.restarts = len(before - _workers(service))
    return outcome


def _send(target: Target, requests: Sequence[tuple[int, tuple[str, Request]]]) -> dict[str, Counter[str]]:
    """Sends the requests one after the other, each with random numbers of its own."""
    seen: dict[str, Counter[str]] = {}
    with target.client() as client:
        for number, (name, request) in requests:
            send = functools.partial(request, target, client, np.random.default_rng((SEED, 1, number)))
            seen.setdefault(name, Counter())[_outcome(send)] += 1
    return seen


def _outcome(send: Callable[[], int | None]) -> str:
    try:
        return str(send() or "closed")
    except (httpx.TransportError, OSError):
        return "closed"


def _send_slowly(target: Target, clients: int, outcome: Outcome, ended: threading.Event) -> None:
    """Keeps this number of slow clients busy until the others have ended."""

    def one(number: int) -> dict[str, Counter[str]]:
        seen: dict[str, Counter[str]] = {}
        name, request = list(hostile_requests.SLOW.items())[number % len(hostile_requests.SLOW)]
        with target.client() as client:
            while not ended.is_set():
                status = _outcome(lambda: request(target, client, np.random.default_rng(number)))
                seen.setdefault(name, Counter())[status] += 1
        return seen

    with ThreadPoolExecutor(max(1, clients)) as pool:
        for seen in pool.map(one, range(clients)):
            _merge(outcome.statuses, seen)


def _send_ordinary(target: Target, clip: bytes, outcome: Outcome, ended: threading.Event) -> None:
    with target.client() as client:
        while not ended.wait(ORDINARY_PAUSE_S):
            status, elapsed_ms = _ordinary(client, clip)
            outcome.ordinary[status] += 1
            outcome.beside_ms.append(elapsed_ms)


def _ordinary(client: httpx.Client, clip: bytes) -> tuple[str, float]:
    start = time.perf_counter()
    status = _outcome(lambda: client.post(hostile_requests.ROUTES[0], files={"file": ("a", clip)}).status_code)
    return status, 1000 * (time.perf_counter() - start)


def _watch_memory(service: Running, outcome: Outcome, ended: threading.Event) -> None:
    while not ended.wait(MEMORY_PAUSE_S):
        outcome.memory_mib = max(outcome.memory_mib, service_memory_mib(service.pid))


def service_memory_mib(pid: int) -> float:
    """Returns the sum of proportional set sizes of a process and its descendants, in which shared pages count once."""
    total_kib = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with contextlib.suppress(OSError, psutil.Error):  # it ended in between
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            total_kib += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total_kib / 1024


def _workers(service: Running) -> set[int]:
    """Returns the ids of the service's processes that must not end: its parent and the worker that answers."""
    found = [psutil.Process(service.pid), *psutil.Process(service.pid).children(recursive=True)]
    return {one.pid for one in found if "serving.api.decoding" not in " ".join(one.cmdline())}


def _merge(into: dict[str, Counter[str]], seen: dict[str, Counter[str]]) -> None:
    for name, counts in seen.items():
        into.setdefault(name, Counter()).update(counts)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.hostile", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=REQUESTS)
    outcome = run(parser.parse_args().requests)
    for name, seen in sorted(outcome.statuses.items()):
        print(f"{name}: {dict(seen)}")
    for title, times in (("alone", outcome.alone_ms), ("beside", outcome.beside_ms)):
        print(f"{title}: n {len(times)}, p50 {np.percentile(times, 50):.0f} ms, p99 {np.percentile(times, 99):.0f} ms")
    print(f"ordinary {dict(outcome.ordinary)}, memory {outcome.memory_mib:.0f} MiB, restarts {outcome.restarts}")
    print(f"{outcome.duration_s:.0f} s; 500 or more: {outcome.failures()}")


if __name__ == "__main__":
    main()
