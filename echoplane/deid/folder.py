"""De-identification of a folder of files in several processes, with one report at the end.

An output folder belongs to one policy and one key, which `run.json` records (the key as a one-way fingerprint).
`dicom/` holds exactly what the latest report lists: outputs of earlier runs whose inputs are gone are moved to
`unlisted/`.
"""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from echoplane import __version__
from echoplane.deid import files, render
from echoplane.deid.key import Key
from echoplane.deid.outcome import Outcome, Report, flag_identities
from echoplane.deid.policy import Policy
from echoplane.deid.reasons import QUARANTINED, FileRejected
from echoplane.errors import ConfigError
from echoplane.processes import WorkerLimits, limit_next_file, processes

UNLISTED = "unlisted"
RUN = "run.json"
LIMITS = WorkerLimits(data_bytes=4 << 30, cpu_s=600)
"""Limits of one worker; a file that exceeds them is quarantined."""
_FEW_FILES = 4  # below this, starting a process costs more than it saves

Progress = Callable[[int, int], None]
Terms = tuple[Path, Key, Policy]
"""Output folder, key and policy of a run."""


def deidentify_folder(
    source: Path,
    out_dir: Path,
    key: Key,
    policy: Policy,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    limits: WorkerLimits = LIMITS,
) -> Report:
    """De-identifies every file below `source` into `out_dir`; `progress` receives the numbers of files done and in all.

    It can be repeated safely: existing outputs of the same bytes are checked and kept, missing ones are written. Raises
    ConfigError if there is no file, a folder cannot be read, or `out_dir` belongs to another policy or key."""
    paths = sorted(walk(input_folder(source), out_dir))
    begin(out_dir, key, policy)
    files.remove_leftovers(out_dir)
    outcomes: list[Outcome] = []
    for outcome in _all(paths, (out_dir, key, policy), workers or os.cpu_count() or 1, limits):
        outcomes.append(files.relative_to(outcome, source))
        if progress is not None:
            progress(len(outcomes), len(paths))
    outcomes.sort(key=lambda outcome: outcome.source)
    report = Report(flag_identities(outcomes), policy.model_dump(mode="json"), __version__)
    _keep_to(report, out_dir)
    render.write(report, out_dir)
    return report


def input_folder(source: Path) -> Path:
    """Returns `source`. Raises ConfigError if it is no folder that can be read, or holds no file at any depth.

    The messages do not repeat the path, which often holds a patient's name."""
    give = "give the folder that holds your DICOM (SRC of `echoplane deid`, --data-source of a pipeline)"
    if not source.exists():
        raise ConfigError(f"the source does not exist; {give}.")
    if not source.is_dir():
        raise ConfigError(f"the source is a file, not a folder; {give}.")
    if next(walk(source, source), None) is None:
        raise ConfigError(f"there is no file in the source; {give}.")
    return source


def begin(out_dir: Path, key: Key, policy: Policy) -> None:
    """Records the folder's policy and key. Raises ConfigError if it belongs to another policy or key."""
    run = {"policy": policy.model_dump(mode="json"), "key": key.fingerprint()}
    path = out_dir / RUN
    if path.exists():
        begun = json.loads(path.read_text())
        if other := [name for name in run if begun[name] != run[name]]:
            raise ConfigError(
                f"the output folder was begun under another {' and another '.join(other)}, and one folder is of one "
                "policy and one key. Give a new folder, or the policy and the key of the first run."
            )
        return
    out_dir.mkdir(parents=True, exist_ok=True)
    render.write_whole(path, json.dumps(run))


def policy_of(out_dir: Path) -> Policy:
    """Returns the policy that the folder belongs to. Raises ConfigError if it is not recorded."""
    try:
        return Policy.model_validate(json.loads((out_dir / RUN).read_text())["policy"])
    except (OSError, ValueError, KeyError):
        raise ConfigError(
            "the folder does not say under which policy it was made; give one that `echoplane deid SRC DST` has "
            "written, or run that again first."
        ) from None


def _keep_to(report: Report, out_dir: Path) -> None:
    """Moves files that the report does not list out of `dicom/`, and removes originals of written files from the
    quarantine."""
    written = [outcome for outcome in report.outcomes if outcome.output]
    listed = {out_dir / str(outcome.output) for outcome in written}
    for path in sorted((out_dir / "dicom").rglob("*")):
        if path not in listed and (path.is_symlink() or not path.is_dir()):
            aside = out_dir / UNLISTED / path.relative_to(out_dir / "dicom")
            aside.parent.mkdir(parents=True, exist_ok=True)
            path.replace(aside)
            (out_dir / "ledger" / f"{path.stem}.json").unlink(missing_ok=True)  # another file may claim its UID now
    for outcome in written:
        for suffix in (".dcm", ".json"):
            (out_dir / "quarantine" / f"{outcome.input_digest}{suffix}").unlink(missing_ok=True)


def walk(source: Path, out_dir: Path) -> Iterator[Path]:
    """Yields every entry below `source` that is no folder; links are included but not followed, `out_dir` is skipped.

    Raises ConfigError if a folder cannot be read, because the report would not list its files."""
    for folder, names, entries in os.walk(source, onerror=_refuse, followlinks=False):
        here = Path(folder)
        links = [name for name in names if (here / name).is_symlink()]
        names[:] = [n for n in names if n not in links and (here / n).resolve() != out_dir.resolve()]
        yield from (here / entry for entry in entries + links)


def _refuse(error: OSError) -> None:
    reason = os.strerror(error.errno or 0)
    raise ConfigError(
        f"the source, or a folder in it, can't be read ({reason}), and a report would be silent about what is in it. "
        "Give the right to read it, or leave it out of the source."
    ) from None


def _all(paths: list[Path], terms: Terms, workers: int, limits: WorkerLimits) -> Iterator[Outcome]:
    if workers == 1 or len(paths) < _FEW_FILES:
        yield from (files.deidentify_file(path, *terms) for path in paths)
        return
    lost: list[Path] = []
    with processes(min(workers, len(paths)), limits=limits) as pool:
        pending = {pool.submit(_in_worker, limits, path, *terms): path for path in paths}
        for future in as_completed(pending):
            outcome = _result(future)
            if outcome is None:
                lost.append(pending[future])
            else:
                yield outcome
    for path in lost:
        yield _alone(path, terms, limits)


def _in_worker(limits: WorkerLimits, path: Path, *terms: *Terms) -> Outcome:
    limit_next_file(limits)
    return files.deidentify_file(path, *terms)


def _result(future: Future[Outcome]) -> Outcome | None:
    try:
        return future.result()
    except BrokenProcessPool:  # a codec ended the process; the files are then processed one by one
        return None


def _alone(path: Path, terms: Terms, limits: WorkerLimits) -> Outcome:
    """Processes one file in its own process, so that only the file that kills the process is quarantined."""
    out_dir, key, policy = terms
    with processes(1, limits=limits) as pool:
        outcome = _result(pool.submit(_in_worker, limits, path, *terms))
    if outcome is not None:
        return outcome
    try:
        data = files.read_source(path, policy)
    except (FileRejected, OSError):
        data = b""
    outcome = Outcome(path, QUARANTINED, key.digest(data), "internal")
    files.set_aside(data, outcome, out_dir)
    return outcome
