"""One function over many files in several processes: results in the order of the items, whatever finishes first."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from echoplane.processes import processes

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

SLAB = 4096
"""Items handed out at once: results that wait for their turn stay bounded."""


def in_order(work: Callable[[Item], Outcome], items: Sequence[Item], workers: int) -> Iterator[Outcome]:
    """`work` of every item, in order. `work` must be picklable: a module's function or a partial of one.

    One worker, or one item, means this process. A worker that dies (out of memory, say) raises BrokenProcessPool.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(work, items)
        return
    # forkserver: the reader is imported once for all workers
    multiprocessing.get_context("forkserver").set_forkserver_preload([__name__, "echoplane.study.dicom"])
    with processes(workers, "forkserver") as pool:
        queue = iter(items)
        while slab := list(islice(queue, SLAB)):
            yield from pool.map(work, slab, chunksize=4)
