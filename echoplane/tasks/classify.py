"""What every classifying task shares: softmax and the figures of a set of scored studies.

Axes: N row (one scored study), K label."""

import numpy as np

from echoplane.tasks.task import Rows


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def confusion_matrix(truth_N: np.ndarray, predicted_N: np.ndarray, labels: int) -> np.ndarray:
    """Counts (truth, predicted)."""
    return np.bincount(truth_N * labels + predicted_N, minlength=labels * labels).reshape(labels, labels)


def expected_calibration_error(confidence_N: np.ndarray, correct_N: np.ndarray, bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over equal bins (Naeini 2015), weighted by their counts."""
    bin_N = np.minimum((confidence_N * bins).astype(int), bins - 1)
    gap = np.bincount(bin_N, confidence_N - correct_N, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence_N))


def summarise(rows: Rows, names: list[str]) -> dict[str, float]:
    """Accuracy, top-2, macro precision, recall and F1, calibration error, abstentions, recall by label.

    Abstained answers count by their most probable label, so that a model gains nothing by abstaining; a label
    absent from the truth is left out of the means.
    """
    truth_N, probabilities_NK = np.asarray(rows["truth"]), np.asarray(rows["probabilities"])
    predicted_N = probabilities_NK.argmax(axis=1)
    counts_KK = confusion_matrix(truth_N, predicted_N, len(names))
    hits_K, true_K, said_K = counts_KK.diagonal(), counts_KK.sum(axis=1), counts_KK.sum(axis=0)
    recall_K = hits_K / np.maximum(true_K, 1)
    precision_K = hits_K / np.maximum(said_K, 1)
    f1_K = 2 * hits_K / np.maximum(true_K + said_K, 1)
    there = true_K > 0
    correct_N = predicted_N == truth_N
    second_N = np.argsort(probabilities_NK, axis=1)[:, -2]
    figures = {
        "accuracy": float(correct_N.mean()),
        "top2": float((correct_N | (second_N == truth_N)).mean()),
        "precision": float(precision_K[there].mean()),
        "recall": float(recall_K[there].mean()),
        "f1": float(f1_K[there].mean()),
        "calibration_error": expected_calibration_error(probabilities_NK.max(axis=1), correct_N),
        "abstained": float(np.mean(rows["abstained"])),
    }
    return figures | {f"recall/{names[k]}": float(recall_K[k]) for k in np.flatnonzero(there)}
