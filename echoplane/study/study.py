"""Study as it came from a scanner, with its frames on demand.

Nothing here depends on a file format; `echoplane.study.dicom` makes studies from DICOM, `Pixels` from an array. Axes: T
frame, H row, W column.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from echoplane.errors import UnusableStudy
from echoplane.study.cine import Cine
from echoplane.study.views import View


class Frames(Protocol):
    """Grey frames of one instance, decoded on demand."""

    def grey(self, indices: Sequence[int], smallest_side: int | None = None) -> np.ndarray:
        """Returns frames `indices` as uint8 (frame, row, column), black 0 to white 255.

        A decoder that can scale for free may return smaller frames, but none whose shorter side is below
        `smallest_side`. Raises NotAnImage if the pixel data are truncated or corrupt.
        """
        ...


@dataclass(frozen=True)
class Pixels:
    """Frames that are already in memory: uint8 (frame, row, column)."""

    frames_THW: np.ndarray

    def grey(self, indices: Sequence[int], smallest_side: int | None = None) -> np.ndarray:
        return self.frames_THW[list(indices)]


@dataclass(frozen=True)
class Region:
    """A calibrated rectangle of an ultrasound image (PS3.3 C.8.5.5), half open: rows top to bottom - 1.

    `kind` is one of tissue, colour-flow, pw-doppler, cw-doppler, spectral, m-mode, trace, other; `spacing_mm` (row,
    column) is None if the region is not calibrated in centimetres.
    """

    kind: str
    top: int
    left: int
    bottom: int
    right: int
    spacing_mm: tuple[float, float] | None = None

    @property
    def area(self) -> int:
        return max(0, self.bottom - self.top) * max(0, self.right - self.left)


@dataclass(frozen=True)
class Identity:
    """Patient and study of an instance. No repr shows it: before de-identification it is PHI."""

    patient: str
    study_uid: str
    instance_uid: str
    sex: str | None = None
    age_years: int | None = None
    bmi: float | None = None


@dataclass(frozen=True)
class Instance:
    """One instance: a still (one frame) or a clip. `digest` is the SHA-256 of its file."""

    digest: str
    modality: str
    frame_count: int
    rows: int
    columns: int
    frames: Frames = field(repr=False)
    frame_time_ms: float | None = None
    regions: tuple[Region, ...] = ()
    manufacturer: str = ""
    model: str = ""
    view: View | None = None
    identity: Identity | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()
    has_header: bool = True
    """True unless the file is a video or picture, which states no patient, scan region or calibration."""


@dataclass(frozen=True)
class Study:
    """Instances that are answered together; a view task gets one clip, CMR a whole cine."""

    instances: tuple[Instance, ...]
    cines: tuple[Cine, ...] = ()
    """Cine MR, short axis first."""

    @property
    def only(self) -> Instance:
        """Returns the one instance of a study. Raises UnusableStudy if there are more, or if it is cine MR."""
        if self.cines:
            raise UnusableStudy("a cine MR was sent; this task answers ultrasound clips.")
        if len(self.instances) != 1:
            raise UnusableStudy(f"{len(self.instances)} instances were sent; this task answers one clip at a time.")
        return self.instances[0]
