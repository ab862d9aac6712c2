"""Confidence intervals by bootstrap. Samples of one patient are correlated, so patients are resampled, not samples.

The interval is the plain percentile interval (Efron and Tibshirani 1993, chapter 13). If every sample is right it has
zero width: it cannot show an error that the test set does not contain, so read it together with the number of patients.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from echoplane.tasks import Rows

Figures = dict[str, float]
Summary = Callable[[Rows], Figures]
RESAMPLES = 2000
COVERED_PERCENT = (2.5, 97.5)


def bootstrap(
    rows: Rows, summary: Summary, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Returns the 95% interval of every figure of `summary` over `rows`, resampling patients.

    A figure that a resample lacks, because it has no sample of that label, is left out of its own percentiles.
    """
    draws = [summary(take(rows, drawn)) for drawn in resampled(rows["patient"], resamples, seed)]
    return _percentiles(draws, list(summary(rows)))


def bootstrap_difference(
    rows: Rows, others: Rows, summary: Summary, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Returns the 95% interval of `summary(rows) - summary(others)`; both hold the same samples in the same order.

    Both are resampled together, each patient with all of their samples.
    """
    draws = [
        difference(summary(take(rows, drawn)), summary(take(others, drawn)))
        for drawn in resampled(rows["patient"], resamples, seed)
    ]
    return _percentiles(draws, list(difference(summary(rows), summary(others))))


def difference(figures: Mapping[str, float], others: Mapping[str, float]) -> Figures:
    """Returns the difference of every figure that both have."""
    return {name: value - others[name] for name, value in figures.items() if name in others}


def resampled(patient_N: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields the row indices of `resamples` draws of as many patients as there are, with replacement."""
    _, patient_of_row, rows_of_patient = np.unique(patient_N, return_inverse=True, return_counts=True)
    groups = np.split(np.argsort(patient_of_row, kind="stable"), np.cumsum(rows_of_patient)[:-1])
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.concatenate([groups[p] for p in rng.integers(0, len(groups), len(groups))])


def take(rows: Rows, indices: np.ndarray) -> Rows:
    return {name: column[indices] for name, column in rows.items()}


def _percentiles(draws: list[Figures], names: list[str]) -> dict[str, tuple[float, float]]:
    intervals = {}
    for name in names:
        values = [draw[name] for draw in draws if name in draw]
        low, high = np.percentile(values, COVERED_PERCENT)
        intervals[name] = (float(low), float(high))
    return intervals
