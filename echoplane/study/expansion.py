"""One budget for all that a study's bytes expand to, over every layer: archive, deflated DICOM, gzipped NIfTI.

Each layer has a limit of its own; without a common one, a small zip of several deflated files reaches the sum of them.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from echoplane.errors import TooLarge
from echoplane.study.limits import MIB

MAX_BYTES = 1024 * MIB
"""Maximum number of bytes that one study expands to, unless the caller allows less."""


class _Budget:
    def __init__(self, limit: int) -> None:
        self.limit = self.left = limit


_CURRENT: ContextVar[_Budget | None] = ContextVar("expansion", default=None)


@contextlib.contextmanager
def expansion_budget(limit: int = MAX_BYTES) -> Iterator[None]:
    """Limits what is expanded inside; a budget that an outer caller has set stays in force."""
    if _CURRENT.get() is not None:
        yield
        return
    token = _CURRENT.set(_Budget(limit))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def spend(count: int) -> None:
    """Counts expanded bytes. Raises TooLarge if they exceed the budget of the study."""
    budget = _CURRENT.get()
    if budget is None:
        return
    budget.left -= count
    if budget.left < 0:
        raise TooLarge(f"the study expands to more than {budget.limit // MIB} MiB; send its files one by one.")
