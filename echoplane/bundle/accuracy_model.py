"""Accuracy of a classifier without labels: a regression on what its probabilities look like over many studies.

It is fitted on corrupted copies of the validation studies, whose labels are known (Deng and Zheng 2021, "Are labels
always necessary for classifier accuracy evaluation?"), on four features of a window of studies: mean confidence, share
of confident studies (Garg et al. 2022, ATC), nuclear norm (Deng et al. 2023) and mean entropy. Axes: N study, K label,
F feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

WINDOW = 1_000
"""Studies of a window: with fewer, chance alone moves the accuracy by more than the regression's error."""
MIN_STUDIES = 50
"""Minimum number of validation studies that the regression is fitted on."""
DRAWS, SHARES = 4, (0.25, 0.5, 1.0)
"""Windows drawn per condition, and shares of their studies that are corrupted."""
RIDGE = 1e-4
MARGIN = 0.1
"""Share of the fitted range by which a window may lie outside of it."""
CLEAN = "clean"


@dataclass(frozen=True)
class Condition:
    """Answers to the validation studies under one corruption: probabilities (N, K), whether the most probable label is
    right (N), and how far the embeddings lie from those of clean studies (N)."""

    kind: str
    probabilities_NK: np.ndarray
    correct_N: np.ndarray
    distance_N: np.ndarray


class AccuracyModel(BaseModel):
    """Content of `accuracy_model.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    kinds: tuple[str, ...]
    """Kinds of corruption that it was fitted on."""
    studies: int = Field(ge=MIN_STUDIES)
    """Validation studies that it was fitted on."""
    confident_above: float
    """Confidence above which as large a share of the clean studies lies as is answered right."""
    coefficients: tuple[float, ...]
    """Intercept, and the weights of the features and of their products."""
    low: tuple[float, ...]
    """Lowest value of each feature, and of the mean distance of embeddings, at fitting."""
    high: tuple[float, ...]
    centre: tuple[float, ...]
    """Mean of the clean studies' embeddings."""
    scale: tuple[float, ...]
    """Standard deviation of each of their features."""
    accuracy: float
    """Accuracy on the clean validation studies."""
    error_seen: float
    """Mean error on the kinds that it was fitted on, by a fit on one half of the studies tested on the other."""
    error_unseen: float
    """Mean error on a kind that it was not fitted on, by leaving out one kind after the other."""


@dataclass(frozen=True)
class Estimate:
    """Estimated accuracy of a window; `accuracy` is None if it cannot be known, for the `reason`."""

    accuracy: float | None
    reason: str = ""


FEATURES = ("mean confidence", "share of confident studies", "nuclear norm", "entropy")


def features_of(probabilities_NK: np.ndarray, confident_above: float) -> np.ndarray:
    """Returns the features (F) of a window."""
    count, labels = probabilities_NK.shape
    confidence_N = probabilities_NK.max(axis=1)
    nuclear = np.sqrt(np.maximum(np.linalg.eigvalsh(probabilities_NK.T @ probabilities_NK), 0)).sum()
    entropy = -(probabilities_NK * np.log(np.maximum(probabilities_NK, 1e-12))).sum(axis=1).mean()
    return np.array(
        [
            confidence_N.mean(),
            (confidence_N > confident_above).mean(),
            nuclear / np.sqrt(count * labels),
            entropy / np.log(labels),
        ]
    )


def estimated(model: AccuracyModel, probabilities_NK: np.ndarray, distance_N: np.ndarray) -> Estimate:
    """Returns the accuracy of a window of answered studies, or why it cannot be known.

    What labels mean may change without any trace in the inputs (concept drift): no estimate can see that.
    """
    features_F = features_of(probabilities_NK, model.confident_above)
    measured = [*features_F, float(np.mean(distance_N))]
    for name, value, low, high in zip((*FEATURES, "embedding distance"), measured, model.low, model.high, strict=True):
        slack = MARGIN * (high - low)
        if not low - slack <= value <= high + slack:
            return Estimate(None, f"{name} is {value:.3g}; the estimate was fitted on {low:.3g} to {high:.3g}")
    return Estimate(float(_predicted(np.array(model.coefficients), features_F[None])[0]))


def fit(conditions: Sequence[Condition], centre: np.ndarray, scale: np.ndarray, seed: int = 0) -> AccuracyModel:
    """Returns the regression fitted on `conditions`, the same studies in each; one of them is CLEAN.

    Raises ValueError if there is no clean condition, or fewer than MIN_STUDIES studies.
    """
    clean = next((one for one in conditions if one.kind == CLEAN), None)
    if clean is None or len(clean.correct_N) < MIN_STUDIES:
        raise ValueError(f"the estimate is fitted on at least {MIN_STUDIES} studies, clean and corrupted.")
    everyone = np.arange(len(clean.correct_N))
    accuracy = float(clean.correct_N.mean())
    above = float(np.quantile(clean.probabilities_NK.max(axis=1), 1 - accuracy)) - 1e-9
    rng = np.random.default_rng(seed)
    windows = _windows(clean, conditions, everyone, above, rng)
    halves = [_windows(clean, conditions, half, above, rng) for half in np.array_split(rng.permutation(everyone), 2)]
    kinds = tuple(dict.fromkeys(one.kind for one in conditions if one.kind != CLEAN))
    return AccuracyModel(
        kinds=kinds,
        studies=len(everyone),
        confident_above=above,
        coefficients=tuple(_regression(windows).tolist()),
        low=tuple(windows.measured.min(axis=0).tolist()),
        high=tuple(windows.measured.max(axis=0).tolist()),
        centre=tuple(map(float, centre)),
        scale=tuple(map(float, scale)),
        accuracy=accuracy,
        error_seen=float(np.mean([_mean_error(*halves), _mean_error(*reversed(halves))])),
        error_unseen=float(np.mean([_mean_error(windows.other_than(kind), windows.of(kind)) for kind in kinds])),
    )


@dataclass(frozen=True)
class _Windows:
    """Windows of studies: the kind of their corruption (W), features and mean distance (W, F + 1), accuracy (W)."""

    kinds: np.ndarray
    measured: np.ndarray
    accuracy: np.ndarray

    @property
    def features(self) -> np.ndarray:
        return self.measured[:, :-1]

    def of(self, kind: str) -> "_Windows":
        return self._chosen(self.kinds == kind)

    def other_than(self, kind: str) -> "_Windows":
        return self._chosen(self.kinds != kind)

    def _chosen(self, chosen: np.ndarray) -> "_Windows":
        return _Windows(self.kinds[chosen], self.measured[chosen], self.accuracy[chosen])


def _windows(
    clean: Condition, conditions: Sequence[Condition], studies: np.ndarray, above: float, rng: np.random.Generator
) -> _Windows:
    """Returns windows drawn from `studies` under each condition, with shares of them corrupted."""
    kinds, measured, accuracy = [], [], []
    for condition in conditions:
        for share in np.repeat(SHARES, DRAWS):
            drawn = rng.choice(studies, WINDOW)
            first = round(share * WINDOW)
            parts = ((condition, drawn[:first]), (clean, drawn[first:]))
            features_F = features_of(np.concatenate([one.probabilities_NK[rows] for one, rows in parts]), above)
            distance = np.concatenate([one.distance_N[rows] for one, rows in parts]).mean()
            kinds.append(condition.kind)
            measured.append([*features_F, distance])
            accuracy.append(np.concatenate([one.correct_N[rows] for one, rows in parts]).mean())
    return _Windows(np.array(kinds), np.array(measured), np.array(accuracy))


def _expanded(features: np.ndarray) -> np.ndarray:
    """Returns the features and their products: the accuracy is no linear function of them."""
    first, second = np.triu_indices(features.shape[1])
    return np.column_stack([features, features[:, first] * features[:, second]])


def _regression(windows: _Windows) -> np.ndarray:
    """Returns intercept and weights of a ridge regression on the standardised features, for the features as they
    are."""
    terms = _expanded(windows.features)
    centre, scale, mean = terms.mean(axis=0), np.maximum(terms.std(axis=0), 1e-9), windows.accuracy.mean()
    standard = (terms - centre) / scale
    gram = standard.T @ standard / len(standard) + RIDGE * np.eye(terms.shape[1])
    weights = np.linalg.solve(gram, standard.T @ (windows.accuracy - mean) / len(standard)) / scale
    return np.array([mean - centre @ weights, *weights])


def _predicted(coefficients: np.ndarray, features: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(coefficients[0] + _expanded(features) @ coefficients[1:], 0, 1))


def _mean_error(fitted: _Windows, tested: _Windows) -> float:
    return float(np.abs(_predicted(_regression(fitted), tested.features) - tested.accuracy).mean())
