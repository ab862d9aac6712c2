"""Stage `phantom`: makes synthetic patients. For ultrasound, twelve clips per patient, as DICOM with invented names
burned in; for cine MR, three series per patient, as NIfTI with exact masks and without a name."""

import functools
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from echoplane.stages import ingest
from echoplane.stages.ingest import STUDIES
from echoplane.stages.outputs import StageResult, Studies
from echoplane.stages.progress import printed
from echoplane.stages.stage import Manifest, StageConfig, run_stage
from echoplane.stages.workers import default_workers

DICOM = "dicom"
"""Subfolder of the stage's folder with clips, apart from its manifest."""


class Config(StageConfig):
    excluded_from_cache_key: ClassVar[frozenset[str]] = frozenset({"root", "workers"})

    kind: Literal["echo", "cmr"] = "echo"
    """Kind of data: ultrasound clips (echo), or cine MR (cmr)."""
    patients: int = Field(54, ge=0)
    """Number of synthetic patients, each with twelve clips or three cines. 54 leave over 20 for testing; 0 makes
    none."""
    seed: int = Field(1, ge=0)
    """Seed; the same one gives bit-identical patients."""
    frames: int = Field(24, ge=8, le=500)
    """Frames per clip or cine, about one heartbeat."""
    ranges: Literal["usual", "wide", "hazy", "bedside", "clinic"] = "usual"
    """Variation of the ultrasound scans: usual, as in a careful laboratory; the others as training for real
    patients needs."""
    stills: bool = False
    """Additional stills of pulsed and continuous Doppler and of M-mode for each ultrasound patient."""
    source: str = ""
    """Folder of the user's own studies. If given, no synthetic patients are made; the stage `ingest` copies cine MR
    from it."""
    workers: int = Field(default_factory=default_workers, ge=1)
    """Processes that render in parallel."""


def run(config: Config) -> Manifest:
    """Makes the cohort under `ROOT/phantom`; it is empty if there is nothing to make. Cine MR of the user's own is left
    to the stage `ingest`, so that pipelines need one first step for both."""
    if config.source and config.kind == "cmr":
        return ingest.run(ingest.Config(root=config.root, source=config.source))
    if config.source:
        config = config.model_copy(update={"patients": 0, "source": ""})
    fill_kind, below = {"echo": (fill, DICOM), "cmr": (fill_cmr, STUDIES)}[config.kind]
    return run_stage("phantom", config, lambda folder: fill_kind(folder / below, config))


def fill(folder: Path, config: Config) -> StageResult:
    """Writes the cohort into `folder`."""
    if config.patients == 0:
        return StageResult(counts={"patients": 0, "clips": 0}, output=Studies(unit="file", count=0, identity="unknown"))
    from echoplane.phantom import BEDSIDE, CLINIC, HAZY, USUAL, WIDE, write_cohort
    from echoplane.phantom.styles import STYLES
    from echoplane.study.views import IMAGE_VIEWS, VIDEO_VIEWS

    clips = write_cohort(
        folder,
        patients=config.patients,
        seed=config.seed,
        views=[view.name for view in (IMAGE_VIEWS if config.stills else VIDEO_VIEWS)],
        frames=config.frames,
        ranges={"usual": USUAL, "wide": WIDE, "hazy": HAZY, "bedside": BEDSIDE, "clinic": CLINIC}[config.ranges],
        workers=config.workers,
        progress=printed("phantom"),
    )
    devices = {word for style in STYLES.values() for word in f"{style.manufacturer} {style.model}".split()}
    return StageResult(
        counts={"patients": config.patients, "clips": len(clips)},
        output=Studies(unit="file", count=len(clips), identity="unknown", device_words=tuple(sorted(devices))),
    )


def fill_cmr(folder: Path, config: Config) -> StageResult:
    """Writes the requested number of synthetic cine MR patients into `folder`; existing ones are kept."""
    from echoplane.dataset.parallel import in_order
    from echoplane.phantom.cine import write_mr_patient

    seeds = [config.seed * 100_003 + k for k in range(config.patients)]
    write = functools.partial(write_mr_patient, folder, phases=config.frames)
    show = printed("phantom")
    for done, _ in enumerate(in_order(write, seeds, config.workers), start=1):
        show(done, config.patients)
    return StageResult(
        counts={"patients": config.patients, "cines": 3 * config.patients},
        output=Studies(unit="folder", count=config.patients, identity="none"),
    )
