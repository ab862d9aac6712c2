"""The record of an evaluation, `evaluation.json`, with a typed field for each figure that a decision is based on."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.errors import ConfigError, wrong_field

RECORD = "evaluation.json"
"""Name of the record in the folder of an evaluation."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Figure(_Part):
    """A figure; low and high bound its 95% interval, of a bootstrap over patients."""

    value: float
    low: float
    high: float


class Size(_Part):
    patients: int = Field(ge=0)
    clips: int = Field(ge=0)


class Group(Size):
    """A subgroup of the test set."""

    figures: dict[str, Figure]


class CheckedData(_Part):
    """Facts about the data, over all splits, that the promotion gate checks."""

    samples: int = Field(ge=0)
    without_deid: int = Field(ge=0)
    """Samples that have neither proof of de-identification nor a public source."""
    patients_in_two_splits: int = Field(ge=0)


class Latency(_Part):
    """Percentiles in ms of the time from a study's files to the answer, and medians of two of its parts."""

    p50: float
    p95: float
    preprocess_p50: float
    inference_p50: float


class EvaluationRecord(BaseModel):
    """Figures of a bundle on the test split. Fields that are not listed here are a task's own details, for people."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    schema_version: Literal[1] = Field(alias="schema")
    task: str
    bundle_id: str
    split_id: str
    data_digest: str
    runtime: str
    device: str = "cpu"
    """Records of echoplane 0.1.0 have no device; it was the CPU."""
    precision: str
    threads: int
    patients: int = Field(ge=0)
    clips: int = Field(ge=0)
    figures: dict[str, Figure]
    headline: tuple[str, ...]
    """Names of the most informative figures, the primary one first."""
    labels: dict[str, Size]
    """Number of patients and samples that show each label."""
    subgroups: dict[str, dict[str, Group]]
    """Subgroups by the column of the catalogue and its value."""
    latency_ms: Latency
    data: CheckedData

    @property
    def details(self) -> dict[str, Any]:
        """Returns the task's own details, such as a confusion matrix."""
        return self.model_extra or {}

    @classmethod
    def read(cls, folder: Path) -> "EvaluationRecord":
        """Reads the record in the folder of an evaluation. Raises ConfigError if it is not one of this version."""
        try:
            return cls.model_validate_json((folder / RECORD).read_bytes())
        except ValidationError as error:
            raise ConfigError(
                f"{RECORD} is not of this version of echoplane ({wrong_field(error)}); run `evaluate` again."
            ) from None
        except OSError as error:
            raise ConfigError(f"{RECORD} can't be read ({error.strerror}); run `evaluate` again.") from None
