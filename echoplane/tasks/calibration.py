"""Temperature and thresholds of confidence and energy, fitted on validation clips, which were not used for training.

Axes: N clip, R row of a batch, K label.
"""

from collections.abc import Iterable

import numpy as np

from echoplane.errors import BundleError
from echoplane.tasks.classify import Thresholds, energy, expected_calibration_error, softmax
from echoplane.tasks.task import Calibration, Validated

MIN_CLIPS = 20
TEMPERATURES = (0.2, 10.0)
ANSWERED_ACCURACY = 0.99
"""Target accuracy of the clips that are answered."""
MIN_SURE_SHARE = 0.01
"""Minimum share of validation clips below the threshold: a clip less confident than 99 in 100 of them is unlike the
training data."""
MAX_ABSTAINED = 0.10
"""Maximum share of "cannot tell": with more the model is of no use, whatever its accuracy on the rest."""
UNFAMILIAR_SHARE = 0.005
"""Share of validation clips whose energy is below the lowest that is answered."""
ALWAYS_ANSWERED = 0.9
"""Maximum of the threshold: validation clips may all be more confident than any clip of another clinic."""


def calibrate(logits_NK: np.ndarray, truth_N: np.ndarray) -> Calibration:
    """Fits the temperature, then the threshold. Raises BundleError if there are fewer than MIN_CLIPS clips, which would
    fit noise."""
    if len(logits_NK) < MIN_CLIPS:
        raise BundleError(f"{len(logits_NK)} validation clips; at least {MIN_CLIPS} are needed to calibrate.")
    temperature = fit_temperature(logits_NK, truth_N)
    before_NK, after_NK = softmax(logits_NK.astype(float)), softmax(logits_NK.astype(float) / temperature)
    correct_N, confidence_N = after_NK.argmax(axis=1) == truth_N, after_NK.max(axis=1)
    abstain_below = abstention_threshold(confidence_N, correct_N)
    answered_N = confidence_N >= abstain_below
    figures = {
        "clips": len(truth_N),
        "accuracy": float(correct_N.mean()),
        "answered_accuracy": float(correct_N[answered_N].mean()),
        "abstained": float(1 - answered_N.mean()),
        "nll_before": _nll(before_NK, truth_N),
        "nll_after": _nll(after_NK, truth_N),
        "calibration_error_before": expected_calibration_error(before_NK.max(axis=1), correct_N),
        "calibration_error_after": expected_calibration_error(confidence_N, correct_N),
    }
    min_energy = float(np.quantile(energy(logits_NK.astype(float)), UNFAMILIAR_SHARE))
    thresholds = Thresholds(temperature=temperature, abstain_below=abstain_below, min_energy=min_energy)
    return Calibration(thresholds, figures, _sentence(temperature, figures))


def _sentence(temperature: float, figures: dict[str, float]) -> str:
    return (
        f"On {figures['clips']} validation clips: temperature {temperature:.3f}; expected calibration error "
        f"{figures['calibration_error_before']:.3f} before and {figures['calibration_error_after']:.3f} after it; "
        f'{100 * figures["abstained"]:.1f}% answered "cannot tell", {100 * figures["answered_accuracy"]:.1f}% of the '
        "others right."
    )


def calibrate_samples(batches: Iterable[Validated]) -> Calibration:
    """Runs `calibrate` on a classifier's validation batches; a sample of several rows gets their mean logits, as in
    `interpret`."""
    parts = list(batches)
    if not parts:
        raise BundleError("the dataset has no validation sample; a bundle can't be calibrated without.")
    logits_RK, label_R, sample_R = (np.concatenate([part[k] for part in parts]) for k in range(3))
    _, first, sample_of_row = np.unique(sample_R, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), logits_RK.shape[1]))
    np.add.at(sums, sample_of_row, logits_RK)
    return calibrate(sums / np.bincount(sample_of_row)[:, None], label_R[first])


def fit_temperature(logits_NK: np.ndarray, truth_N: np.ndarray) -> float:
    """Returns the temperature of minimum negative log likelihood (Guo et al. 2017, arXiv 1706.04599).

    If every clip is right, that would be the lowest temperature allowed and a confidence of 1 for everything. So one
    clip's worth of the likelihood is given to the best wrong label, as Platt (1999) gives one to each class.
    """
    from scipy import optimize  # imported here: inference does not need it

    logits_NK = np.asarray(logits_NK, float)
    doubt = 1 / (len(logits_NK) + 2)
    truth_of_N = logits_NK[np.arange(len(truth_N)), truth_N]
    others_NK = logits_NK.copy()
    others_NK[np.arange(len(truth_N)), truth_N] = -np.inf
    wanted_N = (1 - doubt) * truth_of_N + doubt * others_NK.max(axis=1)

    def loss(log_temperature: float) -> float:
        scaled_NK = logits_NK / np.exp(log_temperature)
        peak_N = scaled_NK.max(axis=1)
        total_N = peak_N + np.log(np.exp(scaled_NK - peak_N[:, None]).sum(axis=1))
        return float((total_N - wanted_N / np.exp(log_temperature)).mean())

    found = optimize.minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


def abstention_threshold(confidence_N: np.ndarray, correct_N: np.ndarray) -> float:
    """Returns the lowest confidence from which answered clips reach ANSWERED_ACCURACY, bounded: at least MIN_SURE_SHARE
    and at most MAX_ABSTAINED of the clips lie below it, and it is at most ALWAYS_ANSWERED."""
    order = np.argsort(confidence_N)
    sorted_N, right_N = confidence_N[order], correct_N[order]
    accuracy_from_N = right_N[::-1].cumsum()[::-1] / np.arange(len(right_N), 0, -1)
    enough = np.flatnonzero(accuracy_from_N >= ANSWERED_ACCURACY)
    first = int(enough[0]) if len(enough) else len(sorted_N) - 1
    least, most = int(MIN_SURE_SHARE * len(sorted_N)), int(MAX_ABSTAINED * len(sorted_N))
    return min(ALWAYS_ANSWERED, float(sorted_N[min(max(first, least), most)]))


def _nll(probabilities_NK: np.ndarray, truth_N: np.ndarray) -> float:
    truth_of_N = probabilities_NK[np.arange(len(truth_N)), truth_N]
    return float(-np.log(np.maximum(truth_of_N, 1e-12)).mean())
