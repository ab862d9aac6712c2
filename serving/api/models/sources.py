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
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.adapters.registry import Registry, Version
from echoplane.errors import BundleError, ConfigError
from echoplane.runtimes import DEFAULT_THREADS
from echoplane.settings import ServingSettings
from echoplane.tasks import NAMES

EVALUATION = "evaluation.json"


class Evaluated(BaseModel):
    """On what a bundle was evaluated: read from `evaluation.json` or a registered version's tags."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    runtime: Literal["openvino", "onnxruntime"] = "openvino"
    precision: Literal["auto", "f32", "bf16"] = "auto"
    threads: int = Field(default=DEFAULT_THREADS, ge=1)
    bundle_id: str = ""


@dataclass(frozen=True)
class RunAs:
    """What the operator insists on; None follows the evaluation."""

    runtime: str | None = None
    precision: str | None = None
    threads: int | None = None

    def over(self, evaluated: Evaluated) -> Evaluated:
        """Serve as evaluated: another precision or number of threads gives other figures than were accepted."""
        insisted = {name: value for name, value in vars(self).items() if value is not None}
        return evaluated.model_copy(update=insisted)


@dataclass(frozen=True)
class Candidate:
    """A model that a slot could take. `key` differs from the key of any other; `folder()` gives the bundle's folder
    for as long as its context lasts; an empty `version` is named by the bundle's id."""

    key: str
    version: str
    evaluated: Evaluated
    folder: Callable[[], AbstractContextManager[Path]]


class Source(Protocol):
    @property
    def kind(self) -> str: ...

    def newest(self) -> Candidate:
        """What should answer now; EchoplaneError where there is nothing."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """A bundle folder; writing another bundle.json into it, or pointing a link elsewhere, is noticed."""

    path: Path
    kind: str = "folder"

    def newest(self) -> Candidate:
        folder = self.path.resolve()
        try:
            bundle_id = hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
        except OSError:
            raise BundleError("there is no bundle.json in the configured folder.") from None
        evaluated = evaluated_on(folder / EVALUATION, bundle_id)
        return Candidate(f"{bundle_id} {evaluated}", "", evaluated, lambda: contextlib.nullcontext(folder))


def evaluated_on(path: Path, bundle_id: str) -> Evaluated:
    """As `evaluation.json` at `path` says; the defaults where there is none for this bundle."""
    if not path.is_file():
        return Evaluated()
    try:
        evaluated = Evaluated.model_validate_json(path.read_bytes())
    except ValidationError:
        raise BundleError(f"{EVALUATION} beside the bundle names no runtime and precision; evaluate again.") from None
    return evaluated if evaluated.bundle_id == bundle_id else Evaluated()


@dataclass(frozen=True)
class RegistrySource:
    """The champion of a task. `registry` connects when it is first called: importing MLflow takes seconds."""

    task: str
    registry: Callable[[], Registry]
    kind: str = "registry"

    def newest(self) -> Candidate:
        version = self.registry().champion(self.task)
        if version is None:
            raise BundleError(f"the registry has no champion of {self.task}; promote a model.")
        try:
            evaluated = Evaluated.model_validate(version.tags)
        except ValidationError:
            raise BundleError(f"the tags of version {version.number} name no runtime and precision.") from None
        key = f"{version.number} {version.bundle_id} {evaluated}"
        return Candidate(key, version.number, evaluated, lambda: self._downloaded(version))

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
    if task not in NAMES:
        raise ConfigError(f"there is no task {task!r}; expected one of {', '.join(NAMES)}.")
    return task


def _task_of(folder: Path) -> str:
    """As its bundle.json says; the slot checks the rest."""
    try:
        return str(json.loads((folder / "bundle.json").read_bytes())["task"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            "a folder in ECHOPLANE_BUNDLES holds no readable bundle.json; write TASK=FOLDER to wait for one."
        ) from None
