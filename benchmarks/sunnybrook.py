"""The Sunnybrook cine MR set (CC0, Cardiac Atlas Project): 30 patients, short axis at end diastole and end systole.

Readers drew the LV cavity alone, and only on some slices: figures count the slices that were drawn. The pictures state
no spacing. The set lies beside the checkout; nothing of it is part of the product. Axes: T phase, Z slice, H row,
W column."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from echoplane.dataset.segmentations import Slice
from echoplane.study.cine import Cine
from echoplane.study.frames import NUMBERED, PHASES_A_SLICE, assembled
from echoplane.study.study import Study
from echoplane.tasks import cmr_segmentation as task
from echoplane.tasks.cmr_segmentation.structures import LV_CAVITY, target_of

ROOT = Path(__file__).resolve().parents[2] / "shared" / "data" / "cmr" / "sunnybrook"
FOLDS = 5
SALT = "echoplane-cmr "
SMALL, LARGE = 700, 1300
"""Pixels of the cavity that part slices into strata of about equal number: a small cavity is seen as often as a large
one."""
STRATA = 6
"""Three by size at each end of systole."""
MISDRAWN = frozenset({"SC-N-06"})
"""Its contours lie 10 to 20 pixels beside the ventricle that its pictures show, slice by slice, whoever looks at them.
Nothing can be learnt from it; it is tested like the others, and figures are given with and without it."""


@dataclass(frozen=True)
class Patient:
    """A cine of two phases and what was drawn on it; `drawn_TZ` says where."""

    name: str
    cine: Cine
    truth_TZHW: np.ndarray
    drawn_TZ: np.ndarray

    @property
    def es(self) -> int:
        """The phase of the smaller cavity."""
        return int(self.truth_TZHW.sum(axis=(1, 2, 3)).argmin())


def require() -> None:
    """Ends the program with a sentence if the set is not beside the checkout: training begins with hours without it."""
    if not any(NUMBERED.match(path.name) for path in (ROOT / "Images").rglob("*.png")):
        raise SystemExit(
            f"the Sunnybrook cine MR set (CC0, Cardiac Atlas Project) is not at {ROOT}, with pictures in Images/ and "
            "contours in Labels/. Put it there; `python -m benchmarks.views_training train` needs no data."
        )


def patients() -> list[Patient]:
    """Returns all patients, by name. Raises FileNotFoundError if the set is not beside the checkout."""
    paths: dict[str, dict[tuple[int, int], Path]] = defaultdict(dict)
    for path in sorted((ROOT / "Images").rglob("*.png")):
        match = NUMBERED.match(path.name)
        if match:
            paths[match["series"]][divmod(int(match["number"]) - 1, PHASES_A_SLICE)] = path
    if not paths:
        raise FileNotFoundError("the Sunnybrook set is not at ../shared/data/cmr/sunnybrook.")
    return [_patient(name, places) for name, places in sorted(paths.items())]


def _patient(name: str, places: dict[tuple[int, int], Path]) -> Patient:
    cine = assembled({place: path.read_bytes for place, path in places.items()}, {})
    phases, first = sorted({t for _, t in places}), min(z for z, _ in places)
    truth_TZHW = np.zeros(cine.voxels_TZHW.shape, bool)
    for (z, phase), path in places.items():
        drawn = cv2.imread(str(_label(path)), cv2.IMREAD_GRAYSCALE)
        truth_TZHW[phases.index(phase), z - first] = drawn > 0
    return Patient(name, cine, truth_TZHW, truth_TZHW.any(axis=(2, 3)))


def _label(picture: Path) -> Path:
    return ROOT / "Labels" / picture.relative_to(ROOT / "Images")


def folds(names: list[str]) -> list[frozenset[str]]:
    """Test patients of each fold, by the digest of a public salt and the name."""
    ordered = sorted(names, key=lambda name: hashlib.sha256((SALT + name).encode()).hexdigest())
    return [frozenset(ordered[k::FOLDS]) for k in range(FOLDS)]


def slices(found: list[Patient]) -> list[Slice]:
    """Training samples: each drawn slice as the network sees it, its target the cavity or "anything else"."""
    made = []
    for patient in found:
        prepared = task.preprocess(Study((), (patient.cine,)), task.Preprocessing())
        count, es = len(prepared.batch) - prepared.place["mirrored"], patient.es
        for k, (_, t, z) in enumerate(prepared.place["rows"][:count]):
            truth_HW = patient.truth_TZHW[t, z]
            target_HW = target_of(truth_HW.astype(np.uint8) * LV_CAVITY, "short-axis", (LV_CAVITY,))
            stratum = int(np.digitize(truth_HW.sum(), [SMALL, LARGE])) + STRATA // 2 * (t == es)
            sample = np.stack([prepared.batch[k], target_HW])
            made.append(Slice(sample, stratum, f"{patient.name}-{t}-{z}", patient.name, "sunnybrook"))
    return made
