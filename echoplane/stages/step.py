"""A stage as a step of a pipeline: errors become one sentence, and a record of the outcome is written.

Kubeflow 2.17 tells an exit handler that something failed, but not what or why. So each step writes `RECORDS/POD.json`
under the root, and the run's last step, `ended`, reads the records of its run. The record is written at the step's
start and says, until the step ends, that it was killed: a step that gets signal 9 can write nothing more.
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
from echoplane.stages.outputs import AnyOutput, Counts, Output, stated
from echoplane.stages.stage import Manifest

RECORDS = "runs"
RUN_VARIABLE = "ECHOPLANE_RUN"
"""Variable that names the run on one machine. On a cluster the pod's name in KFP_POD_NAME begins with that of its
run."""

KILLED = (
    "did not come to its end: it was killed (memory, time limit, node), or its run was terminated. "
    "`kubectl describe pod` names the cause while the pod is there."
)
TERMINATED = "was terminated (SIGTERM): somebody stopped the run, its time was over, or its node is being emptied."
TERMINATED_STATUS = 128 + signal.SIGTERM

HandOn = Callable[[Manifest, str], Manifest]


class Record(BaseModel):
    """Outcome of one step."""

    model_config = ConfigDict(frozen=True)

    stage: str
    reason: str = ""
    """Reason of a failure; empty if it succeeded."""
    counts: Counts = {}
    """Figures for people."""
    output: Output | None = None
    """Typed output of the stage, on which the last step decides."""
    folder: str = ""
    duration_s: float
    ended: str
    """Time of the end, UTC, ISO 8601."""

    def stated(self, kind: type[AnyOutput]) -> AnyOutput:
        """Returns the output, which must be of this kind. Raises ConfigError if the record has none or another."""
        return stated(self.output, kind, self.stage)


@contextlib.contextmanager
def step(stage: str, root: str) -> Iterator[HandOn]:
    """Wraps a component's body; yields a function that publishes its manifest, `publish_manifest(manifest, path)`.

    An error becomes one sentence and exit status 1, without traceback; ECHOPLANE_DEBUG=1 shows it. SIGTERM, by which
    Kubernetes ends a pod, becomes exit status 143, after the `finally` clauses of the body.
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
            output=last.output if last else None,
            folder=last.folder if last else "",
            duration_s=round(time.monotonic() - start, 2),
            ended=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        with contextlib.suppress(OSError):  # if the root is not writable, the step itself reports that
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
    """Writes the record in the signal handler itself: the container may be gone milliseconds after the signal."""
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
    """Returns the records of the steps of `run`, in the order of their ends."""
    found = [Record.model_validate_json(path.read_bytes()) for path in (Path(root) / RECORDS).glob(f"{run}-*.json")]
    return sorted(found, key=lambda record: record.ended)
