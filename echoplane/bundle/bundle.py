"""Reads a bundle: every file is checked against its digest before use; a bundle that fails a check is refused.

No file of a bundle is ever executed or unpickled. `golden.npz` holds the task's synthetic example, never a patient.
"""

import hashlib
import io
import json
import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from pydantic import BaseModel, ValidationError

from echoplane.bundle.spec import FILES, GOLDEN, OPTIONAL, READ_SCHEMAS, SCHEMA, Spec, labels_of
from echoplane.errors import BundleError, ConfigError
from echoplane.tasks import Task, Thresholds, by_name

GOLDEN_SEED = 0
"""Seed of the task's example in `golden.npz`."""
MAX_GOLDEN_BYTES = 256 << 20
"""Maximum size of all arrays of `golden.npz` together, decompressed."""


@dataclass(frozen=True)
class Golden:
    """A reference input (batch, as `preprocess` returns it) and the outputs that the model must give for it in
    float32."""

    batch: np.ndarray
    output: np.ndarray
    embedding: np.ndarray


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and verified; `id` is the SHA-256 of its bundle.json."""

    id: str
    spec: Spec = field(repr=False)
    folder: Path = field(repr=False)

    @property
    def task(self) -> Task:
        return by_name(self.spec.task)

    @property
    def preprocessing(self) -> BaseModel:
        return self.task.Preprocessing.model_validate(self.spec.preprocessing)

    @property
    def thresholds(self) -> Thresholds:
        return self.task.Thresholds.model_validate(self.spec.thresholds)

    @property
    def golden(self) -> Golden:
        return _golden(self.content(GOLDEN))

    def content(self, name: str) -> bytes:
        """Returns the bytes of file `name` and checks them now, since a file may change after the bundle was read."""
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{name} is missing from the bundle; copy the whole folder again.")
        content = path.read_bytes()
        found, expected = hashlib.sha256(content).hexdigest(), self.spec.files[name]
        if found != expected:
            raise BundleError(
                f"{name} has changed since the bundle was sealed: SHA-256 {found[:12]}, expected {expected[:12]}. "
                "Copy the whole folder again."
            )
        return content


def read(folder: str | Path) -> Bundle:
    """Reads the bundle in `folder`. Raises BundleError if a file is missing or changed, or its schema is not
    supported."""
    path = Path(folder) / "bundle.json"
    if not path.parent.exists():
        raise BundleError(f"the bundle's folder {folder} does not exist; check the path.")
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"there is no bundle.json in {folder}; give the folder that `echoplane export` made.")
    content = path.read_bytes()
    bundle = Bundle(hashlib.sha256(content).hexdigest(), _spec(content), Path(folder))
    _check_names(bundle.spec)
    for name in bundle.spec.files:
        bundle.content(name)
    _check_task(bundle)
    return bundle


def _spec(content: bytes) -> Spec:
    try:
        stated: Any = json.loads(content)
    except ValueError as error:
        raise BundleError("bundle.json is not JSON; copy the whole folder again.") from error
    _check_schema(stated.get("schema") if isinstance(stated, dict) else None)
    try:
        return Spec.model_validate(_upgraded(stated) if stated["schema"] == 1 else stated)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"bundle.json is not of schema {SCHEMA}: {where}: {first['msg']}.") from error


def _upgraded(stated: dict[str, Any]) -> dict[str, Any]:
    """Converts schema 1 to schema 2: schema 1 had the same two thresholds for every task; a task takes those it
    knows."""
    both = {name: stated[name] for name in ("temperature", "abstain_below") if name in stated}
    known = _task(str(stated.get("task"))).Thresholds.model_fields
    kept = {name: value for name, value in both.items() if name in known}
    others = {name: value for name, value in stated.items() if name not in both}
    return others | {"schema": SCHEMA, "thresholds": kept}


def _task(name: str) -> Task:
    try:
        return by_name(name)
    except ConfigError as error:
        raise BundleError(str(error)) from error


def _check_schema(schema: Any) -> None:
    if schema in READ_SCHEMAS and type(schema) is int:
        return
    if isinstance(schema, int) and schema > SCHEMA:
        raise BundleError(f"bundle.json has schema {schema}; this echoplane reads {SCHEMA}. Update echoplane.")
    raise BundleError(f"bundle.json has schema {schema!r}; {SCHEMA} is read. Refused: run `echoplane export` again.")


def _check_names(spec: Spec) -> None:
    """Raises BundleError unless the files are the known names alone, so a bundle cannot name a path outside its
    folder."""
    if set(spec.files) - set(OPTIONAL) != set(FILES):
        raise BundleError(
            f"bundle.json lists {sorted(spec.files)}; a bundle has {sorted(FILES)}, and may have {sorted(OPTIONAL)}."
        )


def _check_task(bundle: Bundle) -> None:
    """Raises BundleError unless this package's task, which interprets the outputs, is the one the model was trained
    for."""
    _task(bundle.spec.task)
    labels = labels_of(bundle.spec.task)
    try:
        _ = bundle.preprocessing, bundle.thresholds
    except ValidationError as error:
        raise BundleError(
            "bundle.json has a preprocessing or thresholds that this echoplane's task does not know."
        ) from error
    if labels != bundle.spec.labels:
        raise BundleError(
            f"bundle.json has {len(bundle.spec.labels)} labels that are not those of {bundle.spec.task} here "
            f"({len(labels)}). Run `echoplane export` again."
        )


def _golden(content: bytes) -> Golden:
    try:
        _check_sizes(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return Golden(arrays["batch"], arrays["output"], arrays["embedding"])
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise BundleError(f"{GOLDEN} must hold plain arrays batch, output and embedding.") from error


def _check_sizes(content: bytes) -> None:
    """Raises BundleError if the array headers announce too much data: a small file can decompress to gigabytes."""
    total = 0
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                shape, dtype = _array_header(file)
            total += math.prod(shape) * dtype.itemsize
            if dtype.hasobject or total > MAX_GOLDEN_BYTES:
                raise BundleError(f"{GOLDEN} holds objects or over {MAX_GOLDEN_BYTES >> 20} MiB; export again.")


def _array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Returns shape and type of an array as stated in its .npy header (NumPy's NEP 1)."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    reader = readers.get(np.lib.format.read_magic(file))
    if reader is None:
        raise ValueError("unknown version of the .npy format")
    shape, _, dtype = reader(file)
    return shape, dtype
