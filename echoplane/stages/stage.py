"""What every stage shares: its config, its done-manifest, its lock, and the watch on whoever started it.

A stage writes to `ROOT/<stage>/<key>.partial` and renames it to `ROOT/<stage>/<key>` when all is there; the key is
the digest of config, inputs and package source. The manifest inside is written last. A stage that finds its own
finished folder verifies every file's digest and answers from it: that is the one mechanism of resuming.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import psutil
from pydantic import BaseModel, ConfigDict

from echoplane.errors import ConfigError, StageError
from echoplane.files import file_sha256, write_atomically
from echoplane.renamed import AcceptsFormerNames
from echoplane.stages.outputs import Output, StageResult
from echoplane.tasks import sources_of_others

AnyOutput = TypeVar("AnyOutput", bound=BaseModel)
Counts = dict[str, Any]
LOCK_WAIT_S = 60
PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class From:
    """Marks a config field as the path of a manifest (a KFP artifact's, or `FOLDER/manifest.json`), or as several.

    Only manifests of these `stages` are accepted.
    """

    stages: tuple[str, ...]


StudiesManifest = Annotated[str, From(("phantom", "deid"))]
DatasetManifest = Annotated[str, From(("dataset",))]
BundleManifest = Annotated[str, From(("export",))]


class StageConfig(AcceptsFormerNames):
    """Settings of one stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    excluded_from_cache_key: ClassVar[frozenset[str]] = frozenset({"root"})
    """Fields that change where or how fast, but not what."""

    root: str
    """Folder under which all stages keep their data."""

    def input(self, name: str) -> "Manifest":
        """The manifest that field `name` is the path of."""
        (manifest,) = self.inputs(name)
        return manifest

    def inputs(self, name: str) -> list["Manifest"]:
        """The manifests that field `name` holds the paths of, none if it is unset.

        Raises ConfigError if one is no manifest, or is of a stage that the field does not accept.
        """
        given = getattr(self, name)
        paths = given if isinstance(given, list) else [given] if given else []
        return [_accepted(path, name, _origin(type(self), name)) for path in paths]


class Manifest(BaseModel):
    """What a stage hands to the next: where its data lie and what they are, never the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    stage: str
    key: str
    """Digest of config, inputs and package source."""
    digest: str
    """Digest of every output file's path and content."""
    folder: str
    counts: Counts
    """Figures for people; what a later stage decides on is in `output`."""
    output: Output | None = None
    """What later stages decide on."""
    set_aside: int = 0
    """Inputs that were quarantined or refused."""
    duration_s: float

    @property
    def path(self) -> Path:
        return Path(self.folder)

    def intact(self) -> bool:
        """Whether every file in the folder is as the stage left it."""
        return digest_of(file_digests(self.path)) == self.digest

    def stated(self, kind: type[AnyOutput]) -> AnyOutput:
        """The output, which must be of this kind; ConfigError if the manifest states none or another."""
        if not isinstance(self.output, kind):
            raise ConfigError(
                f"the manifest of `{self.stage}` does not state what is needed here ({kind.__name__}); "
                "it is of another version of echoplane. Run that stage again."
            )
        return self.output

    def write(self, path: str | Path) -> None:
        write_atomically(Path(path), self.model_dump_json(indent=1).encode())

    @classmethod
    def read(cls, path: str | Path, name: str = "a file that was given") -> "Manifest":
        """The manifest at `path`; ConfigError, which calls it `name`, where there is none."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{name} is not a stage's manifest; give the manifest.json of a finished stage."
            ) from error


def flat(counts: Counts) -> Iterator[tuple[str, Any]]:
    """Counts in one list: {"patients": {"train": 24}} gives "patients train", 24; what lies deeper is left out."""
    for name, value in counts.items():
        if isinstance(value, dict):
            yield from ((f"{name} {inner}", each) for inner, each in value.items() if not isinstance(each, dict))
        else:
            yield name, value


def ensure_folder(folder: Path, name: str) -> Path:
    """`folder`, made where it is not there; ConfigError, which calls it `name`, where it can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{name} can't be made ({error.strerror}); give a folder that can be written.") from None
    return folder


def run_stage(
    stage: str, config: StageConfig, work: Callable[[Path], StageResult], *, extra_cache_key: str = ""
) -> Manifest:
    """The manifest of `stage` under `config`: found finished and intact, or made by `work(folder)`.

    `work` fills the folder and returns its result; a folder that an interrupted run left behind is handed to it as it
    is, so that it may go on. `extra_cache_key` joins the key: what the config can't hold, such as a key's fingerprint.
    """
    key = stage_key(stage, config, extra_cache_key)
    final = Path(config.root).resolve() / stage / key[:16]
    die_with_runner()
    with one_writer(final):
        if found := _finished(final, key):
            return found
        _clear_away(final)
        return _make(stage, key, final, work)


def _make(stage: str, key: str, final: Path, work: Callable[[Path], StageResult]) -> Manifest:
    partial = final.with_name(f"{final.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    result = work(partial)
    files = file_digests(partial)
    manifest = Manifest(
        stage=stage,
        key=key,
        digest=digest_of(files),
        folder=str(final),
        counts=result.counts,
        output=result.output,
        set_aside=result.set_aside,
        duration_s=round(time.monotonic() - start, 2),
    )
    write_atomically(partial / "files.json", json.dumps(files, indent=0).encode())
    manifest.write(partial / "manifest.json")
    partial.replace(final)
    return manifest


def _finished(final: Path, key: str) -> Manifest | None:
    """The manifest of a finished folder whose files are all as they were."""
    if not (final / "manifest.json").exists():
        return None
    try:
        manifest = Manifest.read(final / "manifest.json").model_copy(update={"folder": str(final)})
    except ConfigError:
        return None
    return manifest if manifest.key == key and manifest.intact() else None


def _clear_away(final: Path) -> None:
    """Remove a damaged result; under a hidden name, since half of one would stand in the way of the new."""
    hidden = final.with_name(f".{final.name}.damaged")
    shutil.rmtree(hidden, ignore_errors=True)  # what an interrupted removal left
    if final.exists():
        final.replace(hidden)
        shutil.rmtree(hidden)


def stage_key(stage: str, config: StageConfig, extra: str = "") -> str:
    """Digest of stage, config (without `excluded_from_cache_key`), the inputs' digests and the package's source."""
    settings = config.model_dump(mode="json", exclude=set(config.excluded_from_cache_key))
    for name in manifest_fields(type(config)) - config.excluded_from_cache_key:
        settings[name] = [manifest.digest for manifest in config.inputs(name)]
    return digest_of([stage, settings, extra, package_digest()])


def manifest_fields(config: type[StageConfig]) -> set[str]:
    """The fields of a config that are paths of manifests."""
    return {name for name, field in config.model_fields.items() if any(isinstance(m, From) for m in field.metadata)}


def _origin(config: type[StageConfig], name: str) -> From:
    """Which stages the manifests of field `name` may be of."""
    (origin,) = (marker for marker in config.model_fields[name].metadata if isinstance(marker, From))
    return origin


def _accepted(path: str, name: str, origin: From) -> Manifest:
    manifest = Manifest.read(path, f"`{name}`")
    if manifest.stage not in origin.stages:
        wanted = " or ".join(f"`{stage}`" for stage in origin.stages)
        raise ConfigError(f"`{name}` is the manifest of another stage; one of {wanted} is needed.")
    return manifest


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under `folder` by relative path, without the manifest's own two."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.parent / path.name not in (folder / "manifest.json", folder / "files.json"):
            digests[str(path.relative_to(folder))] = file_sha256(path)
    return digests


def digest_of(value: Any) -> str:
    """SHA-256 of plain data in canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@functools.cache
def package_digest() -> str:
    """Digest of the source and data of the package and of registered tasks: edited code never meets an old result."""
    files = [p for p in sorted(PACKAGE.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
    named = [(str(p.relative_to(PACKAGE)), p) for p in files] + [(p.name, p) for p in sources_of_others()]
    return digest_of([[name, file_sha256(path)] for name, path in named])


@contextlib.contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a stage's folder; StageError where another run keeps it for longer than LOCK_WAIT_S.

    Each result has a lock of its own: runs with other settings, and the parts of one run, work side by side.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock").open("w")
    except OSError as error:
        raise ConfigError(
            f"`root` can't be written ({error.strerror}); give a folder that can. On Kubernetes: is the volume mounted "
            "there, and does its root belong to the group of the image's user?"
        ) from None
    with lock:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StageError(
                        f"another run has been making this very result for over {LOCK_WAIT_S} s; "
                        "wait for it to end, or give this run another root."
                    ) from None
                time.sleep(0.2)
        yield


@functools.cache
def die_with_runner() -> None:
    """End this process and its children when the runner named by ECHOPLANE_RUNNER_PID is gone.

    A killed runner would otherwise leave a step training on, beside the next run's.
    """
    runner = os.environ.get("ECHOPLANE_RUNNER_PID")
    if runner:
        threading.Thread(target=_watch, args=(psutil.Process(int(runner)),), daemon=True).start()


def _watch(runner: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        runner.wait()
    me = psutil.Process()
    for process in [*me.children(recursive=True), me]:
        with contextlib.suppress(psutil.Error):
            process.kill()
