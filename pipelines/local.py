"""Run a pipeline on this machine: every step a process, one after another, by kfp.local.

KFP's own folder is made anew by each run: what a step did before is found by the done-manifests of the stages, and
the folder is where the latest run's manifests are looked up by step.
"""

import contextlib
import fcntl
import os
import shutil
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pipelines
from echoplane.errors import ConfigError, StageError
from echoplane.stages.stage import Manifest, die_with_runner, ensure_folder
from echoplane.stages.step import RUN_VARIABLE, records

KFP_FOLDER = "kfp"
LOCK = ".run.lock"


def run(name: str, values: dict[str, Any]) -> None:
    """Run pipeline `name` under `values["root"]`; StageError where a step fails, ConfigError where another run is."""
    die_with_runner()
    with _only_run(Path(values["root"]).resolve()) as root:
        _run(name, values, root)


@contextlib.contextmanager
def _only_run(root: Path) -> Iterator[Path]:
    """Hold the root: KFP's folder in it is of one run."""
    ensure_folder(root, "`root`")
    with (root / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError("another run works under this `root`; wait for it to end, or give another.") from None
        yield root


def _run(name: str, values: dict[str, Any], root: Path) -> None:
    # Steps end with this process; unbuffered, their lines come while they work.
    this_run = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
    os.environ |= {"ECHOPLANE_RUNNER_PID": str(os.getpid()), "PYTHONUNBUFFERED": "1", RUN_VARIABLE: this_run}
    from kfp import local

    # neither the image's name nor what a pod asks for says anything here: a step is a process of this Python
    warnings.filterwarnings("ignore", message=".*custom or non-Python base image", category=RuntimeWarning)
    warnings.filterwarnings("ignore", message=".*have no effect", category=UserWarning)

    folder = root / KFP_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder))
    try:
        pipelines.by_name(name)(**values)
    except RuntimeError as error:  # kfp.local's one way to say that a step failed or was interrupted
        reasons = [f"{step.stage}: {step.reason}" for step in records(values["root"], this_run) if step.reason]
        raise StageError("; ".join(reasons) or str(error).splitlines()[0]) from error


def manifests(root: Path) -> dict[str, Manifest]:
    """The manifests that the latest run's steps handed on, by stage."""
    found = {}
    for path in sorted((root.resolve() / KFP_FOLDER).glob("*/*/*")):
        if path.is_file() and path.read_bytes()[:1] == b"{":
            with contextlib.suppress(ConfigError):  # results and figures are JSON too
                manifest = Manifest.read(path)
                found[manifest.stage] = manifest
    return found
