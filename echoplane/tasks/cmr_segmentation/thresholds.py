"""Threshold under which a result is flagged as unsure, as stored in `bundle.json`."""

from pydantic import Field

from echoplane.tasks import task


class Thresholds(task.Thresholds):
    """Thresholds of the task. There is no temperature: the network's probabilities are used as they are."""

    abstain_below: float = Field(ge=0, le=1)
    """Expected Dice of the LV cavity under which a result is flagged."""
