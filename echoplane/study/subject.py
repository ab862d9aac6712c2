"""Reads what the files of a study state about the person in it, as far as measures depend on it; nothing is
assumed."""

from dataclasses import dataclass, replace

import numpy as np
from pydicom.dataset import Dataset

from echoplane.errors import ConfigError

HEIGHTS_CM, WEIGHTS_KG = (40.0, 250.0), (2.0, 400.0)
"""Ranges of what is believed: a height of 172 m is one in centimetres, and a weight of 0 was not filled in."""


@dataclass(frozen=True, repr=False)
class Subject:
    """Body and pseudonym of a person. It has no repr with values: before de-identification these are PHI."""

    height_cm: float | None = None
    weight_kg: float | None = None
    sex: str | None = None
    """M or F; None for anything else."""
    age_years: int | None = None
    pseudonym: str = ""
    """Patient ID of files that state that the identity was removed (PatientIdentityRemoved), else empty."""

    @property
    def surface_m2(self) -> float | None:
        """Returns the body surface, sqrt(height weight / 3600) (Mosteller, N Engl J Med 1987; 317: 1098)."""
        return float(np.sqrt(self.height_cm * self.weight_kg / 3600)) if self.height_cm and self.weight_kg else None

    def stated(
        self, height_cm: float | None, weight_kg: float | None, sex: str | None, age_years: int | None
    ) -> "Subject":
        """Returns the subject with what a person stated in place of what the files state.

        Raises ConfigError if a height or a weight is no person's.
        """
        for name, value, (low, high) in (("height_cm", height_cm, HEIGHTS_CM), ("weight_kg", weight_kg, WEIGHTS_KG)):
            if value is not None and not low <= value <= high:
                raise ConfigError(f"`{name}` is not between {low:g} and {high:g}; check value and unit.")
        return replace(
            self,
            height_cm=self.height_cm if height_cm is None else height_cm,
            weight_kg=self.weight_kg if weight_kg is None else weight_kg,
            sex=sex or self.sex,
            age_years=self.age_years if age_years is None else age_years,
        )


def subject_of(dataset: Dataset) -> Subject:
    """Returns what a DICOM header states; implausible heights and weights count as not stated."""
    age = str(dataset.get("PatientAge") or "")
    removed = str(dataset.get("PatientIdentityRemoved") or "").upper() == "YES"
    height_m = _number(dataset, "PatientSize")
    return Subject(
        height_cm=_within(None if height_m is None else 100 * height_m, HEIGHTS_CM),
        weight_kg=_within(_number(dataset, "PatientWeight"), WEIGHTS_KG),
        sex=sex if (sex := dataset.get("PatientSex")) in ("M", "F") else None,
        age_years=int(age[:3]) if age[3:] == "Y" and age[:3].isdigit() else None,
        pseudonym=str(dataset.get("PatientID") or "") if removed else "",
    )


def _number(dataset: Dataset, keyword: str) -> float | None:
    try:
        return float(dataset.get(keyword))
    except (TypeError, ValueError):
        return None


def _within(value: float | None, limits: tuple[float, float]) -> float | None:
    return value if value is not None and limits[0] <= value <= limits[1] else None
