"""Cines of a synthetic patient with their exact masks, in memory or as NIfTI files. Axes: T phase, Z slice, N, M."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echoplane.phantom.landmarks import body_axes
from echoplane.phantom.mr import LV_CAVITY, MYOCARDIUM, RV_CAVITY, scan_plane
from echoplane.phantom.mr_patient import MrPatient, make_mr_patient
from echoplane.phantom.mr_planes import Grid, Plane, grid_of, long_axis_plane, short_axis_planes
from echoplane.study.cine import Cine
from echoplane.study.cine_files import MASK, NAMES
from echoplane.study.nifti import write_nifti

GREY = 800
"""Stored value of blood, for scanners that write 12 bits."""


@dataclass(frozen=True)
class Scan:
    """One cine and the label map of every voxel (T, Z, N, M)."""

    cine: Cine
    labels_TZNM: NDArray[np.uint8]


def scan_mr(patient: MrPatient, phases: NDArray[np.float64], spacing_mm: float = 10.0) -> tuple[Scan, ...]:
    """Returns the short axis stack and both long axis planes at these phases of the beat, as the patient's ranges draw
    them."""
    grid = grid_of(patient.ranges.geometry, patient.seed)
    series = [short_axis_planes(patient, spacing_mm)]
    series += [[long_axis_plane(patient, kind)] for kind in ("2-chamber", "4-chamber")]
    return tuple(_scan(patient, planes, grid, phases, spacing_mm) for planes in series)


def _scan(patient: MrPatient, planes: list[Plane], grid: Grid, phases: NDArray[np.float64], spacing_mm: float) -> Scan:
    scans = [scan_plane(patient, plane, grid, phases) for plane in planes]
    signal_TZNM = np.stack([signal for signal, _ in scans], axis=1)
    beat_ms = 60_000 / patient.heart.heart_rate_bpm
    cine = Cine(
        plane=planes[0].kind,
        voxels_TZHW=np.clip(signal_TZNM * GREY, 0, 4095).astype(np.int16),
        spacing_mm=(grid.pixel_mm, grid.pixel_mm),
        slice_spacing_mm=spacing_mm if len(planes) > 1 else grid.thickness_mm,
        frame_time_ms=beat_ms / len(phases) if len(phases) > 2 else None,
        affine=_affine(patient, planes, grid),
        covers_beat=len(phases) > 2,
    )
    return Scan(cine, np.stack([labels for _, labels in scans], axis=1))


def _affine(patient: MrPatient, planes: list[Plane], grid: Grid) -> NDArray[np.float64]:
    """Returns the RAS affine from (column, row, slice), with heart coordinates rotated to the body's directions."""
    body = body_axes(patient.heart)
    to_ras = np.stack([body.right, body.anterior, body.superior])
    first = planes[0]
    corner = first.middle_mm - grid.pixel_mm * ((grid.columns - 1) / 2 * first.right + (grid.rows - 1) / 2 * first.down)
    step = planes[1].middle_mm - first.middle_mm if len(planes) > 1 else np.cross(first.right, first.down)
    step = step if len(planes) > 1 else step * grid.thickness_mm
    affine = np.eye(4)
    affine[:3, :3] = to_ras @ np.stack([first.right * grid.pixel_mm, first.down * grid.pixel_mm, step], axis=1)
    affine[:3, 3] = to_ras @ corner
    return affine


def write_mr_patient(folder: Path, seed: int, *, phases: int = 20, field: str | None = None) -> list[Path]:
    """Writes `folder/mr-SEED/` atomically, unless it exists: sa, la_2ch and la_4ch (.nii.gz), `_mask`s, study.json and
    truth.json."""
    final = folder / f"mr-{seed}"
    if final.is_dir():
        return sorted(final.iterdir())
    patient = make_mr_patient(seed, field)
    scans = scan_mr(patient, np.arange(phases) / phases)
    temporary = folder / f".mr-{seed}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for scan in scans:
        name = NAMES[scan.cine.plane]
        (temporary / f"{name}.nii.gz").write_bytes(write_nifti(scan.cine.voxels_TZHW, scan.cine))
        (temporary / f"{name}{MASK}.nii.gz").write_bytes(write_nifti(scan.labels_TZNM, scan.cine))
    (temporary / "truth.json").write_text(json.dumps(truth(patient, scans[0]), indent=1) + "\n")
    about = {"patient": final.name, "manufacturer": patient.field, "model": "phantom"}
    (temporary / "study.json").write_text(json.dumps(about) + "\n")
    temporary.rename(final)
    return sorted(final.iterdir())


def truth(patient: MrPatient, stack: Scan) -> dict[str, float | str]:
    """Returns the volumes of the solid heart, and those that a perfect reader of its slices would measure."""
    voxel_ml = (stack.cine.voxel_mm3 or 0) / 1000
    sizes = {k: (stack.labels_TZNM == k).sum(axis=(1, 2, 3)) * voxel_ml for k in (LV_CAVITY, MYOCARDIUM, RV_CAVITY)}
    lv_T, rv_T = sizes[LV_CAVITY], sizes[RV_CAVITY]
    es = int(lv_T.argmin())
    return {
        "field": patient.field,
        "solid_lvedv_ml": patient.heart.edv_ml,
        "solid_lvesv_ml": patient.heart.esv_ml,
        "lvedv_ml": float(lv_T[0]),
        "lvesv_ml": float(lv_T[es]),
        "lvef_percent": float(100 * (1 - lv_T[es] / lv_T[0])),
        "lvm_g": float(1.05 * sizes[MYOCARDIUM][0]),
        "rvedv_ml": float(rv_T[0]),
        "rvesv_ml": float(rv_T[es]),
        "lvsv_ml": float(lv_T[0] - lv_T[es]),
        "rvsv_ml": float(rv_T[0] - rv_T[es]),
        "heart_rate_bpm": patient.heart.heart_rate_bpm,
    }
