"""Writes studies to disk: one patient, or many over processes.

A patient is written under a temporary name and renamed when complete: a folder that has its final name is complete, and
an interrupted run resumes where it stopped. The same seed gives the same bytes, whatever the number of workers.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from pathlib import Path

import numpy as np
from pydicom import dcmread

from echoplane.errors import ConfigError
from echoplane.phantom.dicom import write_clip
from echoplane.phantom.patient import VIEW_NAMES, make_patient, scan_echo
from echoplane.phantom.ranges import USUAL, Ranges
from echoplane.phantom.strip_screen import STRIP_NAMES, scan_strip
from echoplane.processes import processes


def write_patient(
    folder: Path, seed: int, *, views: Sequence[str] | None = None, frames: int = 24, ranges: Ranges = USUAL
) -> list[Path]:
    """Writes one study to `folder/PATIENT_ID/IM00001 ...`, in an order that does not reveal the views."""
    patient = make_patient(seed, ranges)
    final = folder / patient.identity.patient_id
    order = acquisition_order(seed, views or VIEW_NAMES)
    files = [final / f"IM{number:05d}" for number in range(1, len(order) + 1)]
    if final.exists():
        _check(files, frames)
        return files
    temporary = folder / f".{seed}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for number, view in enumerate(order, start=1):
        path = temporary / f"IM{number:05d}"
        if view in STRIP_NAMES:
            write_clip(scan_strip(patient, view, number, number=number, ranges=ranges), patient, path)
        else:
            write_clip(scan_echo(patient, view, number, frames=frames, number=number, ranges=ranges), patient, path)
    temporary.rename(final)
    return files


def acquisition_order(seed: int, views: Sequence[str]) -> list[str]:
    """Returns the views in the order in which this patient's sonographer took them: shuffled, or file names would
    reveal the view."""
    return [str(view) for view in np.random.default_rng([seed, 31]).permutation(list(views))]


def _check(files: list[Path], frames: int) -> None:
    """Checks that a study that exists already is the one requested."""
    there = sorted(path.name for path in files[0].parent.iterdir())
    headers = [dcmread(files[0].parent / name, stop_before_pixels=True) for name in there]
    found = max((int(header.get("NumberOfFrames", 1)) for header in headers), default=0)
    if there != [path.name for path in files] or found != frames:
        raise ConfigError(
            f"the folder holds a study of {len(there)} clips of {found} frames; {len(files)} of {frames} were asked "
            "for. Write to an empty folder."
        )


def write_cohort(
    folder: Path,
    *,
    patients: int,
    seed: int,
    views: Sequence[str] | None = None,
    frames: int = 24,
    ranges: Ranges = USUAL,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Writes `patients` studies, with a call of `progress(done, total)` after each; returns all files in the order of
    the seeds."""
    seeds = [seed * 100_003 + k for k in range(patients)]
    workers = min(workers or len(os.sched_getaffinity(0)), max(patients, 1))
    written: dict[int, list[Path]] = {}
    if workers == 1:
        for done, each in enumerate(seeds, start=1):
            written[each] = write_patient(folder, each, views=views, frames=frames, ranges=ranges)
            progress(done, patients)
        return [path for each in seeds for path in written[each]]
    with processes(workers) as pool:
        jobs = {
            pool.submit(write_patient, folder, each, views=views, frames=frames, ranges=ranges): each for each in seeds
        }
        for done, job in enumerate(as_completed(jobs), start=1):
            written[jobs[job]] = job.result()
            progress(done, patients)
    return [path for each in seeds for path in written[each]]
