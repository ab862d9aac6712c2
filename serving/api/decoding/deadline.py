"""The end of the time for a request."""

import time
from dataclasses import dataclass

from echoplane.errors import EchoplaneError


class DeadlineReached(EchoplaneError):
    """Raised if a file is not read by the request's deadline, after its decoder was killed."""

    def __init__(self, deadline: "Deadline") -> None:
        super().__init__(f"not read within {deadline.limit_s:g} s.")
        self.limit_s = deadline.limit_s


@dataclass(frozen=True)
class Deadline:
    """End of the time for a request: `limit_s` after its start, at `at_s` of time.monotonic()."""

    limit_s: float
    at_s: float

    @classmethod
    def after(cls, limit_s: float) -> "Deadline":
        return cls(limit_s, time.monotonic() + limit_s)

    def left_s(self) -> float:
        return max(0.0, self.at_s - time.monotonic())
