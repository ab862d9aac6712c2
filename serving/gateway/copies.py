"""Copies of complete studies for training, in a folder that the de-identification reads.

They still identify the patient: only a process that holds the de-identification key turns them into training data, and
the gateway does not hold it. The name of a copy ends with the ids of the requests in which the service was asked about
it, so that what people say of the answers finds it (`echoplane.stages.labels`).
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from echoplane.files import replacing
from serving.gateway.store import Instance, Study, sync_folder


def copy_study(folder: Path, study: Study, instances: list[Instance]) -> int:
    """Copies the instances that are not in the study's folder yet; returns how many. The names are random."""
    target = folder / study.id
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    count = 0
    for instance in instances:
        if _copy_of(target, instance) is None:
            with instance.path.open("rb") as source, replacing(target / f"{instance.path.name}.dcm", 0o600) as file:
                shutil.copyfileobj(source, file)
            count += 1
    sync_folder(target)
    return count


def name_requests(folder: Path, study: Study, instance: Instance, request_ids: Sequence[str]) -> None:
    """Adds the ids of requests to the name of an instance's copy, if there is one: NAME_ID_ID.dcm."""
    copy = _copy_of(folder / study.id, instance)
    if copy:
        copy.replace(copy.with_name("_".join([instance.path.name, *sorted(set(request_ids))]) + ".dcm"))


def _copy_of(target: Path, instance: Instance) -> Path | None:
    return next((path for path in target.glob(f"{instance.path.name}*.dcm")), None)
