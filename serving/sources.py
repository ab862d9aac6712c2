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
    """On what a bundle was evaluated, as `evaluation.json` or the version's tags say; the rest is not read here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    runtime: str
    precision: str
    threads: int = DEFAULT_THREADS


@dataclass(frozen=True)
class RunAs:
    """What the operator insists on; None follows the evaluation."""

    runtime: str | None = None
    precision: str | None = None
    threads: int | None = None

    def over(self, evaluated: Evaluated | None) -> Evaluated:
        """Serve as evaluated: another precision or number of threads gives other figures than were accepted."""
        base = evaluated or Evaluated(runtime="openvino", precision="auto")
        return Evaluated(
            runtime=self.runtime or base.runtime,
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
    kind: str

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
            digest = hashlib.sha256((folder / "bundle.json").read_bytes())
        except OSError:
            raise BundleError("there is no bundle.json in the configured folder.") from None
        evaluation = folder / EVALUATION
        content = evaluation.read_bytes() if evaluation.is_file() else b""
        digest.update(content)
        return Candidate(digest.hexdigest(), "", _evaluated(content), lambda: contextlib.nullcontext(folder))


def _evaluated(content: bytes) -> Evaluated | None:
    if not content:
        return None
    try:
        return Evaluated.model_validate_json(content)
    except ValidationError:
        raise BundleError(f"{EVALUATION} beside the bundle names no runtime and precision; evaluate again.") from None


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
