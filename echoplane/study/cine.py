"""Cine: MR slices of one plane over the beat, on one grid, independent of the file format they were read from.

Positions are patient coordinates as in DICOM (LPS: x to the left, y to the back, z to the head); `affine` is as in
NIfTI (RAS, from column, row, slice index to mm). Axes: T phase, Z slice, H row, W column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from echoplane.errors import ConfigError, TooLarge, UnusableStudy
from echoplane.study.subject import Subject

MIN_PHASES, MIN_SLICES = 2, 3
MIN_PHASES_OF_A_BEAT = 10
HEART_RATES_BPM = (20, 250)
"""Plausible heart rates; a rate outside of this range means that the times are wrong."""
SHOWN_ALONG = {
    "short-axis": (np.array([-0.8, -0.6, 0.0]), np.array([0.0, -0.35, -0.94])),
    "2-chamber": (np.array([-0.5, 0.5, 0.7]), np.array([0.74, -0.57, 0.37])),
    "4-chamber": (np.array([-0.7, -0.7, 0.0]), np.array([0.74, -0.57, 0.37])),
}
"""Anatomical directions (RAS) that point to the right and down in the displayed picture of each plane."""
MIN_LIKENESS = 0.03
"""Minimum difference of two correlations of pictures that counts as significant."""
MAX_UNEVEN = 0.1
"""Maximum relative deviation of a gap between slices from the usual gap; a stack with a larger one is not read."""
MAX_VOXELS = 400_000_000
"""Maximum size of a cine; for comparison, 500 slices of 512 x 512 are 131 million voxels."""


@dataclass(frozen=True)
class Cine:
    """Slices of one plane over the beat. Spacings that the files do not state are None; they are never assumed."""

    plane: str
    """Plane: short-axis, 2-chamber or 4-chamber."""
    voxels_TZHW: np.ndarray = field(repr=False)
    spacing_mm: tuple[float, float] | None = None
    """Distances from one row to the next and from one column to the next."""
    slice_spacing_mm: float | None = None
    """Distance from the middle of one slice to that of the next: it includes the gap, in which there is blood too."""
    frame_time_ms: float | None = None
    heart_rate_bpm: float | None = None
    """Heart rate stated by the scanner; if None, it follows from the frame time of a cine that covers one beat."""
    affine: np.ndarray | None = field(default=None, repr=False)
    stored_affine: np.ndarray | None = field(default=None, repr=False)
    """Affine as stated in a NIfTI file, even if it is not credible; masks are written with it, so that they match the
    file."""
    present_TZ: np.ndarray = field(default_factory=lambda: np.ones((0, 0), bool), repr=False)
    """True for each (phase, slice) that the files hold; the others are black in `voxels_TZHW`."""
    covers_beat: bool = True
    """False if the phases are a selection, such as end diastole and end systole alone."""
    sources: Mapping[tuple[int, int], tuple[str, int]] = field(default_factory=dict, repr=False)
    """DICOM source of each (phase, slice): SOP instance UID and frame number."""
    warnings: tuple[str, ...] = ()
    subject: Subject = field(default_factory=Subject, repr=False)
    scanner: tuple[str, str] = field(default=("", ""), repr=False)
    """Manufacturer and model as the header states them; empty if there is no header."""

    def __post_init__(self) -> None:
        if not self.present_TZ.size:
            object.__setattr__(self, "present_TZ", np.ones(self.voxels_TZHW.shape[:2], bool))

    @property
    def phases(self) -> int:
        return int(self.voxels_TZHW.shape[0])

    @property
    def slices(self) -> int:
        return int(self.voxels_TZHW.shape[1])

    @property
    def pixel_mm2(self) -> float | None:
        return self.spacing_mm[0] * self.spacing_mm[1] if self.spacing_mm else None

    @property
    def voxel_mm3(self) -> float | None:
        return self.pixel_mm2 * self.slice_spacing_mm if self.pixel_mm2 and self.slice_spacing_mm else None

    def with_warnings(self, *warnings: str) -> "Cine":
        return replace(self, warnings=(*self.warnings, *warnings))


def check_short_axis(cine: Cine) -> None:
    """Raises UnusableStudy if cardiac function cannot be measured from the stack; the message says what is missing."""
    if cine.phases < MIN_PHASES:
        raise UnusableStudy(
            f"the cine has {cine.phases} phase(s); at least end diastole and end systole are needed. "
            "Send the whole cine, not one frame of it."
        )
    if cine.slices < MIN_SLICES:
        raise UnusableStudy(
            f"the short axis stack has {cine.slices} slice(s); at least {MIN_SLICES} are needed to measure a volume."
        )
    if min(cine.voxels_TZHW.shape[2:]) < 48:
        rows, columns = cine.voxels_TZHW.shape[2:]
        raise UnusableStudy(f"slices have {rows} x {columns} pixels; at least 48 x 48 are needed to see a heart.")
    if float(cine.voxels_TZHW.max()) <= float(cine.voxels_TZHW.min()):
        raise UnusableStudy("every voxel of the cine has the same value: there is no picture in it.")


def check_size(shape: Sequence[int]) -> None:
    if int(np.prod(shape, dtype=np.int64)) > MAX_VOXELS:
        raise TooLarge(f"the cine has {' x '.join(map(str, shape))} voxels; at most {MAX_VOXELS:,} are read.")


def one_spacing(places_mm: Sequence[float]) -> tuple[float, list[int], tuple[str, ...]]:
    """Returns the spacing of slices whose middles lie at `places_mm` (sorted), each slice's number, and warnings.

    A gap that is a whole multiple of the spacing means missing slices. Gaps that differ by up to MAX_UNEVEN are
    replaced by their mean, with a warning. Raises UnusableStudy if spacings are mixed.
    """
    gaps = np.diff(np.asarray(places_mm, float))
    step = float(np.median(gaps[gaps <= 1.5 * gaps.min()]))
    numbers = np.rint(gaps / step)
    off = np.abs(gaps - numbers * step)
    if np.any(off > np.maximum(MAX_UNEVEN * step, 0.05)):
        raise UnusableStudy(
            f"the slices lie {gaps.min():.1f} to {gaps.max():.1f} mm apart; one spacing within "
            f"{100 * MAX_UNEVEN:.0f} % is needed. Send the short axis stack alone."
        )
    warnings: tuple[str, ...] = ()
    if np.any(off > np.maximum(0.01 * step * numbers, 0.05)):
        step = float(gaps.sum() / numbers.sum())
        low, high = (gaps / numbers).min(), (gaps / numbers).max()
        warnings = (f"slices lie {low:.1f} to {high:.1f} mm apart; {step:.1f} mm was taken",)
    return step, [0, *np.cumsum(numbers).astype(int).tolist()], warnings


def without_slices(cine: Cine, numbers: Sequence[int]) -> Cine:
    """Returns the cine with these slices (numbered from 1, as in the report) marked as missing."""
    if wrong := [number for number in numbers if not 1 <= number <= cine.slices]:
        raise ConfigError(f"there is no slice {wrong[0]}; the stack has slices 1 to {cine.slices}.")
    present_TZ = cine.present_TZ.copy()
    present_TZ[:, [number - 1 for number in numbers]] = False
    if present_TZ.any(axis=0).sum() < MIN_SLICES:
        raise ConfigError(f"fewer than {MIN_SLICES} slices would be left; exclude fewer.")
    listed = ", ".join(map(str, sorted(numbers)))
    return replace(cine, present_TZ=present_TZ).with_warnings(f"slice(s) {listed} were excluded by a person")


def looks_exchanged(cine: Cine) -> bool:
    """Returns True if phases and slices seem to be exchanged or mixed.

    Normally the same slice one phase later is more similar than the next slice is, whatever the brightness.
    """
    if not cine.covers_beat or cine.slices < MIN_SLICES:
        return False
    pictures = cine.voxels_TZHW[:, :, ::4, ::4].astype(np.float32).reshape(cine.phases, cine.slices, -1)
    pictures -= pictures.mean(axis=2, keepdims=True)
    pictures /= np.linalg.norm(pictures, axis=2, keepdims=True) + 1e-6
    over_time = float(np.median((pictures[1:] * pictures[:-1]).sum(axis=2)))
    over_slices = float(np.median((pictures[:, 1:] * pictures[:, :-1]).sum(axis=2)))
    return over_slices > over_time + MIN_LIKENESS


def to_affine(row_direction: np.ndarray, column_direction: np.ndarray, origin_mm: np.ndarray, step_mm: np.ndarray,
              spacing_mm: tuple[float, float]) -> np.ndarray:  # fmt: skip
    """Returns the NIfTI affine (RAS) of a stack given in DICOM coordinates (LPS).

    `row_direction` points along a row (to the next column), `column_direction` down a column (to the next row),
    `step_mm` from slice to slice (PS3.3 C.7.6.2.1.1).
    """
    affine = np.eye(4)
    affine[:3, 0] = row_direction * spacing_mm[1]
    affine[:3, 1] = column_direction * spacing_mm[0]
    affine[:3, 2] = step_mm
    affine[:3, 3] = origin_mm
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def display_turn(affine: np.ndarray | None, plane: str = "short-axis") -> tuple[bool, bool, bool]:
    """Returns how to turn a slice's array for the usual display: transpose, then flip rows, then flip columns.

    Short axis: columns run to the patient's left and back, rows to the feet and back, as scanners store them. Long
    axis: the apex is up, the right heart or the anterior wall on the conventional side. Without an affine the
    orientation is unknown, and nothing is turned.
    """
    if affine is None:
        return False, False, False
    along_column, down_row = affine[:3, 0], affine[:3, 1]  # RAS
    right, down = SHOWN_ALONG[plane]
    best, turn = -np.inf, (False, False, False)
    for transpose in (False, True):
        across, downward = (down_row, along_column) if transpose else (along_column, down_row)
        for flip_rows in (False, True):
            for flip_columns in (False, True):
                score = float(_unit(across) @ right) * (-1 if flip_columns else 1)
                score += float(_unit(downward) @ down) * (-1 if flip_rows else 1)
                if score > best + 1e-6:
                    best, turn = score, (transpose, flip_rows, flip_columns)
    return turn


def turned(array: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    """Returns `array` with its last two axes turned."""
    transpose, flip_rows, flip_columns = turn
    out = np.swapaxes(array, -1, -2) if transpose else array
    out = out[..., ::-1, :] if flip_rows else out
    return out[..., ::-1] if flip_columns else out


def turned_back(array: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    """Reverses `turned`."""
    transpose, flip_rows, flip_columns = turn
    out = array[..., ::-1] if flip_columns else array
    out = out[..., ::-1, :] if flip_rows else out
    return np.swapaxes(out, -1, -2) if transpose else out


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
