"""When an answer is flagged as unsure, as `bundle.json` keeps it."""

from pydantic import Field

from echoplane.tasks import task


class Thresholds(task.Thresholds):
    """The network's probabilities are taken as they are, without a temperature."""

    abstain_below: float = Field(ge=0, le=1)
    """An expected Dice of the LV cavity under this is flagged."""
