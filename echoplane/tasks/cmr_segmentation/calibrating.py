"""Calibration: the threshold under which a result is flagged as unsure, fitted on validation patients.

The confidence of a result is the Dice of the LV cavity that the network expects of itself, computed from its
probabilities. There is no temperature scaling: the expected Dice uses the probabilities as they are.
Axes: B row of a batch, N sample, H row, W column."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from echoplane.errors import BundleError
from echoplane.tasks.cmr_segmentation.inference import condense
from echoplane.tasks.cmr_segmentation.structures import CLASSES, LV_CAVITY, bits, plane_of
from echoplane.tasks.cmr_segmentation.thresholds import Thresholds
from echoplane.tasks.task import Calibration, Validated

ASKED = 0.85
"""Expected Dice under which a result is flagged, unless validation asks for a lower threshold."""
GOOD, MAX_GOOD_FLAGGED = 0.90, 0.10
"""At most the share MAX_GOOD_FLAGGED of the validation patients with a Dice of GOOD or more may be flagged."""


def calibrate(batches: Iterable[Validated]) -> Calibration:
    """Fits the threshold on validation slices. Raises BundleError if none of them shows the LV cavity."""
    sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(5))
    for output, target_BHW, sample_B in batches:
        for name, counts in zip(sample_B, _counts(output, target_BHW), strict=True):
            sums[str(name)] += counts
    found_N = np.array([counts for counts in sums.values() if counts[1] + counts[2] > 0])
    if not len(found_N):
        raise BundleError("no validation sample shows the LV cavity; a bundle can't be calibrated without.")
    overlap_N, guess_N, truth_N, mass_N, inside_N = found_N.T
    dice_N, expected_N = 2 * overlap_N / (guess_N + truth_N), 2 * inside_N / np.maximum(mass_N + guess_N, 1e-9)
    below = abstention(expected_N, dice_N)
    figures = {
        "studies": len(found_N),
        "dice": float(dice_N.mean()),
        "expected_dice": float(expected_N.mean()),
        "abstained": float((expected_N < below).mean()),
    }
    sentence = (
        f"On {len(found_N)} validation studies, Dice of the LV cavity over both ends of systole: {dice_N.mean():.3f} "
        f"found, {expected_N.mean():.3f} expected by the network itself; {100 * figures['abstained']:.0f}% lie under "
        f"the threshold of {below:.3f}."
    )
    return Calibration(Thresholds(abstain_below=below), figures, sentence)


def abstention(expected_N: np.ndarray, dice_N: np.ndarray) -> float:
    """Returns ASKED, or a lower threshold if too many good results would lie under it."""
    good_N = np.sort(expected_N[dice_N >= GOOD])
    return min(ASKED, float(good_N[int(MAX_GOOD_FLAGGED * len(good_N))])) if len(good_N) else ASKED


def _counts(output: np.ndarray, target_BHW: np.ndarray) -> np.ndarray:
    """Returns figures of the LV cavity per slice (B, 5): pixels shared, predicted and annotated, `mass` and `inside`.

    `mass` and `inside` are those of `inference.condense`.
    """
    planes = [plane_of(target_HW) for target_HW in target_BHW]
    condensed = condense(output, planes)
    known_BHW = target_BHW & bits(tuple(range(CLASSES)))
    guess_BHW, truth_BHW = condensed["classes"] == LV_CAVITY, known_BHW == 1 << LV_CAVITY
    sides = (1, 2)
    return np.stack(
        [
            (guess_BHW & truth_BHW).sum(axis=sides),
            guess_BHW.sum(axis=sides),
            truth_BHW.sum(axis=sides),
            condensed["mass"][:, LV_CAVITY],
            condensed["inside"][:, LV_CAVITY],
        ],
        axis=1,
    )
