"""Assigns patients to training, validation and test by a salted hash of the pseudonym, or by a list.

The rule "threshold" compares each patient's hash with the fractions. A patient never changes split when others are
added, so it suits data that grow; with few patients the sizes fluctuate. The rule "rank" orders the patients by hash
and cuts at the fractions. Sizes are exact, but an added patient can move others, so its `split_id` also covers the
patients, and models trained before and after are never compared on that split.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from echoplane.errors import ConfigError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class SplitRule(BaseModel):
    """Rule that divides patients into splits."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rule: Literal["rank", "threshold", "list"] = "rank"
    """Rule of the split. "rank": exact sizes, for data that do not change. "threshold": a patient never changes split,
    for data that grow. "list": `patients` assigns each one."""
    salt: str = "echoplane-1"
    """Salt of the hash; it is public. Another salt gives another split."""
    validation: float = Field(default=0.15, ge=0, lt=1)
    """Fraction of patients used to fit temperature and threshold and to monitor training."""
    test: float = Field(default=0.4, ge=0, lt=1)
    """Fraction of patients that only evaluation uses."""
    patients: dict[str, Split] | None = None
    """Split of each pseudonym, for the rule "list"; patients not named are left out."""

    @model_validator(mode="after")
    def _consistent(self) -> "SplitRule":
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} and test {self.test} leave no patient to train on.")
        if (self.rule == "list") != (self.patients is not None):
            raise ValueError('`patients` belongs to the rule "list", which needs it.')
        return self


def split_patients(patients: Iterable[str], rule: SplitRule) -> dict[str, str]:
    """Returns the split of each patient, independent of their order; with a list, only of the patients it names."""
    everyone = sorted(set(patients))
    if rule.rule == "list":
        return {p: rule.patients[p] for p in everyone if p in rule.patients}  # type: ignore[index, operator]
    if rule.rule == "threshold":
        return {p: _side(_hash(p, rule.salt), rule) for p in everyone}
    ranked = sorted(everyone, key=lambda p: _hash(p, rule.salt))
    return {p: _side((place + 0.5) / len(ranked), rule) for place, p in enumerate(ranked)}


def split_id(rule: SplitRule, patients: Iterable[str]) -> str:
    """Returns the digest of what decides the split: rule, salt and fractions, or the list; for "rank" also the
    patients."""
    decides: dict[str, object] = {"rule": rule.rule}
    if rule.rule == "list":
        decides["patients"] = rule.patients
    else:
        decides |= {"salt": rule.salt, "validation": rule.validation, "test": rule.test}
    if rule.rule == "rank":
        decides["patients"] = sorted(set(patients))
    return hashlib.sha256(json.dumps(decides, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def assert_disjoint(patients: Iterable[str], splits: Iterable[str]) -> None:
    """Raises ConfigError if one patient is in two splits; both arguments are columns of one table."""
    split_of: dict[str, str] = {}
    torn = {p for p, split in zip(patients, splits, strict=True) if split_of.setdefault(p, split) != split}
    if torn:
        raise ConfigError(
            f"{len(torn)} patient(s) are in more than one split; a patient belongs to one. Build the dataset again."
        )


def _hash(patient: str, salt: str) -> float:
    """Returns a hash that is uniform over [0, 1)."""
    digest = hashlib.sha256(f"{salt}\n{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _side(place: float, rule: SplitRule) -> str:
    if place < rule.test:
        return "test"
    return "validation" if place < rule.test + rule.validation else "train"
