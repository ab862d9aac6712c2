"""Turns of callers at something that only a few may use at once.

A caller may use all of it while nobody else wants it. Half as many turns again are kept for callers who have none, so
that one who sends files that take long does not keep another waiting.
"""

import asyncio
from collections import Counter


class Turns:
    """At most `size` turns at once, and half as many more, one at least, for callers who have none. It lives on one
    event loop."""

    def __init__(self, size: int) -> None:
        self._size, self.most = size, size + max(1, size // 2)
        """Turns that a caller may have, and turns that all may have together."""
        self._taken: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @property
    def taken(self) -> int:
        return self._taken.total()

    def is_free_for(self, caller: str) -> bool:
        return self.taken < (self._size if self._taken[caller] else self.most)

    async def take(self, caller: str) -> None:
        """Waits until it is the caller's turn, in the order of arrival among those who may have one."""
        if self.is_free_for(caller):
            self._taken[caller] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((caller, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given in the same moment
                self.give_back(caller)
            elif (caller, turn) in self._waiting:
                self._waiting.remove((caller, turn))
            raise

    def give_back(self, caller: str) -> None:
        self._taken[caller] -= 1
        self._taken += Counter()  # forgets callers who have none
        for entry in list(self._waiting):
            name, turn = entry
            if self.is_free_for(name):
                self._waiting.remove(entry)
                if not turn.cancelled():
                    self._taken[name] += 1
                    turn.set_result(None)
