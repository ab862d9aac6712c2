"""Policy of de-identification: what is kept, removed and refused."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ObjectClass = Literal["ultrasound", "mr", "enhanced-mr", "ecg"]


class Policy(BaseModel):
    """Options of PS3.15 Annex E, and limits that prevent malicious files from filling the memory."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    classes: tuple[ObjectClass, ...] = ("ultrasound", "mr", "enhanced-mr", "ecg")
    """Kinds of object that are de-identified; every other SOP class is refused."""
    dates: Literal["shift", "remove", "keep"] = "shift"
    """Handling of dates: `shift` shifts all dates of a patient by the same keyed number of days, so that intervals are
    kept (113107); `remove` empties them; `keep` keeps those of studies and series (113106)."""
    patient_characteristics: bool = True
    """Keeps sex, age (90 and above become 090Y), size and weight (113108)."""
    descriptors: bool = True
    """Keeps words of the word list in descriptions, and drops every other word (113105)."""
    device_identity: bool = False
    """Keeps serial number and station name (113109)."""
    institution_identity: bool = False
    """Keeps the institution's name, address and department (113112)."""
    safe_private: bool = False
    """Keeps the private numbers of `data/safe_private.csv` (113111)."""
    extra_words: tuple[str, ...] = ()
    """Words that a site adds to the word list, such as the name of a scanner model; never a person's name."""
    max_file_mib: int = Field(default=2048, ge=1)
    """Maximum size of a file in MiB, also of a deflated file after inflating."""
    max_pixels_mib: int = Field(default=1024, ge=1)
    """Maximum size of the decoded pixels in MiB, checked before anything is decoded."""
    max_depth: int = Field(default=16, ge=1, le=64)
    """Maximum depth of nested sequences. Enhanced MR needs 5."""
