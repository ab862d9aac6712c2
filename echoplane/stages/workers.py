"""Default number of a stage's processes: one per core, but no more than memory holds."""

import os
from pathlib import Path

MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with this container's memory limit, for cgroup versions 2 and 1; "max" or a huge number means none."""
GIB = 1 << 30


def default_workers(limits: tuple[str, ...] = MEMORY_LIMITS) -> int:
    """Returns the number of cores, limited to one process per GiB that this container may use, and at least 1.

    A container sees all cores of its node: on 64 of them it would start more than its memory can hold.
    """
    cores = os.cpu_count() or 1
    for path in map(Path, limits):
        if path.exists() and (text := path.read_text().strip()).isdigit():
            return max(1, min(cores, int(text) // GIB))
    return cores
