"""How many processes a stage works with where nobody says: as many as cores, but no more than memory holds."""

import os
from pathlib import Path

MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of this container, by cgroup version 2 and 1; "max" or an enormous number where there is none."""
GIB = 1 << 30


def default_workers(limits: tuple[str, ...] = MEMORY_LIMITS) -> int:
    """Cores, at most one process for each GiB that this container may use, at least 1.

    A container sees all cores of its node: on 64 of them it would start what its memory can't hold.
    """
    cores = os.cpu_count() or 1
    for path in map(Path, limits):
        if path.exists() and (text := path.read_text().strip()).isdigit():
            return max(1, min(cores, int(text) // GIB))
    return cores
