"""What de-identification keeps, removes and refuses: one frozen model, read by every part of the room."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ObjectClass = Literal["ultrasound", "mr", "enhanced-mr", "ecg"]


class Policy(BaseModel):
    """Options of PS3.15 Annex E, and the caps that keep hostile files from filling memory."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    classes: tuple[ObjectClass, ...] = ("ultrasound", "mr", "enhanced-mr", "ecg")
    """Kinds of object that are de-identified; every other SOP class is refused."""
    dates: Literal["shift", "remove", "keep"] = "shift"
    """`shift` moves all dates of a patient by one keyed number of days, so intervals stay (113107); `remove` empties
    them; `keep` leaves those of studies and series as they are (113106)."""
    patient_characteristics: bool = True
    """Keep sex, age (90 and above become 090Y), size and weight (113108)."""
    descriptors: bool = True
    """Keep words of the word list in descriptions, and drop every other word (113105)."""
    device_identity: bool = False
    """Keep serial number and station name (113109)."""
    institution_identity: bool = False
    """Keep the institution's name, address and department (113112)."""
    safe_private: bool = False
    """Keep the private numbers of `data/safe_private.csv` (113111)."""
    extra_words: tuple[str, ...] = ()
    """Words that a site adds to the word list, such as the name of a scanner model. Never a person's name."""
    max_file_mib: int = Field(default=2048, ge=1)
    """Largest file that is read, in MiB. Also caps what a deflated file may inflate to."""
    max_pixels_mib: int = Field(default=1024, ge=1)
    """Largest decoded image, rows x columns x samples x frames, in MiB. Checked before anything is decoded."""
    max_depth: int = Field(default=16, ge=1, le=64)
    """Deepest nesting of sequences. Enhanced MR needs 5."""
