"""Worker processes of the service: a dead one is noticed within a second, and its successor logs it."""

import logging
import os
import re
from pathlib import Path

import psutil
from circus.controller import Controller
from prometheus_client import multiprocess

log = logging.getLogger("echoplane.serving")

CHECK_MS = 1000
"""Interval at which the supervisor looks for dead workers. BentoML sets circus to 10 s and has no setting for it."""


def check_workers_often() -> None:
    """Makes the supervisor of this process replace a dead worker within CHECK_MS."""
    start = Controller.start

    def start_checking(controller: Controller) -> None:
        controller.check_delay = CHECK_MS
        start(controller)

    Controller.start = start_checking


def announce_replacement() -> None:
    """Logs each worker that died without shutting down, and drops its gauges from the sums over all workers."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder:
        return
    names = (path.name for path in Path(folder).glob("gauge_live*.db"))
    pids = {int(found[1]) for name in names if (found := re.search(r"_(\d+)\.db$", name))}
    for pid in sorted(pids):
        if not psutil.pid_exists(pid):
            multiprocess.mark_process_dead(pid, folder)
            log.error("worker %d ended unexpectedly; worker %d replaces it.", pid, os.getpid())
