"""A stage as a step of a pipeline: errors in a sentence, and a record of what became of it.

Kubeflow 2.17 tells an exit handler that something failed, never what or why. So each step leaves `RECORDS/POD.json`
under the root, and the run's last step, `ended`, reads the records of its run. A step that was killed leaves none.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from echoplane.errors import explained, wrong_field
from echoplane.stages.stage import Counts, Manifest, write_atomically

RECORDS = "runs"
RUN_VARIABLE = "ECHOPLANE_RUN"
"""Names the run on one machine. On a cluster pods are named after their run, and KFP_POD_NAME says how."""

HandOn = Callable[[Manifest, str], Manifest]


class Record(BaseModel):
    """What became of one step."""

    model_config = ConfigDict(frozen=True)

    stage: str
    reason: str = ""
    """Why it failed; empty where it did not."""
    counts: Counts = {}
    folder: str = ""
    duration_s: float
    ended: str
    """UTC, ISO 8601."""


@contextlib.contextmanager
def step(stage: str, root: str) -> Iterator[HandOn]:
    """Around a component's body; yields what hands its manifest on: `hand_on(manifest, artifact.path)`.

    An error becomes its sentence and exit status 1, without traceback: ECHOPLANE_DEBUG=1 shows that.
    """
    start, handed = time.monotonic(), list[Manifest]()

    def hand_on(manifest: Manifest, path: str) -> Manifest:
        manifest.write(path)
        handed.append(manifest)
        return manifest

    def leave(reason: str = "") -> None:
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

    try:
        yield hand_on
    except Exception as error:
        reason = wrong_field(error) if isinstance(error, ValidationError) else explained(error)
        leave(reason)
        if os.environ.get("ECHOPLANE_DEBUG"):
            raise
        raise SystemExit(f"echoplane {stage}: {reason}") from None
    leave()


def _leave(record: Record, root: str) -> None:
    run = os.environ.get(RUN_VARIABLE)
    name = f"{run}-{record.stage}-{os.getpid()}" if run else os.environ.get("KFP_POD_NAME", "")
    if name:
        write_atomically(Path(root) / RECORDS / f"{name}.json", record.model_dump_json(indent=1).encode())


def records(root: str | Path, run: str) -> list[Record]:
    """What the steps of `run` left, in the order of their ends."""
    found = [Record.model_validate_json(path.read_bytes()) for path in (Path(root) / RECORDS).glob(f"{run}-*.json")]
    return sorted(found, key=lambda record: record.ended)
