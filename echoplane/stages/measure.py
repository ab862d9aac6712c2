"""Measures one cine and writes figures, masks and a report. `echoplane measure` calls this."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from echoplane import __version__, runtimes
from echoplane.bundle.spec import CARD
from echoplane.errors import ConfigError
from echoplane.runtimes import DEFAULT_THREADS, InferenceSettings, Precision
from echoplane.stages.stage import ensure_folder
from echoplane.study.cine import without_slices
from echoplane.study.cine_files import contents_of, read_cines
from echoplane.study.masks import read_edited_masks
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import NAME, Segmentation, from_masks, remeasured

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "cmr-segmentation"
"""The bundle that is part of the repository."""


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    cine: str
    """A NIfTI or Enhanced MR file, a folder of MR DICOM, of NIfTI or of pictures, or a zip of any of these."""
    out: str
    """Folder outside CINE for measures.json, measures.csv, mask.nii.gz and report.html; an earlier result in it is
    replaced."""
    bundle: str = str(SHIPPED)
    """Folder of the model's bundle; by default the shipped one."""
    precision: Precision = "auto"
    """Precision: auto, f32 or bf16."""
    threads: int = Field(DEFAULT_THREADS, ge=1)
    """Cores to use."""
    ed: int | None = None
    """Phase (from 0) of end diastole, if the one found from the volumes is wrong."""
    es: int | None = None
    """Phase (from 0) of end systole, if the one found from the volumes is wrong."""
    exclude_slices: str = ""
    """Slices to leave out, from 1 as the report numbers them, separated by commas: 1,10; they are interpolated."""
    height_cm: float | None = None
    """Height of the person, for measures indexed by body surface; by default as the DICOM files state it."""
    weight_kg: float | None = None
    """Weight of the person; by default as the DICOM files state it."""
    sex: Literal["M", "F"] | None = None
    """Sex of the person, M or F, for reference ranges; by default as the DICOM files state it."""
    age_years: int | None = Field(None, ge=0, le=120)
    """Age of the person, for reference ranges; by default as the DICOM files state it."""
    masks: str = ""
    """Folder of masks that `measure` wrote, usually edited since: these are measured, and no model is run."""
    dicom: bool = False
    """Additional DICOM segmentations and structured report, as far as the files of CINE, a DICOM series, allow."""


def run(config: Config) -> dict[str, Any]:
    """Measures the cine, writes the results and returns the content of measures.json. Raises InputError if that is
    impossible, and then writes nothing."""
    from echoplane.tasks.cmr_segmentation import outputs

    source = Path(config.cine)
    if not source.exists():
        raise ConfigError("there is no such file or folder as CINE; check the path.")
    folder = Path(config.out)
    _check_apart(source.resolve(), folder.resolve())
    stack, *planes = read_cines(source)
    if config.exclude_slices:
        stack = without_slices(stack, _numbers(config.exclude_slices))
    stated = stack.subject.stated(config.height_cm, config.weight_kg, config.sex, config.age_years)
    study = Study((), (replace(stack, subject=stated), *planes))
    found, model = _of_person(Path(config.masks), study) if config.masks else _of_model(config, study)
    model |= {"date": f"{datetime.now(UTC):%Y-%m-%d}", "version": __version__}
    found = remeasured(found, study, config.ed, config.es)
    objects: dict[str, Any] = {}
    if config.dicom:
        from echoplane.tasks.cmr_segmentation.outputs.dicom import dicom_objects

        objects, lacking = dicom_objects(found, study, contents_of(source))
        found = replace(found, warnings=(*found.warnings, *lacking))
    with _all_at_once(folder) as part:
        measured = outputs.write_measures(found, study, model, part)
        outputs.write_report(found, study.cines, model, part / "report.html")
        for name, dataset in objects.items():
            dataset.save_as(part / name, enforce_file_format=True)
    return measured


def _of_model(config: Config, study: Study) -> tuple[Segmentation, dict[str, str]]:
    """Returns the model's segmentation, and a description of the model."""
    settings = InferenceSettings(precision=config.precision, threads=config.threads)
    opened = runtimes.open(config.bundle, settings)
    read, used = opened.bundle, opened.runtime.settings
    found = runtimes.answer(study, opened).result
    if not isinstance(found, Segmentation):
        raise ConfigError(f"the bundle answers {read.spec.task}; give one that segments cine MR.")
    model = {"task": read.spec.task, "bundle": read.id, "runtime": used.runtime, "precision": used.precision}
    card = read.content(CARD).decode()
    limits = " ".join(card.partition("## Limits")[2].partition("\n## ")[0].split())
    return found, model | {"limits": limits}


def _of_person(masks: Path, study: Study) -> tuple[Segmentation, dict[str, str]]:
    """Returns measures of given masks, which a person may have edited: they are not cleaned, and no model estimates
    their quality."""
    edited = "measured from the masks in --masks as they are: nothing was removed from them, and no model checked them"
    warnings = (edited, *(warning for cine in study.cines for warning in cine.warnings))
    found = from_masks(read_edited_masks(masks, study), study, expected_dice=float("nan"), warnings=warnings)
    return found, {"task": NAME, "bundle": "none", "runtime": "none", "precision": "none"}


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError("--exclude-slices takes numbers of slices with commas, such as 1,10.") from None


def _check_apart(source: Path, folder: Path) -> None:
    """Raises ConfigError if results would be written among the files of the cine, or over them."""
    from echoplane.tasks.cmr_segmentation.outputs.files import OUTPUTS

    if source.is_dir() and folder.is_relative_to(source):
        raise ConfigError(
            "`out` lies inside CINE, whose files the results would mix with; give a folder outside of it."
        )
    if source.parent == folder and source.name in OUTPUTS:
        raise ConfigError("CINE lies in `out` under the name of a result, which would replace it; give another `out`.")


@contextlib.contextmanager
def _all_at_once(folder: Path) -> Iterator[Path]:
    """Yields a hidden folder whose files replace those of an earlier result at the end, so there is never a mixture of
    two patients' files or half a result. Other files of `folder` are kept.

    It is made inside `folder`, so that files can be moved even if `folder` is a mounted volume.
    """
    from echoplane.tasks.cmr_segmentation.outputs.files import OUTPUTS

    part = folder / ".part"
    shutil.rmtree(part, ignore_errors=True)
    ensure_folder(part, "`out`")
    try:
        yield part
        for name in OUTPUTS:
            (folder / name).unlink(missing_ok=True)
        for path in sorted(part.iterdir()):
            path.rename(folder / path.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
