"""Measuring one cine: from whatever holds it to figures, masks and a report. `echoplane measure` calls this."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from echoplane import runtimes
from echoplane.errors import ConfigError
from echoplane.runtimes import DEFAULT_THREADS, InferenceSettings, Precision
from echoplane.stages.stage import ensure_folder
from echoplane.study.cine_files import read_cines
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import Segmentation

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "cmr-segmentation"
"""The bundle that comes with the checkout."""


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    cine: str
    """A NIfTI or Enhanced MR file, a folder of MR DICOM, of NIfTI or of pictures, or a zip of any of these."""
    out: str
    """A folder outside of CINE for measures.json, measures.csv, mask.nii.gz and report.html; an earlier answer in it is
    replaced."""
    bundle: str = str(SHIPPED)
    """The model's bundle; the shipped one by default."""
    precision: Precision = "auto"
    """auto, f32 or bf16."""
    threads: int = Field(DEFAULT_THREADS, ge=1)
    """Cores."""
    dicom: bool = False
    """Also write a DICOM segmentation and a structured report; CINE is DICOM then."""


def run(config: Config) -> dict[str, Any]:
    """Measure and write; the content of measures.json. InputError, and nothing written, where that can't be done."""
    from echoplane import cmr
    from echoplane.cmr.files import as_json

    source = Path(config.cine)
    if not source.exists():
        raise ConfigError("there is no such file or folder as CINE; check the path.")
    folder = Path(config.out)
    _check_apart(source.resolve(), folder.resolve())
    study = Study((), read_cines(source))
    settings = InferenceSettings(precision=config.precision, threads=config.threads)
    opened = runtimes.open(config.bundle, settings)
    read, used = opened.bundle, opened.runtime.settings
    answer = runtimes.answer(study, opened)
    model = {"task": read.spec.task, "bundle": read.id, "runtime": used.runtime, "precision": used.precision}
    found = answer.result
    if not isinstance(found, Segmentation):
        raise ConfigError(f"the bundle answers {read.spec.task}; give one that segments cine MR.")
    objects = {}
    if config.dicom:
        from echoplane.cmr.dicom import dicom_objects

        objects = dicom_objects(found, study, source)
    with _all_at_once(folder) as part:
        cmr.write_measures(found, study, model, part)
        cmr.write_report(found, study.cines, part / "report.html")
        for name, dataset in objects.items():
            dataset.save_as(part / name, enforce_file_format=True)
    return as_json(found, study, model)


def _check_apart(source: Path, folder: Path) -> None:
    """ConfigError where results would lie among the files of the cine, or in their place."""
    from echoplane.cmr.files import OUTPUTS

    if source.is_dir() and folder.is_relative_to(source):
        raise ConfigError(
            "`out` lies inside CINE, whose files the results would mix with; give a folder outside of it."
        )
    if source.parent == folder and source.name in OUTPUTS:
        raise ConfigError("CINE lies in `out` under the name of a result, which would replace it; give another `out`.")


@contextlib.contextmanager
def _all_at_once(folder: Path) -> Iterator[Path]:
    """A hidden folder to write to, whose files take the place of an earlier answer's at the end: never a mixture of two
    patients', nor half an answer. Other files of `folder` stay.

    It lies inside `folder`, from where files can be moved even where that is a mounted volume.
    """
    from echoplane.cmr.files import OUTPUTS

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
