"""Pauses Python's search for cyclic garbage while many objects without cycles are made.

The search is started by the number of new objects and looks at all of them again and again. Rows that are read by the
ten thousand hold no cycle, so that it finds nothing, and takes longer than reading them.
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Pauses the search in the whole process; objects without cycles are freed all the same. May be nested."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
