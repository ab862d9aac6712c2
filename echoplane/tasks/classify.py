"""Shared parts of the classifying tasks: softmax, a study's row, and the figures of a set of scored studies.

Axes: N row (one scored study), K label, B bin.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from echoplane.errors import ConfigError
from echoplane.tasks import task
from echoplane.tasks.label_shares import LabelShares
from echoplane.tasks.task import Prepared, Result, Rows, Samples, Truth, probabilities_of


class Thresholds(task.Thresholds):
    """Thresholds that turn logits into a label or "cannot tell"."""

    temperature: float = Field(gt=0)
    """Divisor of the logits (Guo et al. 2017, arXiv 1706.04599)."""
    abstain_below: float = Field(ge=0, le=1)
    """Confidence below which the answer is "cannot tell"."""
    label_thresholds: Mapping[str, Annotated[float, Field(ge=0, le=1)]] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )
    """Confidence that these labels need instead of `abstain_below`, by name; None if all need the same."""
    min_energy: float | None = None
    """Minimum energy of an input: below it the input is unlike the training data and the answer is "cannot tell"; None
    if not fitted."""
    trained_shares: LabelShares | None = None
    """Shares of the labels in training; None for even ones."""
    label_shares: LabelShares | None = Field(default=None, exclude=True)
    """Shares of the labels that the site which answers declares; None for those of training. Not part of a bundle."""

    def needed_for(self, label: str) -> float:
        return (self.label_thresholds or {}).get(label, self.abstain_below)


def with_declared(thresholds: task.Thresholds, shares: LabelShares | None) -> task.Thresholds:
    """Returns a bundle's thresholds with the site's shares. Raises ConfigError if the task is no classification."""
    if shares is None:
        return thresholds
    if not isinstance(thresholds, Thresholds):
        raise ConfigError("label shares: this task's answers are no labels with probabilities; declare none for it.")
    return type(thresholds).model_validate(thresholds.model_dump() | {"label_shares": shares})


def energy(logits: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the summed exponentials over the last axis: the higher, the more familiar the input (Liu
    et al. 2020, arXiv 2010.03759)."""
    highest = logits.max(axis=-1)
    return np.asarray(highest + np.log(np.exp(logits - highest[..., None]).sum(axis=-1)))


def unfamiliar(logits_RK: np.ndarray, thresholds: Thresholds) -> str:
    """Returns the reason why the rows of one study are unlike the training data; empty if they are not."""
    found = float(energy(np.asarray(logits_RK, np.float64).mean(axis=0)))
    if thresholds.min_energy is None or found >= thresholds.min_energy:
        return ""
    return f"unlike what the model has learnt: energy {found:.2f}, at least {thresholds.min_energy:.2f} expected"


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def confusion_matrix(truth_N: np.ndarray, predicted_N: np.ndarray, labels: int) -> np.ndarray:
    """Returns counts (truth, predicted)."""
    return np.bincount(truth_N * labels + predicted_N, minlength=labels * labels).reshape(labels, labels)


def expected_calibration_error(confidence_N: np.ndarray, correct_N: np.ndarray, bins: int = 10) -> float:
    """Returns the mean gap between confidence and accuracy over equal bins (Naeini 2015), weighted by their counts."""
    bin_N = np.minimum((confidence_N * bins).astype(int), bins - 1)
    gap = np.bincount(bin_N, confidence_N - correct_N, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence_N))


def summarise(rows: Rows, names: list[str]) -> dict[str, float]:
    """Returns accuracy, top-2, macro precision, recall and F1, calibration error, abstentions, recall by label.

    Abstained answers count by their most probable label, so that a model gains nothing by abstaining; a label absent
    from the truth is left out of the means.
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


def labelled(prepared: Prepared, truth: Truth, names: list[str]) -> Samples:
    """Returns every row of the batch under the study's label."""
    return Samples(prepared.batch, (names.index(str(truth)),) * len(prepared.batch))


def about(thresholds: Thresholds, labels: int) -> str:
    others = ", ".join(f"{name} {value:.3f}" for name, value in sorted((thresholds.label_thresholds or {}).items()))
    return (
        f'One of {labels} labels, with a probability for each, or "cannot tell" under a confidence of '
        f"{thresholds.abstain_below:.3f}{f' (but {others})' if others else ''}. It answers with one of its labels "
        "whatever is shown to it."
    )


def score(result: Result, truth: Truth, names: list[str]) -> dict[str, Any]:
    """Returns a row's own columns: the truth and all probabilities."""
    return {
        "truth": names.index(str(truth)),
        "truth_label": str(truth),
        "probabilities": list(probabilities_of(result).values()),
    }


def showing(rows: Rows, names: list[str]) -> dict[str, np.ndarray]:
    """Returns the rows by their true label."""
    return {name: np.flatnonzero(rows["truth"] == k) for k, name in enumerate(names)}


def details(rows: Rows, names: list[str]) -> dict[str, Any]:
    """Returns the confusion matrix, the reliability diagram, and the wrong answers."""
    correct_N = rows["probabilities"].argmax(axis=1) == rows["truth"]
    return {
        "confusion": confusion(rows, names),
        "reliability": reliability(rows["probabilities"].max(axis=1), correct_N),
        "misclassified": _misclassified(rows, names),
    }


def confusion(rows: Rows, names: list[str]) -> dict[str, Any]:
    """Returns counts and percent along true rows, labels in their display order, in which easily confused views are
    neighbours."""
    counts_KK = confusion_matrix(rows["truth"], rows["probabilities"].argmax(axis=1), len(names))
    percent_KK = 100 * counts_KK / np.maximum(counts_KK.sum(axis=1, keepdims=True), 1)
    return {"labels": names, "counts": counts_KK.tolist(), "percent": percent_KK.round(1).tolist()}


def reliability(confidence_N: np.ndarray, correct_N: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Returns the bars of the reliability diagram: range, count, mean confidence and accuracy of each bin with
    clips."""
    bin_N = np.minimum((confidence_N * bins).astype(int), bins - 1)
    return [
        {
            "from": b / bins,
            "to": (b + 1) / bins,
            "clips": int((bin_N == b).sum()),
            "confidence": float(confidence_N[bin_N == b].mean()),
            "accuracy": float(correct_N[bin_N == b].mean()),
        }
        for b in range(bins)
        if (bin_N == b).any()
    ]


def _misclassified(rows: Rows, names: list[str]) -> list[dict[str, Any]]:
    """Returns the clips whose most probable label is wrong, the most confident first, for review by a person."""
    said_N = rows["probabilities"].argmax(axis=1)
    wrong = [
        {
            "sample": str(rows["sample"][n]),
            "truth": names[rows["truth"][n]],
            "said": names[said_N[n]],
            "confidence": float(rows["confidence"][n]),
            "abstained": bool(rows["abstained"][n]),
            "manufacturer": str(rows["manufacturer"][n]),
        }
        for n in np.flatnonzero(said_N != rows["truth"])
    ]
    return sorted(wrong, key=lambda clip: -clip["confidence"])
