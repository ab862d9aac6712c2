"""Copies of complete studies for training, in a folder that the de-identification reads.

They still identify the patient: only a process that holds the de-identification key turns them into training data, and
the gateway does not hold it.
"""

import shutil
from pathlib import Path

from echoplane.files import replacing
from serving.gateway.store import Instance, Study, sync_folder


def copy_study(folder: Path, study: Study, instances: list[Instance]) -> int:
    """Copies the instances that are not in the study's folder yet; returns how many. The names are random."""
    target = folder / study.id
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    count = 0
    for instance in instances:
        path = target / f"{instance.path.name}.dcm"
        if not path.exists():
            with instance.path.open("rb") as source, replacing(path, 0o600) as file:
                shutil.copyfileobj(source, file)
            count += 1
    sync_folder(target)
    return count
