"""Annotated masks of a cine MR study: a label map on the grid of each cine, such as sa_mask.nii.gz for sa.nii.gz.

If only some structures are annotated, `drawn.json` lists them: {"structures": ["lv-cavity"]}. Axes: T phase, Z slice,
H row, W column."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from echoplane.errors import ConfigError, UnusableStudy
from echoplane.study.cine_files import FOUND, MASK, NAMES
from echoplane.study.nifti import read_nifti
from echoplane.study.study import Study

UNDRAWN = 255
"""Value of a voxel that is not annotated, such as those of a slice without a contour in one phase."""
DRAWN = "drawn.json"


@dataclass(frozen=True)
class Masks:
    """Label maps by plane, uint8 (T, Z, H, W), with UNDRAWN for voxels that are not annotated.

    `drawn` names the annotated structures; None stands for all.
    """

    labels: Mapping[str, np.ndarray] = field(repr=False)
    drawn: tuple[str, ...] | None = None


def mask_of(folder: Path) -> Path | None:
    """Returns the path of the short axis mask in a study's folder; None if absent."""
    return next((path for end in (".nii.gz", ".nii") if (path := folder / f"sa{MASK}{end}").is_file()), None)


def read_edited_masks(folder: Path, study: Study) -> dict[str, np.ndarray]:
    """Returns the masks by plane that `measure` wrote to `folder` and that a person may have edited since.

    Raises UnusableStudy if one is absent or not on its cine's grid.
    """
    paths = {name: folder / name for name in FOUND.values()}
    return masks_in({name: path.read_bytes() for name, path in paths.items() if path.is_file()}, study)


def masks_in(files: Mapping[str, bytes], study: Study) -> dict[str, np.ndarray]:
    """Returns the masks by plane in the contents of the files that `measure` writes, by name.

    Raises UnusableStudy if one is absent or not on its cine's grid.
    """
    masks = {}
    for cine in study.cines:
        name = FOUND[cine.plane]
        if name not in files:
            raise UnusableStudy(f"there is no {name} among the masks; give the folder that `measure` wrote.")
        labels_TZHW = read_nifti(files[name]).voxels_TZHW
        if labels_TZHW.shape != cine.voxels_TZHW.shape:
            raise UnusableStudy(
                f"{name} has {labels_TZHW.shape} voxels (phase, slice, row, column), its cine "
                f"{cine.voxels_TZHW.shape}. Edit the mask on the grid of the cine."
            )
        masks[cine.plane] = labels_TZHW.astype(np.uint8)
    return masks


def read_masks(folder: Path, study: Study) -> Masks:
    """Returns the annotated masks in `folder`. Raises UnusableStudy if there are none, or one is not on its grid."""
    found = {}
    for cine in study.cines:
        path = next(folder.glob(f"{NAMES[cine.plane]}{MASK}.nii*"), None)
        if path is None:
            continue
        labels_TZHW = read_nifti(path.read_bytes()).voxels_TZHW
        if labels_TZHW.shape != cine.voxels_TZHW.shape:
            raise UnusableStudy(
                f"the {cine.plane} mask has {labels_TZHW.shape} voxels (phase, slice, row, column), its cine "
                f"{cine.voxels_TZHW.shape}. Draw on the cine itself."
            )
        found[cine.plane] = labels_TZHW.astype(np.uint8)
    if not found:
        raise UnusableStudy("the study has no mask beside it (sa_mask.nii.gz).")
    return Masks(found, _drawn(folder / DRAWN))


def _drawn(path: Path) -> tuple[str, ...] | None:
    if not path.exists():
        return None
    try:
        return tuple(str(name) for name in json.loads(path.read_bytes())["structures"])
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f'{DRAWN} must be of the form {{"structures": ["lv-cavity"]}}.') from None
