"""The parts that all stages share: config, manifest and lock.

A stage writes to `ROOT/<stage>/<key>.partial` and renames it to `ROOT/<stage>/<key>` when it is complete; the key is
the digest of config, inputs and package source. The manifest inside is written last. A stage that finds its own
finished folder verifies every file's digest and returns that result: this is the only mechanism of resuming.
"""

import contextlib
import fcntl
import functools
import json
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from echoplane.errors import ConfigError, StageError
from echoplane.files import digest_of, file_sha256, write_atomically
from echoplane.parent import end_with_parent
from echoplane.renamed import AcceptsFormerNames
from echoplane.stages.manifest_key import code_of, is_valid, manifest_key
from echoplane.stages.outputs import AnyOutput, Counts, Output, StageResult, stated
from echoplane.tasks import sources_of_others

CODE = "code"
"""Name of the code of a manifest in its file."""
LOCK_WAIT_S = 60
PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class From:
    """Marks a config field as the path of a manifest (a KFP artifact's, or `FOLDER/manifest.json`), or as several.

    Only manifests of these `stages` are accepted.
    """

    stages: tuple[str, ...]


StudiesManifest = Annotated[str, From(("phantom", "ingest", "deid"))]
DatasetManifest = Annotated[str, From(("dataset",))]
BundleManifest = Annotated[str, From(("export",))]


class StageConfig(AcceptsFormerNames):
    """Settings of one stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    excluded_from_cache_key: ClassVar[frozenset[str]] = frozenset({"root"})
    """Fields that change where or how fast a stage runs, but not its result."""

    root: str
    """Folder under which all stages keep their data."""

    def input(self, name: str) -> "Manifest":
        """Returns the manifest at the path in field `name`."""
        (manifest,) = self.inputs(name)
        return manifest

    def inputs(self, name: str) -> list["Manifest"]:
        """Returns the manifests at the paths in field `name`; empty if it is unset.

        Raises ConfigError if one is no manifest, or is of a stage that the field does not accept.
        """
        given = getattr(self, name)
        paths = given if isinstance(given, list) else [given] if given else []
        return [_accepted(path, name, _origin(type(self), name)) for path in paths]


class Manifest(BaseModel):
    """Description of a stage's result for the next stage: location and digests of the data, never the data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    stage: str
    key: str
    """Digest of config, inputs and package source."""
    digest: str
    """Digest of every output file's path and content."""
    folder: str
    counts: Counts
    """Figures for people; later stages base decisions on `output`."""
    output: Output | None = None
    """Typed output on which later stages base decisions."""
    set_aside: int = 0
    """Inputs that were quarantined or refused."""
    apart: tuple[str, ...] = ()
    """Folders of the output that no later step may read; the digest does not cover them."""
    duration_s: float

    @property
    def path(self) -> Path:
        return Path(self.folder)

    def intact(self) -> bool:
        """Returns True if every file in the folder is as the stage left it."""
        return digest_of(file_digests(self.path, self.apart)) == self.digest

    def stated(self, kind: type[AnyOutput]) -> AnyOutput:
        """Returns the output, which must be of this kind. Raises ConfigError if the manifest has none or another."""
        return stated(self.output, kind, self.stage)

    def write(self, path: str | Path) -> None:
        """Writes the manifest, with its code if the installation has a key for manifests."""
        content, key = self.model_dump(mode="json"), manifest_key()
        coded = {CODE: code_of(_keyed_content(content), key)} if key else {}
        write_atomically(Path(path), json.dumps(content | coded, indent=1).encode())

    @classmethod
    def read(cls, path: str | Path, name: str = "a file that was given") -> "Manifest":
        """Reads the manifest at `path`. Raises ConfigError, which calls the file `name`, if it is not a manifest, or
        was not made under this installation's key."""
        try:
            content = json.loads(Path(path).read_bytes())
            code = content.pop(CODE, None)
            manifest = cls.model_validate(content)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{name} is not a stage's manifest; give the manifest.json of a finished stage."
            ) from error
        key = manifest_key()
        if key and not is_valid(code, _keyed_content(content), key):
            raise ConfigError(
                f"{name} was edited, or made without this installation's key for manifests; run its stage "
                f"(`{manifest.stage}`) again."
            )
        return manifest


def _keyed_content(content: dict[str, Any]) -> bytes:
    """Returns what the code of a manifest covers: all of its file but the folder, which changes when a volume is
    mounted elsewhere. A file without the fields of a newer version keeps its code."""
    return json.dumps({name: value for name, value in content.items() if name != "folder"}, sort_keys=True).encode()


def flat(counts: Counts) -> Iterator[tuple[str, Any]]:
    """Yields counts as one list: {"patients": {"train": 24}} gives "patients train", 24; deeper levels are left out."""
    for name, value in counts.items():
        if isinstance(value, dict):
            yield from ((f"{name} {inner}", each) for inner, each in value.items() if not isinstance(each, dict))
        else:
            yield name, value


def ensure_folder(folder: Path, name: str) -> Path:
    """Returns `folder`, made if absent. Raises ConfigError, which calls it `name`, if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{name} can't be made ({error.strerror}); give a folder that can be written.") from None
    return folder


def run_stage(
    stage: str, config: StageConfig, work: Callable[[Path], StageResult], *, extra_cache_key: str = ""
) -> Manifest:
    """Returns the manifest of `stage` under `config`: found finished and intact, or made by `work(folder)`.

    `work` fills the folder and returns its result; it receives the folder of an interrupted run unchanged, so that it
    may resume. `extra_cache_key` joins the cache key: what the config cannot hold, such as the fingerprint of a secret
    key.
    """
    key = stage_key(stage, config, extra_cache_key)
    final = Path(config.root).resolve() / stage / key[:16]
    end_with_parent()  # a step of a killed runner would keep training, beside the next run's
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
    """Returns the manifest of a finished folder; None if there is none or a file has changed."""
    if not (final / "manifest.json").exists():
        return None
    try:
        manifest = Manifest.read(final / "manifest.json").model_copy(update={"folder": str(final)})
    except ConfigError:
        return None
    return manifest if manifest.key == key and manifest.intact() else None


def _clear_away(final: Path) -> None:
    """Removes a damaged result, first renaming it to a hidden name: a half-removed one would block the new result."""
    hidden = final.with_name(f".{final.name}.damaged")
    shutil.rmtree(hidden, ignore_errors=True)  # left by an interrupted removal
    if final.exists():
        final.replace(hidden)
        shutil.rmtree(hidden)


def stage_key(stage: str, config: StageConfig, extra: str = "") -> str:
    """Returns the digest of stage, config (without `excluded_from_cache_key`), the inputs' digests and the package's
    source."""
    settings = config.model_dump(mode="json", exclude=set(config.excluded_from_cache_key))
    for name in manifest_fields(type(config)) - config.excluded_from_cache_key:
        settings[name] = [manifest.digest for manifest in config.inputs(name)]
    return digest_of([stage, settings, extra, package_digest()])


def manifest_fields(config: type[StageConfig]) -> set[str]:
    """Returns the fields of a config that are paths of manifests."""
    return {name for name, field in config.model_fields.items() if any(isinstance(m, From) for m in field.metadata)}


def _origin(config: type[StageConfig], name: str) -> From:
    """Returns the marker with the stages whose manifests field `name` accepts."""
    (origin,) = (marker for marker in config.model_fields[name].metadata if isinstance(marker, From))
    return origin


def _accepted(path: str, name: str, origin: From) -> Manifest:
    manifest = Manifest.read(path, f"`{name}`")
    if manifest.stage not in origin.stages:
        wanted = " or ".join(f"`{stage}`" for stage in origin.stages)
        raise ConfigError(f"`{name}` is the manifest of another stage; one of {wanted} is needed.")
    if manifest_key() and not manifest.intact():
        raise ConfigError(f"the files of `{name}` have changed since its stage ended; run `{manifest.stage}` again.")
    return manifest


def file_digests(folder: Path, apart: Collection[str] = ()) -> dict[str, str]:
    """Returns the SHA-256 of every file under `folder` by relative path, except the manifest's own two and those in the
    folders `apart`."""
    left_out = {folder / name for name in ("manifest.json", "files.json")}
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path not in left_out)
    named = ((path.relative_to(folder), path) for path in paths)
    return {str(name): file_sha256(path) for name, path in named if name.parts[0] not in apart}


@functools.cache
def package_digest() -> str:
    """Returns the digest of source and data of the package and of registered tasks, so that changed code never reuses
    an old result."""
    files = [p for p in sorted(PACKAGE.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
    named = [(str(p.relative_to(PACKAGE)), p) for p in files] + [(p.name, p) for p in sources_of_others()]
    return digest_of([[name, file_sha256(path)] for name, path in named])


@contextlib.contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Holds the lock of a stage's folder. Raises StageError if another run keeps it for longer than LOCK_WAIT_S.

    Each result has its own lock: runs with other settings, and the parts of one run, can work in parallel.
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
