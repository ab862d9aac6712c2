"""Runs one function over many files in several processes; results keep the order of the items."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from echoplane.processes import processes

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

SLAB = 4096
"""Items submitted at once, which bounds the number of results that wait for their turn."""


def in_order(work: Callable[[Item], Outcome], items: Sequence[Item], workers: int) -> Iterator[Outcome]:
    """Yields `work(item)` for every item, in order. `work` must be picklable: a module-level function or a partial of
    one.

    With one worker or one item the work is done in this process. Raises BrokenProcessPool if a worker dies, for example
    out of memory.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(work, items)
        return
    # forkserver: the DICOM reader is imported once for all workers
    multiprocessing.get_context("forkserver").set_forkserver_preload([__name__, "echoplane.study.dicom"])
    with processes(workers, "forkserver") as pool:
        queue = iter(items)
        while slab := list(islice(queue, SLAB)):
            yield from pool.map(work, slab, chunksize=4)
