"""A stage as a step of a pipeline: errors in a sentence, and a record of how it ended.

Kubeflow 2.17 tells an exit handler that something failed, never what or why. So each step leaves `RECORDS/POD.json`
under the root, and the run's last step, `ended`, reads the records of its run. The record is there from the step's
start, and reports until its end that the step was killed: a step that gets signal 9 can't write any more.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from echoplane.errors import explained, wrong_field
from echoplane.files import write_atomically
from echoplane.stages.stage import Counts, Manifest

RECORDS = "runs"
RUN_VARIABLE = "ECHOPLANE_RUN"
"""Names the run on one machine. On a cluster pods are named after their run, and KFP_POD_NAME says how."""

KILLED = (
    "did not come to its end: it was killed (memory, time limit, node), or its run was terminated. "
    "`kubectl describe pod` names the cause while the pod is there."
)
TERMINATED = "was terminated (SIGTERM): somebody stopped the run, its time was over, or its node is being emptied."
TERMINATED_STATUS = 128 + signal.SIGTERM

HandOn = Callable[[Manifest, str], Manifest]


class Record(BaseModel):
    """How one step ended."""

    model_config = ConfigDict(frozen=True)

    stage: str
    reason: str = ""
    """Why it failed; empty if it did not."""
    counts: Counts = {}
    folder: str = ""
    duration_s: float
    ended: str
    """UTC, ISO 8601."""


@contextlib.contextmanager
def step(stage: str, root: str) -> Iterator[HandOn]:
    """Wraps a component's body; yields a function that publishes its manifest, `publish_manifest(manifest, path)`.

    An error becomes its sentence and exit status 1, without traceback: ECHOPLANE_DEBUG=1 shows that. SIGTERM, by which
    Kubernetes ends a pod, becomes exit status 143; what the body's `finally` clauses do happens before that.
    """
    start, handed = time.monotonic(), list[Manifest]()

    def publish_manifest(manifest: Manifest, path: str) -> Manifest:
        manifest.write(path)
        handed.append(manifest)
        return manifest

    def write_record(reason: str = "") -> None:
        last = handed[-1] if handed else None
        record = Record(
            stage=stage,
            reason=reason,
            counts=last.counts if last else {},
            folder=last.folder if last else "",
            duration_s=round(time.monotonic() - start, 2),
            ended=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        with contextlib.suppress(OSError):  # a root that can't be written is what the step itself complains of
            _leave(record, root)

    write_record(KILLED)
    try:
        with _on_sigterm(lambda: write_record(TERMINATED)):
            yield publish_manifest
    except Exception as error:
        reason = wrong_field(error) if isinstance(error, ValidationError) else explained(error)
        write_record(reason)
        if os.environ.get("ECHOPLANE_DEBUG"):
            raise
        raise SystemExit(f"echoplane {stage}: {reason}") from None
    write_record()


@contextlib.contextmanager
def _on_sigterm(write_record: Callable[[], None]) -> Iterator[None]:
    """Writes the record in the handler itself: the container may be gone milliseconds after the signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pid = os.getpid()

    def end(*_: object) -> None:
        if os.getpid() == pid:  # a forked child inherits the handler
            write_record()
        raise SystemExit(TERMINATED_STATUS)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _leave(record: Record, root: str) -> None:
    run = os.environ.get(RUN_VARIABLE)
    name = f"{run}-{record.stage}-{os.getpid()}" if run else os.environ.get("KFP_POD_NAME", "")
    if name:
        write_atomically(Path(root) / RECORDS / f"{name}.json", record.model_dump_json(indent=1).encode())


def records(root: str | Path, run: str) -> list[Record]:
    """What the steps of `run` left, in the order of their ends."""
    found = [Record.model_validate_json(path.read_bytes()) for path in (Path(root) / RECORDS).glob(f"{run}-*.json")]
    return sorted(found, key=lambda record: record.ended)
