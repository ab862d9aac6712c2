"""Sources of a slot's models: a bundle folder, or the champion of an MLflow registry over HTTP."""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from echoplane import bundle as bundles
from echoplane.adapters.registry import CHALLENGER, CHAMPION, Registry, Version
from echoplane.adapters.trust import ModelTrust
from echoplane.errors import BundleError, ConfigError
from echoplane.runtimes import InferenceSettings, recorded_settings
from echoplane.settings import ServingSettings
from echoplane.signing import Alias, Statement
from echoplane.tasks import names

EVALUATION = "evaluation.json"
LAST_GOOD, SEQUENCES = "last-good.json", "sequences.json"


class NoVersion(BundleError):
    """Raised if the registry has no version of the task under the alias."""


@dataclass(frozen=True)
class ModelVersion:
    """Model version that a slot could take. `key` is unique to it; `folder()` is a context that gives the bundle's
    folder; an empty `version` is named by the bundle's id."""

    key: str
    version: str
    evaluated: InferenceSettings
    folder: Callable[[], AbstractContextManager[Path]]
    record: Version | None = None
    """Registry's record of the version; None if the model is from a folder."""
    statement: Statement | None = None
    """Signed promotion of the version; None if it is from a folder, or unsigned and that is allowed."""


class Source(Protocol):
    @property
    def kind(self) -> str: ...

    def latest(self) -> ModelVersion:
        """Returns the version that should answer now. Raises EchoplaneError if there is none."""
        ...

    def last_good(self) -> ModelVersion | None:
        """Returns a kept copy of the last version that passed its checks, or None."""
        ...

    def keep(self, candidate: ModelVersion) -> None:
        """Record that `candidate` has passed its checks."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """Source that is a bundle folder; another bundle.json in it, or a link that points elsewhere, is noticed."""

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

    def last_good(self) -> None:
        """Returns None: the folder is the only copy."""

    def keep(self, candidate: ModelVersion) -> None:
        """Does nothing: the folder stays where it is."""


def evaluated_on(path: Path, bundle_id: str) -> InferenceSettings:
    """Returns the inference settings in `evaluation.json` at `path`, or the defaults if it has none for this bundle."""
    if not path.is_file():
        return InferenceSettings()
    try:
        evaluation = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError):
        raise BundleError(f"{EVALUATION} beside the bundle is no evaluation; evaluate again.") from None
    return recorded_settings(evaluation) if evaluation.get("bundle_id") == bundle_id else InferenceSettings()


@dataclass(frozen=True)
class RegistrySource:
    """Source that is the version of a task under an alias. `registry` connects when it is first called: importing
    MLflow takes seconds. With a `cache`, the last version that passed its checks is kept there, and answers after a
    start while the registry is unavailable."""

    task: str
    registry: Callable[[], Registry]
    alias: Alias = CHAMPION
    cache: Path | None = None
    kind: str = "registry"
    trust: ModelTrust = field(kw_only=True)

    def latest(self) -> ModelVersion:
        version = self.registry().by_alias(self.task, self.alias)
        if version is None:
            raise NoVersion(f"the registry has no {self.alias} of {self.task}; promote a model.")
        statement = self.trust.check(version, self.alias)
        return self._candidate(version, statement, lambda: self._downloaded(version, statement))

    def last_good(self) -> ModelVersion | None:
        """Returns the kept version, or None. Raises BundleError if its files are not those that were kept."""
        if self.cache is None or not (self.cache / LAST_GOOD).is_file():
            return None
        try:
            version = Version(**json.loads((self.cache / LAST_GOOD).read_bytes()))
        except (ValueError, TypeError):
            raise BundleError("the kept model's record cannot be read.") from None
        statement = self.trust.check(version, self.alias)
        return self._candidate(version, statement, lambda: contextlib.nullcontext(self._checked(version)))

    def keep(self, candidate: ModelVersion) -> None:
        """Records that `candidate`, whose files are in the cache, has passed its checks; deletes older ones."""
        if self.cache is not None and candidate.record is not None:
            self._keep(self.cache, candidate.record)
        self.trust.accepted(candidate.statement)

    def _keep(self, cache: Path, record: Version) -> None:
        temporary = cache / f".{LAST_GOOD}.{os.getpid()}"
        temporary.write_text(json.dumps(vars(record) | {"tags": dict(record.tags)}))
        temporary.replace(cache / LAST_GOOD)
        for folder in cache.iterdir():
            if folder.is_dir() and not folder.name.startswith(".") and folder.name != record.bundle_id:
                shutil.rmtree(folder, ignore_errors=True)

    def _candidate(
        self, version: Version, statement: Statement | None, folder: Callable[[], AbstractContextManager[Path]]
    ) -> ModelVersion:
        evaluated = recorded_settings(version.tags)
        signed = statement.sequence if statement else "unsigned"
        key = f"{version.number} {version.bundle_id} {evaluated} {signed}"
        return ModelVersion(key, version.number, evaluated, folder, version, statement)

    @contextlib.contextmanager
    def _downloaded(self, version: Version, statement: Statement | None) -> Iterator[Path]:
        """Yields the bundle's folder while it is loaded; a loaded model needs no file."""
        self.trust.check_evidence(self.registry(), version, statement)
        if self.cache is None:
            with tempfile.TemporaryDirectory(prefix="echoplane-") as temporary:
                yield self.registry().download(version, Path(temporary) / "bundle").folder
            return
        self.cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            folder = self._checked(version)
        except BundleError:
            folder = self.registry().download(version, self.cache / version.bundle_id).folder
        yield folder

    def _checked(self, version: Version) -> Path:
        """Returns the kept bundle's folder, every digest checked. Raises BundleError if it is not that version's."""
        folder = (self.cache or Path()) / version.bundle_id
        if bundles.read(folder).id != version.bundle_id:
            raise BundleError("the kept bundle is not the one that was kept; it is fetched again.")
        return folder


def configured_sources(settings: ServingSettings) -> dict[str, Source]:
    """Returns one source per task: its folder if one is given, else the registry if there is one."""
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
    cache = Path(settings.model_cache) if settings.model_cache else None
    tasks = [_known(task) for task in filter(None, map(str.strip, settings.tasks.split(",")))]
    trust = _trust(settings)
    return {task: RegistrySource(task, registry, cache=cache / task if cache else None, trust=trust) for task in tasks}


def configured_challengers(settings: ServingSettings, tasks: Iterable[str]) -> dict[str, RegistrySource]:
    """Returns the source of each task's challenger; empty without a registry, or if shadow traffic is off."""
    if not settings.mlflow_tracking_uri or not settings.shadow_share:
        return {}
    registry = functools.cache(lambda: Registry(settings.mlflow_tracking_uri))
    trust = _trust(settings)
    return {task: RegistrySource(task, registry, CHALLENGER, trust=trust) for task in tasks}


def _trust(settings: ServingSettings) -> ModelTrust:
    """Returns the trust in registered versions, which remembers accepted promotions beside the kept models."""
    memory = Path(settings.model_cache) / SEQUENCES if settings.model_cache else None
    return ModelTrust.configured(settings.trusted_keys, settings.allow_unsigned_models, memory)


def _known(task: str) -> str:
    if task not in names():
        raise ConfigError(f"there is no task {task!r}; expected one of {', '.join(names())}.")
    return task


def _task_of(folder: Path) -> str:
    """Returns the task in the folder's bundle.json; the slot checks the rest. Raises ConfigError, which names the
    folder, if it can't be read."""
    try:
        return str(json.loads((folder / "bundle.json").read_bytes())["task"])
    except (OSError, ValueError, KeyError, TypeError):
        wrong = "holds no readable bundle.json" if folder.is_dir() else "is not a folder that can be read"
        raise ConfigError(
            f"ECHOPLANE_BUNDLES: {folder} {wrong}; give the folder of a bundle, or TASK={folder} to wait for one."
        ) from None
