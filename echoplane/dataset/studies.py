"""Studies of a dataset and their catalogue fields: DICOM files, or folders of cine MR.

NIfTI files do not identify their patient; a `study.json` in the folder may: an object of strings with patient,
manufacturer, model, sex and age_band. Without it, each folder counts as one patient.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from echoplane.errors import ConfigError, StageError
from echoplane.files import file_sha256
from echoplane.study.cine_files import read_cines
from echoplane.study.dicom import read_dicom
from echoplane.study.study import Identity, Instance

BMI_BANDS = ((18.5, "under 18.5"), (25.0, "18.5 to 25"), (30.0, "25 to 30"), (float("inf"), "30 and over"))
"""Body mass index bands of the World Health Organization, in kg/m2; a band includes its lower limit."""
ABOUT = "study.json"
ABOUT_FIELDS = ("patient", "manufacturer", "model", "sex", "age_band")


def studies_in(folder: Path, kind: Literal["file", "folder"]) -> list[Path]:
    """Returns every file, or every folder that holds files, at any depth, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return files if kind == "file" else sorted({path.parent for path in files})


def digest_of_study(path: Path) -> str:
    """Returns the SHA-256 of a file's content, or of the names and contents of a folder's files."""
    if path.is_file():
        return file_sha256(path)
    listed = [[file.name, file_sha256(file)] for file in sorted(path.iterdir()) if file.is_file()]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def check_unchanged(path: Path, sha256: str, sample: str) -> None:
    """Raises StageError if the study is not the one that was catalogued."""
    if not path.exists() or digest_of_study(path) != sha256:
        raise StageError(f"the study of sample {sample} changed since it was catalogued; run `dataset` again.")


def of_file(path: Path) -> dict[str, Any]:
    """Returns the catalogue fields of a DICOM clip."""
    clip: Instance = read_dicom(path).only
    who = clip.identity or Identity("", "", "")
    return {
        "sample": clip.digest[:16],
        "patient": who.patient or f"unknown-{_short(who.study_uid or clip.digest)}",
        "study": who.study_uid,
        "instance": who.instance_uid,
        "sha256": clip.digest,
        "label": clip.view.name if clip.view else None,
        "manufacturer": clip.manufacturer,
        "model": clip.model,
        "age_band": age_band(who.age_years),
        "sex": who.sex,
        "bmi_band": bmi_band(who.bmi),
        "frames": clip.frame_count,
        "frame_time_ms": clip.frame_time_ms,
    }


def of_folder(path: Path) -> dict[str, Any]:
    """Returns the catalogue fields of a cine MR study."""
    stack, digest, about = read_cines(path)[0], digest_of_study(path), _about(path / ABOUT)
    return {
        "sample": digest[:16],
        "patient": about.get("patient") or path.name,
        "study": path.name,
        "instance": digest[:16],
        "sha256": digest,
        "label": None,
        "manufacturer": about.get("manufacturer") or "",
        "model": about.get("model") or "",
        "age_band": about.get("age_band"),
        "sex": about.get("sex"),
        "bmi_band": None,
        "frames": stack.phases,
        "frame_time_ms": stack.frame_time_ms,
    }


def _about(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        said = json.loads(path.read_bytes())
        if set(said) <= set(ABOUT_FIELDS) and all(isinstance(value, str) for value in said.values()):
            return dict(said)
    except (ValueError, TypeError):
        pass
    raise ConfigError(f"{ABOUT} of a study must be a JSON object of texts; its names are {', '.join(ABOUT_FIELDS)}.")


def age_band(age_years: int | None) -> str | None:
    """Returns the decade of an age; all ages from 90 are one band, as PS3.15 requires for ages that could identify a
    person."""
    if age_years is None:
        return None
    return "90 and over" if age_years >= 90 else f"{age_years // 10 * 10} to {age_years // 10 * 10 + 9}"


def bmi_band(bmi: float | None) -> str | None:
    return None if bmi is None else next(name for limit, name in BMI_BANDS if bmi < limit)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
