"""A filter of system calls, written by libseccomp, which Debian, Ubuntu and Jetson's Linux have (their apt needs it).

It holds for a process and all its threads until they end. A call that is forbidden fails with EPERM.
"""

import ctypes
import errno
import functools
import os
from collections.abc import Iterable
from typing import Any, Final

_LIBRARY: Final = "libseccomp.so.2"
_ALLOW: Final = 0x7FFF0000  # SCMP_ACT_ALLOW
_FAIL: Final = 0x00050000  # SCMP_ACT_ERRNO(0)
_MASKED_EQUAL: Final = 7  # SCMP_CMP_MASKED_EQ
_UNKNOWN_CALL: Final = -1
_PRCTL_SET_SECCOMP, _SECCOMP_FILTER = 22, 2
_CLONE_THREAD: Final = 0x00010000

NETWORK: Final = ("socket", "connect", "bind", "listen", "accept", "accept4", "sendmmsg", "io_uring_setup")
"""Sockets that are open already still send and receive: the decoder's own, to the service."""
PROGRAMS: Final = ("execve", "execveat")
KERNEL: Final = (
    *("bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "unshare", "setns", "mount"),
    *("umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "init_module", "finit_module"),
    *("kexec_load", "kexec_file_load", "open_by_handle_at", "name_to_handle_at", "personality"),
)
PROCESSES: Final = (
    *("fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_open", "kcmp"),
    *("pidfd_getfd", "pidfd_send_signal", "kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "setpriority"),
)
FILES: Final = (
    *("creat", "truncate", "mkdir", "mkdirat", "mknod", "mknodat", "rename", "renameat", "renameat2", "link", "linkat"),
    *("symlink", "symlinkat", "unlink", "unlinkat", "rmdir", "chmod", "fchmod", "fchmodat", "chown", "fchown"),
    *("lchown", "fchownat", "setxattr", "lsetxattr", "fsetxattr", "utimensat", "openat2"),
)
_WRITING: Final = (os.O_WRONLY, os.O_RDWR, os.O_CREAT)


class _Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`: the bits `mask` of argument `index` of a call are those of `value`."""

    _fields_ = [
        ("index", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    ]


Rule = tuple[str, int, _Comparison | None]
"""Name of a call, its error, and the condition, if any."""


def is_supported() -> bool:
    """Returns True if libseccomp is installed and the kernel takes filters."""
    ctypes.CDLL(None, use_errno=True).prctl(_PRCTL_SET_SECCOMP, _SECCOMP_FILTER, None)
    return ctypes.get_errno() == errno.EFAULT and _library() is not None  # EFAULT: it would have read a filter


def forbid_network() -> None:
    """Forbids this process, for good, to open sockets and to start programs. For workers that write files."""
    _load((name, errno.EPERM, None) for name in (*NETWORK, *PROGRAMS, *KERNEL))


def forbid_all_but_decoding() -> None:
    """Forbids this process, for good, sockets, other programs and processes, and to open files for writing."""
    rules: list[Rule] = [(name, errno.EPERM, None) for name in (*NETWORK, *PROGRAMS, *KERNEL, *PROCESSES, *FILES)]
    for flag in _WRITING:
        rules.append(("open", errno.EPERM, _Comparison(1, _MASKED_EQUAL, flag, flag)))
        rules.append(("openat", errno.EPERM, _Comparison(2, _MASKED_EQUAL, flag, flag)))
    # threads may be started; the flags of clone3 can't be read by a filter, and libc falls back to clone
    rules.append(("clone", errno.EPERM, _Comparison(0, _MASKED_EQUAL, _CLONE_THREAD, 0)))
    rules.append(("clone3", errno.ENOSYS, None))
    _load(rules)


def _load(rules: Iterable[Rule]) -> None:
    """Raises OSError if the filter can't be made or the kernel refuses it."""
    library = _library()
    if library is None:
        raise OSError(errno.ENOSYS, f"{_LIBRARY} is not installed")
    context = ctypes.c_void_p(library.seccomp_init(_ALLOW))
    try:
        for name, error, condition in rules:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number != _UNKNOWN_CALL:  # else this libseccomp is older than the call
                conditions = [condition] if condition else []
                array = (_Comparison * len(conditions))(*conditions)
                _check(library.seccomp_rule_add_array(context, _FAIL | error, number, len(conditions), array))
        _check(library.seccomp_load(context))
    finally:
        library.seccomp_release(context)


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, f"the filter of system calls was refused: {os.strerror(-result)}")


@functools.cache
def _library() -> Any:
    """Returns libseccomp, or None if it is not installed."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_uint32
    library.seccomp_init.restype, library.seccomp_release.restype = pointer, None
    library.seccomp_init.argtypes = [number]
    library.seccomp_rule_add_array.argtypes = [pointer, number, ctypes.c_int, number, ctypes.POINTER(_Comparison)]
    library.seccomp_load.argtypes = library.seccomp_release.argtypes = [pointer]
    return library
