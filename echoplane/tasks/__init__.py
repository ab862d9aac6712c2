"""Tasks by name. A further task is one package, and one line here or in the entry points of its distribution.

An installed distribution registers a task in the group `echoplane.tasks`: `name = "its.package"`.
"""

import functools
import importlib
import importlib.util
from importlib import metadata
from pathlib import Path

from echoplane.errors import ConfigError
from echoplane.tasks.task import (
    Calibration,
    Classification,
    Label,
    Learning,
    Measurement,
    Outputs,
    Prepared,
    Result,
    Rows,
    Samples,
    Segmentation,
    Task,
    Thresholds,
    Truth,
    Validated,
    as_task,
    probabilities_of,
    threshold_of,
)

__all__ = [
    "BUILT_IN",
    "Calibration",
    "Classification",
    "Label",
    "Learning",
    "Measurement",
    "Outputs",
    "Prepared",
    "Result",
    "Rows",
    "Samples",
    "Segmentation",
    "Task",
    "Thresholds",
    "Truth",
    "Validated",
    "by_name",
    "learning",
    "names",
    "outputs",
    "probabilities_of",
    "sources_of_others",
    "threshold_of",
]

_BUILT_IN = {
    "echo-view-video": "echoplane.tasks.view_video",
    "echo-view-image": "echoplane.tasks.view_image",
    "cmr-segmentation": "echoplane.tasks.cmr_segmentation",
}
BUILT_IN: tuple[str, ...] = tuple(_BUILT_IN)
GROUP = "echoplane.tasks"


def names() -> tuple[str, ...]:
    """Returns the names of the installed tasks, those of echoplane first."""
    return (*BUILT_IN, *(name for name in _others() if name not in _BUILT_IN))


def by_name(name: str) -> Task:
    """Returns the numpy half of task `name`."""
    return as_task(importlib.import_module(_module(name)))


def learning(name: str) -> Learning:
    """Returns the torch half of task `name`; importing it imports torch."""
    return importlib.import_module(f"{_module(name)}.learning")


def outputs(name: str) -> Outputs:
    """Returns the half of task `name` that writes its answers as DICOM. Raises ConfigError if it has none."""
    module = f"{_module(name)}.outputs"
    if importlib.util.find_spec(module) is None:
        raise ConfigError(f"answers of {name} with files cannot be written as DICOM: it has no package `outputs`.")
    return importlib.import_module(module)


def sources_of_others() -> list[Path]:
    """Returns the source files of tasks outside echoplane: they are part of the cache key, so that an edited file never
    reuses an old result."""
    found = [importlib.util.find_spec(module) for module in _others().values()]
    folders = [Path(spec.origin).parent for spec in found if spec and spec.origin]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


@functools.cache
def _others() -> dict[str, str]:
    """Returns the modules of tasks that other distributions register."""
    return {point.name: point.value for point in sorted(metadata.entry_points(group=GROUP))}


def _module(name: str) -> str:
    module = _BUILT_IN.get(name) or _others().get(name)
    if module is None:
        raise ConfigError(f"there is no task {name!r}; expected one of {', '.join(names())}.")
    return module
