"""Ray of this machine: started for one training, in a private folder that is removed afterwards."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from echoplane.errors import StageError

OBJECT_STORE_BYTES = 100 << 20
"""Size of Ray's object store. It carries only configs and small metrics; samples are memory-mapped from files."""
SHORT_PATH = 16
"""Maximum length of a temporary folder's path with which Ray's sockets fit the 107 characters of a Unix socket's
path."""
START_TRIES = 5
START_TIMED_OUT = "timed out during startup"


@contextlib.contextmanager
def ray_cluster(ray: Any, workers: int) -> Iterator[None]:
    """Connects to the Ray cluster that RAY_ADDRESS names, or starts one on this machine and removes it afterwards."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    logging.getLogger("ray").setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS")
    scratch = None if address else _scratch()
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            start_ray(ray, workers, f"{scratch}/", quiet)
        yield
    finally:
        ray.shutdown()
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


def start_ray(ray: Any, workers: int, folder: str, quiet: dict[str, Any]) -> None:
    """Starts Ray on this machine.

    Ray itself gives up after 30 s (a constant in its node.py), which is too short on a busy machine. Raises StageError
    if it does so START_TRIES times.
    """
    for number in range(START_TRIES):
        try:
            # "local": a killed head leaves its address behind, and the default would try to join it
            ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=f"{folder}{number}",
                **quiet,
            )
        except Exception as error:  # Ray raises a bare Exception
            ray.shutdown()
            if START_TIMED_OUT not in str(error):
                raise
        else:
            return
    raise StageError(f"Ray did not start in {START_TRIES} tries of 30 s: this machine is too busy. Stop other work.")


def _scratch() -> Path:
    """Returns a private folder for Ray, whose own folder inside is open to everybody; removes those of killed runs."""
    folder = Path(tempfile.gettempdir())
    if len(str(folder)) > SHORT_PATH:
        folder = Path("/tmp")  # noqa: S108 (mkdtemp makes a private folder in it)
    for old in folder.glob("ray-*-*"):
        pid = old.name.split("-")[1]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"ray-{os.getpid()}-", dir=folder))
