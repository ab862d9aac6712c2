"""What de-identification blackens of the heart, and whether the blackened pixels tell the view.

Clips of new patients of the phantom, all views, no text over the sector: `python -m benchmarks deid-masks`. What is
lost is counted inside the true sector. A classifier sees nothing but that map, small, and is tested on patients that it
has not seen; it must be no better than the same classifier with the views of each patient exchanged at random.
Axes: H row, W column, N clip, D number of a feature.
"""

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydicom import dcmread

from benchmarks import machine
from benchmarks.deid_recall import KEY, decoded
from benchmarks.results import record
from echoplane.deid import Policy, deidentify_file
from echoplane.phantom import make_patient, scan_echo, write_clip
from echoplane.phantom.patient import VIEW_NAMES

SEED, PATIENTS, FRAMES = 88_000, 18, 12
FOLDS, EXCHANGES, RIDGE = 6, 1000, 10.0
_LIT, _BLACK = 24, 2
_MAP = (32, 24)
_MOST_MEAN_PERCENT, _MOST_IN_A_CLIP_PERCENT = 0.1, 1.0


@dataclass(frozen=True)
class Lost:
    """One clip: whose, of which view and style, the share of the sector's lit pixels that went, and where."""

    patient: int
    view: str
    style: str
    held: str
    share: float
    map_HW: np.ndarray


def clips_lost(patients: int = PATIENTS, seed: int = SEED) -> list[Lost]:
    """De-identifies one clip of each view of each patient; clips that are held lose nothing."""
    return [_lost(seed + k, view) for k in range(patients) for view in VIEW_NAMES]


def _lost(seed: int, view: str) -> Lost:
    patient = make_patient(seed)
    clip = scan_echo(patient, view, seed, frames=FRAMES)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "clip.dcm")
        write_clip(clip, patient, source)
        outcome = deidentify_file(source, Path(folder, "out"), KEY, Policy())
        shape = clip.sector_mask.shape
        lost_HW = np.zeros(shape, bool)
        before_HW = np.maximum.reduce(list(decoded(dcmread(source))))
        lit_HW = (before_HW > _LIT) & clip.sector_mask
        if outcome.output is not None:
            after_HW = np.maximum.reduce(list(decoded(dcmread(Path(folder, "out", outcome.output)))))
            lost_HW = lit_HW & (after_HW <= _BLACK)
    x0, y0, x1, y1 = clip.sector.box
    in_box_HW = lost_HW[y0 : y1 + 1, x0 : x1 + 1].astype(np.float32)
    small_HW = cv2.resize(in_box_HW, _MAP, interpolation=cv2.INTER_AREA)
    return Lost(seed, view, clip.style.model, outcome.reason or "", float(lost_HW.sum() / lit_HW.sum()), small_HW)


def accuracy(map_ND: np.ndarray, view_N: np.ndarray, patient_N: np.ndarray) -> float:
    """Returns the accuracy of a ridge classifier over folds of patients. view_N: index of the view of each clip."""
    return float(np.mean(_weights(map_ND, patient_N)(view_N) == view_N))


def _weights(map_ND: np.ndarray, patient_N: np.ndarray) -> Any:
    """Returns a function from labels to predictions; what does not depend on the labels is computed once."""
    fold_N = np.unique(patient_N, return_inverse=True)[1] % FOLDS
    folds = []
    for fold in range(FOLDS):
        train, test = np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)
        centre_D = map_ND[train].mean(axis=0)
        train_ND, test_ND = map_ND[train] - centre_D, map_ND[test] - centre_D
        kernel = train_ND @ train_ND.T + RIDGE * np.eye(len(train))
        folds.append((train, test, test_ND @ train_ND.T @ np.linalg.inv(kernel)))

    def predict(view_N: np.ndarray) -> np.ndarray:
        found_N = np.zeros(len(view_N), int)
        one_hot = np.eye(len(VIEW_NAMES))[view_N]
        for train, test, weights in folds:
            found_N[test] = np.argmax(weights @ one_hot[train], axis=1)
        return found_N

    return predict


def exchanged(map_ND: np.ndarray, view_N: np.ndarray, patient_N: np.ndarray) -> np.ndarray:
    """Returns the accuracies of the same classifier with the views exchanged at random among each patient's clips."""
    rng = np.random.default_rng(SEED)
    predict, found = _weights(map_ND, patient_N), []
    for _ in range(EXCHANGES):
        mixed_N = view_N.copy()
        for patient in np.unique(patient_N):
            own = np.flatnonzero(patient_N == patient)
            mixed_N[own] = rng.permutation(mixed_N[own])
        found.append(np.mean(predict(mixed_N) == mixed_N))
    return np.array(found)


def measure() -> None:
    """Records what is lost, by style, and the accuracy from the masks alone beside that of exchanged labels."""
    record(
        "deid-masks",
        "What de-identification blackens of the heart",
        figures(clips_lost()),
        machine.conditions("python -m benchmarks deid-masks", SEED),
        "Phantom clips without text over the sector, one of each view of each patient. The classifier is a ridge "
        f"regression on the map of blackened pixels inside the sector, {_MAP[0]} x {_MAP[1]}, tested on patients that "
        "it has not seen.",
    )


def figures(clips: list[Lost]) -> list[dict[str, str]]:
    """Returns the shares that are lost, and the accuracy for the view beside that of exchanged labels."""
    percent = 100 * np.array([clip.share for clip in clips])
    by_style = defaultdict(list)
    for clip, share in zip(clips, percent, strict=True):
        by_style[clip.style].append(share)
    map_ND = np.stack([clip.map_HW.ravel() for clip in clips])
    view_N = np.array([VIEW_NAMES.index(clip.view) for clip in clips])
    patient_N = np.array([clip.patient for clip in clips])
    found, chance = accuracy(map_ND, view_N, patient_N), exchanged(map_ND, view_N, patient_N)
    high = float(np.quantile(chance, 0.975))
    return [
        _figure("clips, patients", f"{len(clips)}, {len(set(patient_N.tolist()))}"),
        _figure("clips held", str(sum(bool(clip.held) for clip in clips)), "0"),
        _figure("lit pixels of the sector lost, mean, %", f"{percent.mean():.3f}", f"at most {_MOST_MEAN_PERCENT}"),
        _figure("the same, most in a clip, %", f"{percent.max():.2f}", f"at most {_MOST_IN_A_CLIP_PERCENT}"),
        *(
            _figure(f"style {style}, mean and most of {len(shares)}, %", f"{np.mean(shares):.3f}, {max(shares):.2f}")
            for style, shares in sorted(by_style.items())
        ),
        _figure("clips that lost any pixel", str(int((percent > 0).sum()))),
        _figure("accuracy for the view, from the mask alone", f"{found:.3f}", f"at most {high:.3f}"),
        _figure(
            f"the same with exchanged labels, mean and 95 % interval of {EXCHANGES}",
            f"{chance.mean():.3f} ({np.quantile(chance, 0.025):.3f} to {high:.3f})",
        ),
    ]


def _figure(name: str, value: str, expected: str = "") -> dict[str, str]:
    return {"figure": name, "value": value} | ({"expected": expected} if expected else {})
