"""Where a slot's models come from: a bundle folder, or the champion of an MLflow registry over HTTP."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from echoplane.errors import BundleError, ConfigError
from echoplane.runtimes import DEFAULT_THREADS
from echoplane.settings import ServingSettings
from echoplane.tasks import NAMES

EVALUATION = "evaluation.json"


class Evaluated(BaseModel):
    """The runtime that a bundle was evaluated on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    precision: str
    threads: int = DEFAULT_THREADS


class Evaluation(BaseModel):
    """What is read here of `evaluation.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    bundle_id: str
    runtime: Evaluated


@dataclass(frozen=True)
class RunAs:
    """What the operator insists on; None follows the evaluation."""

    runtime: str | None = None
    precision: str | None = None
    threads: int | None = None

    def over(self, evaluated: Evaluated | None) -> Evaluated:
        """Serve as evaluated: another precision or number of threads gives other figures than were accepted."""
        base = evaluated or Evaluated(name="openvino", precision="auto")
        return Evaluated(
            name=self.runtime or base.name,
            precision=self.precision or base.precision,
            threads=self.threads or base.threads,
        )


@dataclass(frozen=True)
class Candidate:
    """A model that a slot could take. `key` differs from the key of any other; `folder()` gives the bundle's folder
    for as long as its context lasts; an empty `version` is named by the bundle's id."""

    key: str
    version: str
    evaluated: Evaluated | None
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
        key = f"{bundle_id} {evaluated}"
        return Candidate(key, "", evaluated, lambda: contextlib.nullcontext(folder))


def evaluated_on(path: Path, bundle_id: str) -> Evaluated | None:
    """The runtime that `evaluation.json` at `path` names; None where there is no such file for this bundle."""
    if not path.is_file():
        return None
    try:
        evaluation = Evaluation.model_validate_json(path.read_bytes())
    except ValidationError:
        raise BundleError(f"{EVALUATION} beside the bundle names no runtime and precision; evaluate again.") from None
    return evaluation.runtime if evaluation.bundle_id == bundle_id else None


def configured_sources(settings: ServingSettings) -> dict[str, Source]:
    """A source a task: its folder where one is given, else the registry where there is one."""
    sources: dict[str, Source] = {}
    for entry in filter(None, map(str.strip, settings.bundles.split(","))):
        task, _, folder = entry.rpartition("=")
        task = task or _task_of(Path(folder))
        if task in sources:
            raise ConfigError(f"ECHOPLANE_BUNDLES has two folders of {task}; one a task is served.")
        sources[_known(task)] = FolderSource(Path(folder))
    return sources


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
