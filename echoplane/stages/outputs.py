"""Typed outputs on which later stages base decisions.

Every output is a typed field: a manifest that lacks one, or holds another, is refused. The counts of a manifest are for
people; no stage depends on them.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from echoplane.dataset.split import Split
from echoplane.errors import ConfigError

Counts = dict[str, Any]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Output(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Studies(_Output):
    """A folder of studies."""

    kind: Literal["studies"] = "studies"
    unit: Literal["file", "folder"]
    """Kind of a study: one DICOM file below dicom/, or a folder of files below studies/."""
    count: int = Field(ge=0)
    """Number of studies; 0 if the stage made none because the user's own are read from elsewhere."""
    identity: Literal["none", "removed", "unknown"]
    """Patient identity in the studies. "none": synthetic images without names. "removed": de-identified; report.json
    beside them lists each file. "unknown": they may name a person, real or invented."""
    report_sha256: Sha256 | None = None
    """SHA-256 of report.json, for the identity "removed"."""
    quarantined: int = Field(default=0, ge=0)
    """Number of files that `deid` set aside for a person."""
    refused: int = Field(default=0, ge=0)
    """Number of files that `deid` cannot read."""
    device_words: tuple[str, ...] = ()
    """Names of synthetic scanners, which no list of real ones holds."""

    @model_validator(mode="after")
    def _proven(self) -> "Studies":
        if (self.identity == "removed") != (self.report_sha256 is not None):
            raise ValueError('the identity "removed" needs report_sha256, and no other has one')
        return self


class Samples(_Output):
    """A dataset: the content of its catalogue and the split of its patients."""

    kind: Literal["samples"] = "samples"
    task: str
    data_digest: Sha256
    """SHA-256 of catalogue.parquet."""
    split_id: str
    patients: dict[Split, int] = {}
    """Number of patients by split."""
    left_out: dict[str, int] = {}
    """Number of files that the catalogue could not use, by reason."""


class Trained(_Output):
    """Trained weights."""

    kind: Literal["trained"] = "trained"
    steps: int = Field(ge=0)
    epochs: int = Field(ge=0)
    last: dict[str, float]
    """Figures of the last epoch, by name."""


class BundleOutput(_Output):
    """A finished bundle."""

    kind: Literal["bundle"] = "bundle"
    bundle_id: Sha256


class Evaluation(_Output):
    """Figures of a bundle on the test split."""

    kind: Literal["evaluation"] = "evaluation"
    bundle_id: Sha256


class Promotion(_Output):
    """The decision on a bundle."""

    kind: Literal["promotion"] = "promotion"
    passed: bool
    refused_by: tuple[str, ...]
    """One sentence per check that failed."""
    waits: bool = False
    """True if a model that passed waits as challenger, because the policy asks for shadow evidence or approval."""


class PlannedParts(_Output):
    """The parts that a batch is divided into."""

    kind: Literal["parts"] = "parts"
    count: int = Field(ge=1)


class Answers(_Output):
    """Answers to the studies of a batch, or of one part of it: number of studies by outcome."""

    kind: Literal["answers"] = "answers"
    studies: int = Field(ge=0)
    answered: int = Field(ge=0)
    abstained: int = Field(ge=0)
    refused: int = Field(ge=0)


Output = Annotated[
    Studies | Samples | Trained | BundleOutput | Evaluation | Promotion | PlannedParts | Answers,
    Field(discriminator="kind"),
]


AnyOutput = TypeVar("AnyOutput", bound=_Output)


def stated(output: Output | None, kind: type[AnyOutput], stage: str) -> AnyOutput:
    """Returns the output of `stage`, which must be of this kind. Raises ConfigError if there is none or another."""
    if not isinstance(output, kind):
        raise ConfigError(
            f"the manifest of `{stage}` does not state what is needed here ({kind.__name__}); "
            "it is of another version of echoplane. Run that stage again."
        )
    return output


class StageResult(BaseModel):
    """Result of a stage's work, besides the files that it wrote."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    counts: Counts = {}
    """Figures for people, as the command and the report of a run print them."""
    output: Output | None = None
    set_aside: int = Field(default=0, ge=0)
    """Inputs that were quarantined or refused."""
