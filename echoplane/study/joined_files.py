"""Joining of several NIfTI files into one cine: a file per phase (ACDC, M&Ms), or a file per slice (dcm2niix).

Axes: T phase, Z slice, H row, W column."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from echoplane.errors import UnusableStudy
from echoplane.study.cine import MIN_PHASES, MIN_PHASES_OF_A_BEAT, MIN_SLICES, Cine, one_spacing

MAX_LABEL = 9
"""Maximum value of a label map; pictures have more grey levels."""
SAME_AFFINE_MM = 0.1


def joined_phases(cines: Sequence[Cine]) -> Cine | None:
    """Returns the cine of files that hold one phase each, in the order given; None if no two are on one grid."""
    volumes = [cine for cine in cines if cine.phases == 1 and cine.slices >= MIN_SLICES and not _is_label_map(cine)]
    alike = [cine for cine in volumes if _on_one_grid(cine, volumes[0])]
    if len(alike) < MIN_PHASES:
        return None
    first = alike[0]
    return replace(
        first,
        voxels_TZHW=np.concatenate([cine.voxels_TZHW for cine in alike]),
        present_TZ=np.concatenate([cine.present_TZ for cine in alike]),
        frame_time_ms=None,
        covers_beat=len(alike) >= MIN_PHASES_OF_A_BEAT,
        warnings=(*first.warnings, f"{len(alike)} files of one phase each were joined, in the order of their names"),
    )


def joined_slices(cines: Sequence[Cine]) -> Cine | None:
    """Returns the stack of files that hold one slice over the beat each, ordered by their affines.

    None if fewer than MIN_SLICES are parallel and of one size.
    """
    moving = [cine for cine in cines if cine.slices == 1 and cine.phases >= MIN_PHASES and cine.affine is not None]
    groups: list[list[Cine]] = []
    for cine in moving:
        group = next((found for found in groups if _parallel(cine, found[0])), None)
        if group is None:
            groups.append([cine])
        else:
            group.append(cine)
    largest = max(groups, key=len, default=[])
    if len(largest) < MIN_SLICES:
        return None
    return _stacked(largest)


def _stacked(cines: Sequence[Cine]) -> Cine:
    normal = _normal(cines[0])
    ordered = sorted(cines, key=lambda cine: float(_affine(cine)[:3, 3] @ normal))
    places_mm = [float(_affine(cine)[:3, 3] @ normal) for cine in ordered]
    if np.diff(places_mm).min() < SAME_AFFINE_MM:
        raise UnusableStudy("several NIfTI files hold the slice of one place; send one series of each slice.")
    step_mm, numbers, warnings = one_spacing(places_mm)
    first = ordered[0]
    shape = (first.phases, numbers[-1] + 1, *first.voxels_TZHW.shape[2:])
    voxels_TZHW, present_TZ = np.zeros(shape, first.voxels_TZHW.dtype), np.zeros(shape[:2], bool)
    for number, cine in zip(numbers, ordered, strict=True):
        voxels_TZHW[:, number], present_TZ[:, number] = cine.voxels_TZHW[:, 0], True
    affine = _affine(first).copy()
    affine[:3, 2] = (_affine(ordered[-1])[:3, 3] - affine[:3, 3]) / numbers[-1]
    said = f"{len(cines)} files of one slice each were joined by their places"
    return replace(
        first,
        plane="short-axis",
        voxels_TZHW=voxels_TZHW,
        present_TZ=present_TZ,
        slice_spacing_mm=step_mm if first.spacing_mm else None,
        affine=affine,
        stored_affine=affine,
        warnings=(*first.warnings, *warnings, said),
    )


def _is_label_map(cine: Cine) -> bool:
    values = cine.voxels_TZHW
    return float(values.max()) <= MAX_LABEL and float(values.min()) >= 0 and bool((values == np.rint(values)).all())


def _on_one_grid(cine: Cine, other: Cine) -> bool:
    if cine.voxels_TZHW.shape != other.voxels_TZHW.shape or cine.spacing_mm != other.spacing_mm:
        return False
    if cine.affine is None or other.affine is None:
        return cine.affine is other.affine
    return bool(np.allclose(cine.affine, other.affine, atol=SAME_AFFINE_MM))


def _parallel(cine: Cine, other: Cine) -> bool:
    same_shape = cine.voxels_TZHW.shape == other.voxels_TZHW.shape and cine.spacing_mm == other.spacing_mm
    return same_shape and bool(np.allclose(_affine(cine)[:3, :2], _affine(other)[:3, :2], atol=0.02))


def _normal(cine: Cine) -> np.ndarray:
    normal = np.cross(_affine(cine)[:3, 0], _affine(cine)[:3, 1])
    return np.asarray(normal / np.linalg.norm(normal))


def _affine(cine: Cine) -> np.ndarray:
    assert cine.affine is not None  # noqa: S101
    return cine.affine
