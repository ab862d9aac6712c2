"""Distance of embeddings from those of accepted studies: one measure for the bundle and for the monitor."""

import numpy as np

MIN_SCALE = 1e-6
"""Smallest scale of a feature, so that one that never changes divides nothing by zero."""


def centre_and_scale(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation (feature) of `embeddings` (study, feature)."""
    return embeddings.mean(axis=0), np.maximum(embeddings.std(axis=0), MIN_SCALE)


def distances(embeddings: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Returns the distance of each of `embeddings` (study, feature) from `centre`: root mean square of the deviations
    in units of `scale`, (study)."""
    return np.sqrt((((embeddings - centre) / scale) ** 2).mean(axis=1))
