"""The content of `bundle.json`, schema 2."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from echoplane.tasks import by_name

SCHEMA = 2
READ_SCHEMAS = (1, SCHEMA)
MODEL, WEIGHTS, GOLDEN, CARD = "model.onnx", "weights.safetensors", "golden.npz", "card.md"
FILES = (MODEL, WEIGHTS, GOLDEN, CARD)
"""Files that every bundle has besides bundle.json."""
ACCURACY = "accuracy_model.json"
OPTIONAL = (ACCURACY,)
"""Files that a bundle may have; all others in the folder are never read."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LabelCode(_Frozen):
    """One label with its DICOM code triplet, like `echoplane.tasks.Label`."""

    name: str
    title: str
    code: str
    scheme: str
    meaning: str


class InputShape(_Frozen):
    """Shape of one sample of the network's input; the batch axis before it is free."""

    shape: tuple[int, ...]
    dtype: Literal["uint8"] = "uint8"


class Code(_Frozen):
    """Version of echoplane that made the bundle."""

    version: str
    package_digest: Sha256


class Contents(_Frozen):
    """All that a bundle states except the digests of its files."""

    task: str
    labels: tuple[LabelCode, ...]
    """Labels, in the order of the network's outputs."""
    preprocessing: dict[str, Any]
    """Settings of the task's Preprocessing."""
    network: dict[str, Any]
    """Settings of the task's Network, which `weights.safetensors` fits."""
    input: InputShape
    thresholds: dict[str, Any]
    """Settings of the task's Thresholds."""
    data_digest: Sha256
    """SHA-256 of the catalogue that the model was trained on."""
    split_id: str
    """Digest of the rule that split the catalogue by patient."""
    started_from: Sha256 | None = Field(default=None, exclude_if=lambda bundle: bundle is None)
    """Id of the bundle whose weights training started from; None if it started from random ones."""
    code: Code


class Spec(Contents):
    """The whole content of `bundle.json`."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    schema_version: Literal[2] = Field(2, alias="schema")
    files: dict[str, Sha256]
    """SHA-256 of every file."""


def labels_of(task: str) -> tuple[LabelCode, ...]:
    """Returns the task's labels as a bundle states them."""
    return tuple(LabelCode(**asdict(label)) for label in by_name(task).labels())
