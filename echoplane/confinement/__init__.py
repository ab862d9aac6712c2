"""Limits that the kernel holds on processes that decode untrusted files: which system calls, and which files."""

import sys
from collections.abc import Iterable
from pathlib import Path

from echoplane.confinement import calls, files

SYSTEM_PATHS = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/sys/devices/system/cpu",
    "/dev/null",
)


def missing() -> list[str]:
    """Returns what this machine can't hold, as sentences without a full stop; empty if it can hold all."""
    found = []
    if not calls.is_supported():
        found.append("decoders may use the network and start programs (no libseccomp 2, or a kernel without seccomp)")
    if not files.is_supported():
        found.append("decoders may read all files of this user (a kernel without Landlock)")
    return found


def confine(extra: Iterable[Path] = ()) -> None:
    """Forbids this process, for good, what a decoder does not need, as far as this machine can hold it: sockets,
    programs, other processes, to write files, and to read others than Python's, the system's and those in `extra`.

    What it has open stays open. Raises OSError if the kernel refuses.
    """
    if files.is_supported():
        python = [sys.prefix, sys.base_prefix, *filter(None, sys.path)]
        files.allow_reading([*map(Path, (*SYSTEM_PATHS, *python)), *extra])
    if calls.is_supported():
        calls.forbid_all_but_decoding()
