"""One function over many files in several processes: results in the order of the items, whatever finishes first."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

import cv2

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

SLAB = 4096
"""Items handed out at once: results that wait for their turn stay bounded."""


def in_order(work: Callable[[Item], Outcome], items: Sequence[Item], workers: int) -> Iterator[Outcome]:
    """`work` of every item, in order. `work` must be picklable: a module's function or a partial of one.

    One worker means this process. A worker that dies (out of memory, say) raises BrokenProcessPool.
    """
    if workers <= 1:
        yield from map(work, items)
        return
    # forkserver: this process may run threads, which a plain fork would copy in whatever state they are
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "echoplane.study.dicom"])
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread_each) as pool:
        queue = iter(items)
        while slab := list(islice(queue, SLAB)):
            yield from pool.map(work, slab, chunksize=4)


def _one_thread_each() -> None:
    cv2.setNumThreads(1)
