"""What a stage states for later stages to decide on.

Everything here is a typed field: a manifest that lacks one, or holds another, is refused. The summary of a manifest is
for people; nothing decides on it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Output(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Studies(_Output):
    """A folder of studies."""

    kind: Literal["studies"] = "studies"
    unit: Literal["file", "folder"]
    """A study is one DICOM file below dicom/, or a folder of files below studies/."""
    count: int = Field(ge=0)
    """Studies; 0 if the stage had none to make, because the user's own are read from elsewhere."""
    identity: Literal["none", "removed", "unknown"]
    """"none": synthetic images without names. "removed": de-identified, file by file as report.json beside them lists.
    "unknown": they may name somebody, real or invented."""
    report_sha256: Sha256 | None = None
    """SHA-256 of report.json, for the identity "removed"."""
    device_words: tuple[str, ...] = ()
    """Names of invented scanners, which no list of real ones holds."""

    @model_validator(mode="after")
    def _proven(self) -> "Studies":
        if (self.identity == "removed") != (self.report_sha256 is not None):
            raise ValueError('the identity "removed" needs report_sha256, and no other has one')
        return self


class Samples(_Output):
    """A dataset: what its catalogue holds and how patients are divided."""

    kind: Literal["samples"] = "samples"
    task: str
    data_digest: Sha256
    """SHA-256 of catalogue.parquet."""
    split_id: str


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


class PlannedParts(_Output):
    """The parts that a batch is divided into."""

    kind: Literal["parts"] = "parts"
    count: int = Field(ge=1)


Output = Annotated[
    Studies | Samples | BundleOutput | Evaluation | Promotion | PlannedParts, Field(discriminator="kind")
]


class StageResult(BaseModel):
    """What the work of a stage returns beside the files it wrote."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    counts: dict[str, Any] = {}
    """Figures for people, as the command and the report of a run print them."""
    output: Output | None = None
    set_aside: int = Field(default=0, ge=0)
    """Inputs that were quarantined or refused."""
