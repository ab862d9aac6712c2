"""The last answers of a model, from which its accuracy is estimated without labels."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from echoplane.bundle.accuracy_model import WINDOW, AccuracyModel, Estimate, estimated
from echoplane.monitoring.prediction_log import Row
from echoplane.monitoring.reference import distances_of


class AnswerWindow:
    """Probabilities and embedding distance of the last WINDOW answers."""

    def __init__(self) -> None:
        self._answers: deque[list[float]] = deque(maxlen=WINDOW)

    def add(self, rows: Sequence[Row], model: AccuracyModel) -> None:
        """Adds answers, oldest first; one without probabilities, of an older service, is left out."""
        last = [row for row in rows if row.probabilities][-WINDOW:]
        if last:
            distances = distances_of(last, np.array(model.centre), np.array(model.scale)).tolist()
            self._answers.extend(
                [*row.probabilities, round(distance, 4)] for row, distance in zip(last, distances, strict=True)
            )

    def estimate(self, model: AccuracyModel) -> Estimate | None:
        """Returns the estimated accuracy of the window, or why it cannot be known; None before the window is full."""
        if len(self._answers) < WINDOW:
            return None
        table = np.array(self._answers)
        return estimated(model, table[:, :-1], table[:, -1])

    def stored(self) -> list[list[float]]:
        return list(self._answers)

    @classmethod
    def restored(cls, answers: Sequence[list[float]]) -> "AnswerWindow":
        """Returns the window of `stored` answers."""
        window = cls()
        window._answers.extend(answers)
        return window
