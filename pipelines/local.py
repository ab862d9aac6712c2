"""Runs a pipeline on this machine: every step a process, one after another, by kfp.local.

KFP's own folder is emptied at each run: finished work is found by the done-manifests of the stages, and the folder
holds the latest run's manifests by step.
"""

import contextlib
import fcntl
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pipelines
from echoplane.errors import ConfigError, StageError
from echoplane.parent import VARIABLE, end_with_parent
from echoplane.signing import ensure_own_keys
from echoplane.stages.stage import Manifest, ensure_folder
from echoplane.stages.step import RUN_VARIABLE, records

KFP_FOLDER = "kfp"
LOCK = ".run.lock"


def run(name: str, values: dict[str, Any]) -> None:
    """Runs pipeline `name` under `values["root"]`. Raises StageError if a step fails, ConfigError if another run holds
    the root."""
    end_with_parent()
    with _only_run(Path(values["root"]).resolve()) as root:
        _run(name, values, root)


@contextlib.contextmanager
def _only_run(root: Path) -> Iterator[Path]:
    """Locks the root: KFP's folder in it belongs to one run."""
    ensure_folder(root, "`root`")
    with (root / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError("another run works under this `root`; wait for it to end, or give another.") from None
        yield root


def _run(name: str, values: dict[str, Any], root: Path) -> None:
    # Steps end with this process; unbuffered, so that their lines appear while they work.
    this_run = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
    ensure_own_keys()  # the step promote signs with them
    os.environ |= {VARIABLE: str(os.getpid()), "PYTHONUNBUFFERED": "1", RUN_VARIABLE: this_run}
    from kfp import local

    # the image's name and the pod's resources do not matter here: a step is a process of this Python
    warnings.filterwarnings("ignore", message=".*custom or non-Python base image", category=RuntimeWarning)
    warnings.filterwarnings("ignore", message=".*have no effect", category=UserWarning)

    folder = root / KFP_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder))
    try:
        with _python_for_a_shell():
            pipelines.by_name(name)(**values)
    except RuntimeError as error:  # the only way in which kfp.local reports that a step failed or was interrupted
        reasons = [f"{step.stage}: {step.reason}" for step in records(values["root"], this_run) if step.reason]
        raise StageError("; ".join(reasons) or str(error).splitlines()[0]) from error


@contextlib.contextmanager
def _python_for_a_shell() -> Iterator[None]:
    """Quotes `sys.executable`, which kfp.local puts into a shell script as it is: its path may hold a space."""
    executable = sys.executable
    sys.executable = shlex.quote(executable)
    try:
        yield
    finally:
        sys.executable = executable


def manifests(root: Path) -> dict[str, Manifest]:
    """Returns the manifests that the latest run's steps passed on, by stage."""
    found = {}
    for path in sorted((root.resolve() / KFP_FOLDER).glob("*/*/*")):
        if path.is_file() and path.read_bytes()[:1] == b"{":
            with contextlib.suppress(ConfigError):  # results and figures are JSON too
                manifest = Manifest.read(path)
                found[manifest.stage] = manifest
    return found
