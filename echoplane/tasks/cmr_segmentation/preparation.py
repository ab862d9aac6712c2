"""Preprocessing of a study's cines for the network, the same for training and serving.

Rows of a batch are slices: first all phases and slices of the short axis stack that the files hold, then the long axis
cines, then mirrored copies, which check whether the network's result is the same for a flipped picture.
Axes: B row of the batch, T phase, Z slice, H row, W column."""

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from echoplane.errors import UnusableStudy
from echoplane.study.cine import Cine, check_short_axis, display_turn, turned
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation.structures import PLANES
from echoplane.tasks.task import Prepared

SYSTOLE = 0.35
"""Position of the second mirrored phase, as a share of the beat: near end systole."""


class Preprocessing(BaseModel):
    """Settings of the preprocessing. The paper: 1st to 99th percentile to [0, 1], no resampling."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    percentiles: tuple[float, float] = (1.0, 99.0)
    """Percentiles of a cine's values that become black and white."""
    pixel_mm: float = Field(default=1.4, gt=0)
    """Pixel size to which slices are resampled, if their own is outside `pixel_range_mm`."""
    pixel_range_mm: tuple[float, float] = (1.0, 2.0)
    """Range of pixel sizes that are not resampled."""
    largest_side: int = Field(default=384, multiple_of=16)
    """Maximum side of a slice in pixels; larger slices are reduced, whatever their pixel size."""


def preprocess(study: Study, config: Preprocessing) -> Prepared:
    """Returns every slice as uint8 (row of the batch, row, column).

    Raises UnusableStudy if cardiac function cannot be measured from the study.
    """
    cines = study.cines
    if not cines or cines[0].plane != PLANES[0]:
        raise UnusableStudy("there is no short axis cine in the study. Send a cine MR series, NIfTI or DICOM.")
    check_short_axis(cines[0])
    parts, rows = [], []
    for number, cine in enumerate(cines):
        slices_BHW, found = _slices(cine, config)
        parts.append(slices_BHW)
        rows += [(number, t, z) for t, z in found]
    probes = [k for k, (number, t, _) in enumerate(rows) if number == 0 and t in mirrored_phases(cines[0].phases)]
    side = tuple(-(-max(part.shape[axis] for part in parts) // 16) * 16 for axis in (1, 2))
    batch = np.concatenate([_padded(part, side) for part in parts])
    mirrored = batch[probes][:, :, ::-1]
    place = {
        "rows": rows + [rows[k] for k in probes],
        "planes": [cines[number].plane for number, _, _ in rows] + [PLANES[0]] * len(probes),
        "mirrored": len(probes),
        "averaged": len(probes) == len(parts[0]),
        "sides": [part.shape[1:] for part in parts],
    }
    return Prepared(np.concatenate([batch, mirrored]), place, tuple(w for cine in cines for w in cine.warnings))


def mirrored_phases(phases: int) -> tuple[int, int]:
    """Returns the phases of which mirrored copies are made: the first, and one near end systole (of two, the other)."""
    return 0, max(1, round(SYSTOLE * phases))


def _slices(cine: Cine, config: Preprocessing) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Returns the slices that the files hold, (B, H, W) uint8, turned for display, and the (phase, slice) of each."""
    found = [(int(t), int(z)) for t, z in np.argwhere(cine.present_TZ)]
    low, high = grey_range(cine, config.percentiles)
    turn = _turn(cine)
    size = network_size(cine, config)
    out = np.empty((len(found), *size), np.uint8)
    for k, (t, z) in enumerate(found):
        slice_HW = turned(cine.voxels_TZHW[t, z], turn)
        grey = cv2.convertScaleAbs(
            np.clip(slice_HW, low, high).astype(np.float32), alpha=255 / (high - low), beta=-low * 255 / (high - low)
        )
        out[k] = grey if grey.shape == size else cv2.resize(grey, size[::-1], interpolation=cv2.INTER_AREA)
    return out, found


def grey_range(cine: Cine, percentiles: tuple[float, float]) -> tuple[float, float]:
    """Returns the values that become black and white, from at most two million voxels of the slices present."""
    values = cine.voxels_TZHW[cine.present_TZ].ravel()
    low, high = np.percentile(values[:: max(1, values.size // 2_000_000)], percentiles)
    return float(low), float(max(high, low + 1e-6))


def _turn(cine: Cine) -> tuple[bool, bool, bool]:
    return display_turn(cine.affine, cine.plane)


def network_size(cine: Cine, config: Preprocessing) -> tuple[int, int]:
    """Returns the rows and columns of one slice in the network's input, before padding."""
    rows, columns = turned(np.empty(cine.voxels_TZHW.shape[2:], bool), _turn(cine)).shape
    scale_rows = scale_columns = 1.0
    if cine.spacing_mm:
        spacing = cine.spacing_mm[::-1] if _turn(cine)[0] else cine.spacing_mm
        low, high = config.pixel_range_mm
        if not (low <= min(spacing) and max(spacing) <= high):
            scale_rows, scale_columns = spacing[0] / config.pixel_mm, spacing[1] / config.pixel_mm
    shrink = min(1.0, config.largest_side / max(rows * scale_rows, columns * scale_columns))
    return max(16, round(rows * scale_rows * shrink)), max(16, round(columns * scale_columns * shrink))


def _padded(slices_BHW: np.ndarray, side: tuple[int, ...]) -> np.ndarray:
    """Pads slices with black below and to the right."""
    _, rows, columns = slices_BHW.shape
    return np.pad(slices_BHW, ((0, 0), (0, side[0] - rows), (0, side[1] - columns)))
