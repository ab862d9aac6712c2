"""Where a slot's models come from: a bundle folder, or the champion of an MLflow registry over HTTP."""

import contextlib
import functools
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from echoplane.adapters.registry import Registry, Version
from echoplane.errors import BundleError, ConfigError
from echoplane.runtimes import InferenceSettings, recorded_settings
from echoplane.settings import ServingSettings
from echoplane.tasks import names

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class ModelVersion:
    """A model that a slot could take. `key` differs from the key of any other; `folder()` gives the bundle's folder
    for as long as its context lasts; an empty `version` is named by the bundle's id."""

    key: str
    version: str
    evaluated: InferenceSettings
    folder: Callable[[], AbstractContextManager[Path]]


class Source(Protocol):
    @property
    def kind(self) -> str: ...

    def latest(self) -> ModelVersion:
        """What should answer now; EchoplaneError where there is nothing."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """A bundle folder; writing another bundle.json into it, or pointing a link elsewhere, is noticed."""

    path: Path
    kind: str = "folder"

    def latest(self) -> ModelVersion:
        folder = self.path.resolve()
        try:
            bundle_id = hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
        except OSError:
            raise BundleError("there is no bundle.json in the configured folder.") from None
        evaluated = evaluated_on(folder / EVALUATION, bundle_id)
        return ModelVersion(f"{bundle_id} {evaluated}", "", evaluated, lambda: contextlib.nullcontext(folder))


def evaluated_on(path: Path, bundle_id: str) -> InferenceSettings:
    """As `evaluation.json` at `path` says; the defaults where there is none for this bundle."""
    if not path.is_file():
        return InferenceSettings()
    try:
        evaluation = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError):
        raise BundleError(f"{EVALUATION} beside the bundle is no evaluation; evaluate again.") from None
    return recorded_settings(evaluation) if evaluation.get("bundle_id") == bundle_id else InferenceSettings()


@dataclass(frozen=True)
class RegistrySource:
    """The champion of a task. `registry` connects when it is first called: importing MLflow takes seconds."""

    task: str
    registry: Callable[[], Registry]
    kind: str = "registry"

    def latest(self) -> ModelVersion:
        version = self.registry().champion(self.task)
        if version is None:
            raise BundleError(f"the registry has no champion of {self.task}; promote a model.")
        evaluated = recorded_settings(version.tags)
        key = f"{version.number} {version.bundle_id} {evaluated}"
        return ModelVersion(key, version.number, evaluated, lambda: self._downloaded(version))

    @contextlib.contextmanager
    def _downloaded(self, version: Version) -> Iterator[Path]:
        """The bundle's folder while it is loaded; a loaded model needs no file."""
        with tempfile.TemporaryDirectory(prefix="echoplane-") as folder:
            yield self.registry().download(version, Path(folder) / "bundle").folder


def configured_sources(settings: ServingSettings) -> dict[str, Source]:
    """A source a task: its folder where one is given, else the registry where there is one."""
    sources: dict[str, Source] = {}
    for entry in filter(None, map(str.strip, settings.bundles.split(","))):
        task, _, folder = entry.rpartition("=")
        task = task or _task_of(Path(folder))
        if task in sources:
            raise ConfigError(f"ECHOPLANE_BUNDLES has two folders of {task}; one a task is served.")
        sources[_known(task)] = FolderSource(Path(folder))
    return _followed(settings) | sources if settings.mlflow_tracking_uri else sources


def _followed(settings: ServingSettings) -> dict[str, Source]:
    registry = functools.cache(lambda: Registry(settings.mlflow_tracking_uri))
    tasks = filter(None, map(str.strip, settings.tasks.split(",")))
    return {_known(task): RegistrySource(task, registry) for task in tasks}


def _known(task: str) -> str:
    if task not in names():
        raise ConfigError(f"there is no task {task!r}; expected one of {', '.join(names())}.")
    return task


def _task_of(folder: Path) -> str:
    """As its bundle.json says; the slot checks the rest."""
    try:
        return str(json.loads((folder / "bundle.json").read_bytes())["task"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            "a folder in ECHOPLANE_BUNDLES holds no readable bundle.json; write TASK=FOLDER to wait for one."
        ) from None
