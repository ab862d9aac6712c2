"""The tasks, by name. A fourth task is a fourth folder and a fourth line here."""

import importlib

from echoplane.errors import ConfigError
from echoplane.tasks.task import (
    Calibration,
    Label,
    Learning,
    Prepared,
    Result,
    Rows,
    Samples,
    Task,
    Thresholds,
    Truth,
    Validated,
    as_task,
)

__all__ = [
    "NAMES",
    "Calibration",
    "Label",
    "Learning",
    "Prepared",
    "Result",
    "Rows",
    "Samples",
    "Task",
    "Thresholds",
    "Truth",
    "Validated",
    "by_name",
    "learning",
]

_MODULES = {
    "echo-view-video": "echoplane.tasks.view_video",
    "echo-view-image": "echoplane.tasks.view_image",
    "cmr-segmentation": "echoplane.tasks.cmr_segmentation",
}
NAMES: tuple[str, ...] = tuple(_MODULES)


def by_name(name: str) -> Task:
    """The numpy half of task `name`."""
    return as_task(importlib.import_module(_module(name)))


def learning(name: str) -> Learning:
    """The torch half of task `name`; importing it imports torch."""
    return importlib.import_module(f"{_module(name)}.learning")


def _module(name: str) -> str:
    if name not in _MODULES:
        raise ConfigError(f"there is no task {name!r}; expected one of {', '.join(NAMES)}.")
    return _MODULES[name]
