"""A folder of files over several processes, with one report at the end."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from echoplane import __version__
from echoplane.deid import files, render
from echoplane.deid.key import Key
from echoplane.deid.outcome import Outcome, Report
from echoplane.deid.policy import Policy
from echoplane.deid.reasons import QUARANTINED, Held
from echoplane.errors import ConfigError
from echoplane.processes import processes

_FEW_FILES = 4  # below this, starting a process costs more than it saves

Progress = Callable[[int, int], None]


def deidentify_folder(
    source: Path,
    out_dir: Path,
    key: Key,
    policy: Policy,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """De-identify every file below `source` into `out_dir`; `progress` gets files done and files in all.

    Repeating is safe: outputs of the same bytes are verified and left, and what is missing is done."""
    if not source.is_dir():
        raise ConfigError("the source is not a folder; give the folder that holds the DICOM files")
    out_dir.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(out_dir)
    paths = sorted(walk(source, out_dir))
    outcomes: list[Outcome] = []
    for outcome in _all(paths, out_dir, key, policy, workers or os.cpu_count() or 1):
        outcomes.append(files.relative_to(outcome, source))
        if progress is not None:
            progress(len(outcomes), len(paths))
    outcomes.sort(key=lambda outcome: outcome.source)
    report = Report(tuple(outcomes), policy.model_dump(mode="json"), __version__)
    render.write(report, out_dir)
    return report


def walk(source: Path, out_dir: Path) -> Iterator[Path]:
    """Every entry below `source` that is no folder, links included but never followed, `out_dir` left out."""
    for folder, names, entries in os.walk(source, followlinks=False):
        here = Path(folder)
        links = [name for name in names if (here / name).is_symlink()]
        names[:] = [n for n in names if n not in links and (here / n).resolve() != out_dir.resolve()]
        yield from (here / entry for entry in entries + links)


def _all(paths: list[Path], out_dir: Path, key: Key, policy: Policy, workers: int) -> Iterator[Outcome]:
    if workers == 1 or len(paths) < _FEW_FILES:
        yield from (files.deidentify_file(path, out_dir, key, policy) for path in paths)
        return
    lost: list[Path] = []
    with processes(min(workers, len(paths))) as pool:
        pending = {pool.submit(files.deidentify_file, path, out_dir, key, policy): path for path in paths}
        for future in as_completed(pending):
            outcome = _result(future)
            if outcome is None:
                lost.append(pending[future])
            else:
                yield outcome
    for path in lost:
        yield _alone(path, out_dir, key, policy)


def _result(future: Future[Outcome]) -> Outcome | None:
    try:
        return future.result()
    except BrokenProcessPool:  # a codec ended the process; which file did it is found below
        return None


def _alone(path: Path, out_dir: Path, key: Key, policy: Policy) -> Outcome:
    """One file in a process of its own, so that what kills the process is set aside and nothing else is."""
    with processes(1) as pool:
        outcome = _result(pool.submit(files.deidentify_file, path, out_dir, key, policy))
    if outcome is not None:
        return outcome
    try:
        data = files.read_source(path, policy)
    except Held:
        data = b""
    outcome = Outcome(path, QUARANTINED, key.digest(data), "internal")
    files.set_aside(data, outcome, out_dir)
    return outcome
