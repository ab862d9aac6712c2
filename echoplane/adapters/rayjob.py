"""Trains on a Ray cluster of Kubernetes: a RayJob (KubeRay, ray.io/v1) of head and workers, followed to its end.

The job's pods and this one share a volume. Settings are passed in `job.json`; log, progress and weights come back in
files beside it, so the step needs no permission except for its RayJobs. If a job loses its head, KubeRay starts it
again and it continues from the last checkpoint. The RayJob is deleted however this call ends. If this process is killed
and cannot delete it (out of memory; a terminated run, whose pod Kubeflow keeps), the driver notices that its heartbeat
stops, and ends.

The RayJob runs this module as a program (`python -m echoplane.adapters.rayjob FOLDER`).
"""

import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from echoplane.adapters.ray_manifest import GROUP, KIND, LOG, VERSION, RayCluster, rayjob
from echoplane.adapters.ray_training import Job, Progress, fit, told
from echoplane.bundle.spec import WEIGHTS
from echoplane.errors import ConfigError, StageError
from echoplane.training.checkpoint import State, read_state, write_state

POLL_S = 2.0
LOST_S = 60.0
"""Maximum time in seconds for which the API server may be unavailable."""
FORGOTTEN_S = 300.0
"""Time in seconds without a heartbeat of the step after which the weights are no longer wanted."""
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
JOB, RESULT, ALIVE, FAILED = "job.json", "result", "alive", "failed.txt"
"""Names of files beside the checkpoints. FAILED holds the reason why another head would fail as well, since KubeRay
retries in any case."""

log = logging.getLogger(__name__)


def fit_on_cluster(
    job: Job, storage: Path, *, cluster: RayCluster, workers: int, gpu: bool, on_progress: Progress
) -> State:
    """Trains like `fit`, in a RayJob in this pod's namespace. Raises StageError with the reason if it fails."""
    storage.mkdir(parents=True, exist_ok=True)
    if job.start_from:  # the job's pods mount of the volume the data set and this folder alone
        shutil.copyfile(Path(job.start_from) / WEIGHTS, storage / WEIGHTS)
        job = job.model_copy(update={"start_from": str(storage)})
    asked = {"job": job.model_dump(mode="json"), "workers": workers, "fewest": cluster.min_workers, "gpu": gpu}
    (storage / JOB).write_text(json.dumps(asked))
    (storage / FAILED).unlink(missing_ok=True)
    name = f"echoplane-train-{storage.parent.name[:16].lower()}"
    with told(storage, job.training.steps, on_progress), _ended_by_sigterm():
        api, namespace = _api()
        with _created(api, namespace, rayjob(name, storage, Path(job.samples), cluster, workers, gpu)):
            _follow(api, namespace, name, storage / LOG)
    return read_state(storage / RESULT)


def _api() -> tuple[Any, str]:
    """Returns the client for custom objects of this pod's cluster, and the pod's namespace."""
    from kubernetes import client, config

    try:
        config.load_incluster_config()
        return client.CustomObjectsApi(), NAMESPACE_FILE.read_text().strip()
    except (config.ConfigException, OSError):
        raise ConfigError(
            "`cluster` is set, but this process runs in no pod with a service account: run it as a pipeline step, "
            "or leave `cluster` out to train here."
        ) from None


@contextlib.contextmanager
def _created(api: Any, namespace: str, body: dict[str, Any]) -> Iterator[None]:
    """Creates the RayJob `body` and deletes it afterwards; one that an earlier call left behind is deleted first."""
    name = body["metadata"]["name"]
    _delete(api, namespace, name)
    api.create_namespaced_custom_object(GROUP, VERSION, namespace, KIND, body)
    try:
        yield
    finally:
        try:
            _delete(api, namespace, name)
        except StageError as error:  # the weights are there, or the reason of the failure is on its way
            log.warning("%s", error)


def _delete(api: Any, namespace: str, name: str) -> None:
    """Deletes the RayJob with its pods, and waits until it is gone."""
    from kubernetes.client import ApiException

    deadline = time.monotonic() + LOST_S
    while time.monotonic() < deadline:
        try:
            api.delete_namespaced_custom_object(GROUP, VERSION, namespace, KIND, name, propagation_policy="Foreground")
        except ApiException as error:
            if error.status == 404:
                return
            log.warning("deleting RayJob %s: status %s", name, error.status)
        time.sleep(POLL_S)
    raise StageError(f"RayJob {name} is not gone after {LOST_S:.0f} s; delete it with kubectl and start again.")


def _follow(api: Any, namespace: str, name: str, log_file: Path) -> None:
    """Prints the driver's log until the job is complete. Raises StageError with the reason if it failed."""
    shown, stage, heard = log_file.stat().st_size if log_file.exists() else 0, "", time.monotonic()
    while True:
        _give_sign_of_life(log_file.parent)
        try:
            status = api.get_namespaced_custom_object(GROUP, VERSION, namespace, KIND, name).get("status", {})
            heard = time.monotonic()
        except Exception as error:  # an API server that restarts is no reason to abort a training run
            if getattr(error, "status", None) == 404 or time.monotonic() - heard > LOST_S:
                raise StageError(f"RayJob {name} can't be read any more ({type(error).__name__}).") from error
            status = {}
        shown = _pass_on(log_file, shown)
        if (now := status.get("jobDeploymentStatus", "")) and now != stage:
            stage = now
            _say(f"RayJob {name}: {stage}")
        if stage == "Complete" and status.get("jobStatus") == "SUCCEEDED":
            return
        if (log_file.parent / FAILED).exists():
            raise StageError((log_file.parent / FAILED).read_text())
        if stage in ("Complete", "Failed"):
            raise StageError(f"RayJob {name} failed: {_reason(status)}")
        time.sleep(POLL_S)


def _give_sign_of_life(storage: Path) -> None:
    with contextlib.suppress(OSError):  # a full volume is reported by whatever needs it
        (storage / ALIVE).write_text(str(time.time()))


def _end_when_forgotten(storage: Path) -> None:
    """Ends the driver if the step's heartbeat does not change. The clocks of two nodes are not compared."""
    seen, since = "", time.monotonic()
    while time.monotonic() - since < FORGOTTEN_S:
        time.sleep(POLL_S)
        with contextlib.suppress(OSError):
            if (now := (storage / ALIVE).read_text()) != seen:
                seen, since = now, time.monotonic()
    _say(f"the step that asked for this has given no sign of life for {FORGOTTEN_S:.0f} s: training ends.")
    os._exit(1)  # called from a thread; the checkpoints are kept


def _reason(status: dict[str, Any]) -> str:
    said = [str(status[key]) for key in ("jobStatus", "reason", "message") if status.get(key)]
    return ", ".join(said) or "it gave no reason"


def _pass_on(log_file: Path, shown: int) -> int:
    """Prints what was added to the log after byte `shown`; returns the number of bytes printed in total."""
    if not log_file.exists():
        return shown
    with log_file.open("rb") as file:
        file.seek(shown)
        added = file.read()
    sys.stdout.write(added.decode(errors="replace"))
    sys.stdout.flush()
    return shown + len(added)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Turns SIGTERM into an exception, so that the RayJob is deleted before exit. A step installs such a handler
    itself."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(*_: object) -> None:
        raise StageError("training was terminated (SIGTERM).")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _telling_of_losses() -> Progress:
    """Returns a progress function that logs where training resumes after a worker or the head was lost: when it starts,
    the first worker has no loss."""
    most = 0
    last: tuple[int, float | None] = (0, None)

    def tell(done: int, total: int, loss: float | None) -> None:
        nonlocal most, last
        if done and loss is None and (done, loss) != last:
            _say(f"training goes on from step {done} of {total}: {max(most - done, 0)} steps are made again")
        most, last = done, (done, loss)

    return tell


def drive(storage: Path) -> None:
    """Runs inside the RayJob: trains on its cluster, and writes the weights to where the step finds them."""
    asked = json.loads((storage / JOB).read_text())
    job = Job(**asked["job"])
    threading.Thread(target=_end_when_forgotten, args=(storage,), daemon=True).start()
    tell = _telling_of_losses()
    try:
        state = fit(job, storage, workers=asked["workers"], fewest=asked["fewest"], gpu=asked["gpu"], on_progress=tell)
    except StageError as error:
        (storage / FAILED).write_text(str(error))
        raise
    (storage / RESULT).mkdir(exist_ok=True)
    write_state(state, storage / RESULT)
    _say(f"trained {state.steps} steps")


if __name__ == "__main__":
    drive(Path(sys.argv[1]))
