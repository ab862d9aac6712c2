"""Reference for drift: the values of accepted studies, and the values of a new study in the same streams."""

import contextlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter

import numpy as np

from echoplane.bundle.accuracy_model import AccuracyModel
from echoplane.bundle.embeddings import centre_and_scale, distances
from echoplane.monitoring.prediction_log import Row, unpacked

CANNOT_TELL = "cannot-tell"
CONFIDENCE, DISTANCE = "confidence", "embedding distance"
"""Streams beside the features of the input."""
ROWS_AT_ONCE = 2_048
"""Embeddings whose distances are computed at once, so that they stay in the processor's cache."""


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

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the streams, in the order of the columns of `values`."""
        return tuple(sorted(self.streams))

    def values(self, rows: Sequence[Row]) -> np.ndarray:
        """Returns the values of answered studies (study, stream); NaN if a study has none."""
        names = self.names
        columns: dict[str, Sequence[float] | np.ndarray] = {
            CONFIDENCE: [math.nan if row.confidence is None else row.confidence for row in rows],
            DISTANCE: distances_of(rows, self.centre, self.scale),
        }
        features = [name for name in names if name not in columns]
        found = np.empty((len(rows), len(names)))
        found[:, [names.index(name) for name in features]] = _features(rows, features)
        for name in self.streams.keys() & columns:
            found[:, names.index(name)] = columns[name]
        return found


def _features(rows: Sequence[Row], names: Sequence[str]) -> np.ndarray:
    """Returns the features `names` of studies (study, name); NaN for one that a study lacks."""
    if len(names) > 1:
        with contextlib.suppress(KeyError):  # a study lacks one; the other way takes several times as long
            values = map(itemgetter(*names), (row.features for row in rows))
            return np.fromiter(chain.from_iterable(values), float).reshape(len(rows), len(names))
    return np.array([[row.features.get(name, math.nan) for name in names] for row in rows], float)


def distances_of(rows: Sequence[Row], centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Returns the distance of each study's embedding from `centre` (study); NaN for one of another size."""
    parts = [np.empty(0)]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        texts = [row.embedding for row in rows[start : start + ROWS_AT_ONCE]]
        parts.append(distances(unpacked(texts, len(centre)), centre, scale))
    return np.concatenate(parts)


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
        streams[CONFIDENCE] = tuple(stated)
    streams[DISTANCE] = tuple(distances(embeddings, centre, scale).tolist())
    return Reference(streams, Counter(label or CANNOT_TELL for label in labels), centre, scale)
