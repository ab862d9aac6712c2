"""Reference for drift: the values of accepted studies, and the values of a new study in the same streams."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from echoplane.bundle.accuracy_model import AccuracyModel
from echoplane.bundle.embeddings import centre_and_scale, distances
from echoplane.monitoring.prediction_log import Row, unpacked

CANNOT_TELL = "cannot-tell"


@dataclass(frozen=True)
class Reference:
    """`streams` holds one value per accepted study by name of stream; `labels` the number of studies with each label.

    `centre` and `scale` (feature) are mean and standard deviation of the embeddings.
    """

    streams: Mapping[str, Sequence[float]]
    labels: Mapping[str, int]
    centre: np.ndarray
    scale: np.ndarray
    accuracy_model: AccuracyModel | None = None
    """Estimate of accuracy without labels; None if the bundle has none."""

    def values(self, row: Row) -> dict[str, float]:
        """Returns one answered study's value in each stream; NaN if the study has none."""
        own = {
            **row.features,
            "confidence": math.nan if row.confidence is None else row.confidence,
            "embedding distance": float(distances(unpacked(row.embedding)[None], self.centre, self.scale)[0]),
        }
        return {name: own.get(name, math.nan) for name in self.streams}


def reference_of(
    confidence: Sequence[float | None],
    labels: Sequence[str | None],
    features: Mapping[str, Sequence[float]],
    embeddings: np.ndarray,
) -> Reference:
    """Returns the reference of the accepted studies; each sequence has one entry, and `embeddings` one row, per
    study."""
    centre, scale = centre_and_scale(embeddings)
    streams = {name: tuple(map(float, values)) for name, values in features.items()}
    if stated := [value for value in confidence if value is not None]:
        streams["confidence"] = tuple(stated)
    streams["embedding distance"] = tuple(distances(embeddings, centre, scale).tolist())
    return Reference(streams, Counter(label or CANNOT_TELL for label in labels), centre, scale)
