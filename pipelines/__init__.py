"""Pipelines by name: one definition each, for kfp.local on one machine and for Kubeflow on a cluster."""

import importlib
from typing import Any

from echoplane.errors import ConfigError

_MODULES = {
    "echo-view": "pipelines.echo_view",
    "cmr": "pipelines.cmr",
    "batch-inference": "pipelines.batch_inference",
}
NAMES: tuple[str, ...] = tuple(_MODULES)


def by_name(name: str) -> Any:
    """Returns the pipeline `name` as KFP knows it."""
    if name not in _MODULES:
        raise ConfigError(f"there is no pipeline {name!r}; expected one of {', '.join(NAMES)}.")
    return importlib.import_module(_MODULES[name]).pipeline
