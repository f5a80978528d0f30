"""How the C library hands out the memory of tensors."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_NEVER = 2**31 - 1


def tune_malloc() -> bool:
    """Make this process keep the memory of freed tensors for the next ones; True where the C library can.

    By default glibc gives every buffer of some megabytes back at once, and the next forward pays for fresh pages, which
    the kernel has to clear, at every operation. One arena, because those of other threads cannot hold large buffers.
    The process then stays as large as its largest forward made it.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    options = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER))
    return all([mallopt(option, value) == 1 for option, value in options])
