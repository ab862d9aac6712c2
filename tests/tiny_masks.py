"""Cine MR studies with masks beside them, tiny: what a data set of cine MR holds. No phantom, no patient."""

import json
from pathlib import Path

import numpy as np

from echoplane.study.cine import Cine
from echoplane.study.nifti import write_nifti
from tests.tiny_cine import beating_heart

AFFINE = np.diag([1.4, 1.4, 9.0, 1.0])


def heart() -> tuple[Cine, np.ndarray]:
    """A beating disc in a ring as a short axis cine, and its exact masks."""
    pictures, labels = beating_heart(phases=6)
    return Cine("short-axis", pictures.astype(np.int16), (1.4, 1.4), 9.0, 100.0, affine=AFFINE), labels


def write_studies(folder: Path, patients: int) -> Path:
    """FOLDER/studies with a folder a patient: the cine, its mask, and who it is."""
    cine, labels = heart()
    rng = np.random.default_rng(0)
    for k in range(patients):
        own = folder / "studies" / f"s{k:02d}"
        own.mkdir(parents=True)
        noisy = (cine.voxels_TZHW + rng.integers(0, 5, cine.voxels_TZHW.shape)).astype(np.int16)
        (own / "sa.nii.gz").write_bytes(write_nifti(noisy, cine))
        (own / "sa_mask.nii.gz").write_bytes(write_nifti(labels, cine))
        (own / "study.json").write_text(json.dumps({"patient": f"P{k:02d}", "manufacturer": "Rings"}))
    return folder
