"""Measuring one cine: from whatever holds it to figures, masks and a report. `echoplane measure` calls this."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from echoplane import bundle, runtimes
from echoplane.errors import ConfigError
from echoplane.stages.stage import made
from echoplane.study.cine_files import read_cines
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import Segmentation

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "cmr-segmentation"
"""The bundle that comes with the checkout."""


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    cine: str
    """A NIfTI file, a folder of MR DICOM or of pictures with a CSV, or a zip of DICOM."""
    out: str
    """A folder for measures.json, measures.csv, mask.nii.gz and report.html."""
    bundle: str = str(SHIPPED)
    """The model's bundle; the shipped one by default."""
    precision: str = "auto"
    """auto, f32 or bf16."""
    threads: int = runtimes.DEFAULT_THREADS
    """Cores."""
    dicom: bool = False
    """Also write a DICOM segmentation and a structured report; CINE is DICOM then."""


def run(config: Config) -> dict[str, Any]:
    """Measure and write; the content of measures.json. InputError where the cine can't be measured."""
    from echoplane import cmr
    from echoplane.cmr.files import as_json

    source = Path(config.cine)
    if not source.exists():
        raise ConfigError("there is no such file or folder as CINE; check the path.")
    study = Study((), read_cines(source))
    read = bundle.read(config.bundle)
    runtime = runtimes.load(read, precision=config.precision, threads=config.threads)
    runtimes.check_golden(read, runtime)
    answer = runtimes.answer(study, read, runtime)
    model = {"task": read.spec.task, "bundle": read.id, "runtime": runtime.name, "precision": runtime.precision}
    found = answer.result
    if not isinstance(found, Segmentation):
        raise ConfigError(f"the bundle answers {read.spec.task}; give one of cmr-segmentation.")
    folder = made(Path(config.out), "`out`")
    cmr.write_measures(found, study, model, folder)
    if config.dicom:
        from echoplane.cmr.dicom import write_dicom

        write_dicom(found, study, source, folder)
    cmr.write_report(found, study.cines, folder / "report.html")
    return as_json(found, study, model)
