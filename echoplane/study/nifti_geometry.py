"""Geometry of a NIfTI-1 header: spacings, time between phases, and the affine.

If statements of a file contradict each other (docs/cmr.md), sizes are those of pixdim. Of sform and qform, the first
one that agrees with pixdim is used. One that only repeats the voxel sizes along the axes is ignored: tools that have
discarded the orientation write it so. Without a unit of length mm is meant; without a unit of time ms, or s if below 1.
Axes: X column, Y row, Z slice, T phase."""

import numpy as np

MILLIMETRE, METRE, MICROMETRE = 2, 1, 3
TO_MM = {METRE: 1000.0, MILLIMETRE: 1.0, MICROMETRE: 0.001}
TO_MS = {8: 1000.0, 16: 1.0, 24: 0.001}
SAME_SPACING = 0.01


def _sides_mm(header: np.ndarray) -> list[float]:
    """Returns the voxel sizes along X, Y, Z in mm, which is also meant if the file states no unit."""
    factor = TO_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    return [abs(float(v)) * factor for v in header["pixdim"][1:4]]


def spacings(header: np.ndarray) -> tuple[tuple[float, float] | None, float | None, tuple[str, ...]]:
    """Returns the spacings (row, column) and slice in mm, from pixdim, and warnings; None for unknown spacings."""
    unit, sides = int(header["xyzt_units"]) & 7, _sides_mm(header)
    if not all(0.05 < side < 100 for side in sides):
        return None, None, ("no spacing in the file: areas are in pixels and there are no millilitres",)
    if unit == 0 and sides == [1.0, 1.0, 1.0]:
        return None, None, ("the file has no unit and a spacing of 1, which means none: there are no millilitres",)
    if differing := _true_spacing_differs(header, sides):
        return None, None, (differing,)
    said = () if unit in TO_MM else ("the file names no unit of length: millimetres, as is usual, were taken",)
    return (sides[1], sides[0]), sides[2], said


def _true_spacing_differs(header: np.ndarray, sides: list[float]) -> str:
    """Returns a warning if the affine states real voxel sizes that differ from pixdim, else an empty text."""
    affines = [affine for _, affine in stated_affines(header)]
    if not affines or _agrees(affines[0], sides):
        return ""
    by_affine = np.linalg.norm(affines[0][:3, :3], axis=0)
    if np.allclose(by_affine, 1.0, rtol=SAME_SPACING):  # an sform without scales states no sizes
        return ""
    stated, other = (" x ".join(f"{side:.4g}" for side in found) for found in (sides, by_affine))
    return (
        f"pixdim says {stated} mm, the affine {other} mm: areas are in pixels and there are no millilitres; "
        "give a file in which they agree"
    )


def frame_time_between_phases_ms(header: np.ndarray) -> float | None:
    """Returns the time between phases from pixdim[4]. Without a unit, values below 1 are seconds."""
    step = float(header["pixdim"][5 if int(header["dim"][0]) > 4 and header["dim"][4] == 1 else 4])
    unit = int(header["xyzt_units"]) & 56
    if not 0 < step < 1e6:
        return None
    time_ms = step * TO_MS.get(unit, 1000.0 if step < 1 else 1.0)
    return time_ms if 5 <= time_ms <= 500 else None


def credible_affine(header: np.ndarray) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Returns the affine (mm) to use, None if none is credible, and warnings on those that were ignored."""
    sides, warnings = _sides_mm(header), []
    for name, affine in stated_affines(header):
        if not _agrees(affine, sides):
            warnings.append(f"the {name} states other voxel sizes than pixdim and was not used")
        elif not _states_an_orientation(affine, sides):
            warnings.append(f"the {name} repeats the voxel sizes alone: the orientation of the slices is unknown")
        else:
            return affine, tuple(warnings)
    return None, tuple(warnings)


def stated_affines(header: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Returns the sform, then the qform, in mm, if the file has them and they can be inverted."""
    found = []
    if header["sform_code"] > 0:
        affine = np.eye(4)
        affine[:3] = header["srow"]
        found.append(("sform", affine))
    if header["qform_code"] > 0:
        found.append(("qform", _qform(header)))
    scale = np.diag([*[TO_MM.get(int(header["xyzt_units"]) & 7, 1.0)] * 3, 1.0])
    return [(name, scale @ affine) for name, affine in found if abs(np.linalg.det(affine)) > 1e-9]


def _agrees(affine: np.ndarray, sides: list[float]) -> bool:
    return bool(np.allclose(np.linalg.norm(affine[:3, :3], axis=0), sides, rtol=SAME_SPACING))


def _states_an_orientation(affine: np.ndarray, sides: list[float]) -> bool:
    """Returns False for the identity and for diag(sizes) without an origin, which programs write for "unknown"."""
    diagonal = np.allclose(affine[:3, :3], np.diag(sides), atol=1e-4 * max(sides))
    return not (diagonal and np.allclose(affine[:3, 3], 0.0, atol=1e-4))


def _qform(header: np.ndarray) -> np.ndarray:
    b, c, d = (float(v) for v in header["quatern"])
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    sides = np.array(header["pixdim"][1:4], float)
    sides[2] *= -1 if header["pixdim"][0] < 0 else 1
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation * sides, header["qoffset"]
    return affine
