"""A filter of system calls for a process that decodes: it may compute, read and write what it is handed, and end.

No library is used: those that exist need libseccomp on the machine, and the filter is a list of numbers.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_RET_KILL_PROCESS = 0x80000000
_RET_ERRNO = 0x00050000
_RET_ALLOW = 0x7FFF0000
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE = 0, 4

# Numbers of the audit subsystem, by the machine's name.
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Numbers of the permitted calls on these two.
_ALLOWED = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "readv": (19, 65),
    "writev": (20, 66),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "msync": (26, 227),
    "mincore": (27, 232),
    "madvise": (28, 233),
    "dup": (32, 23),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "exit": (60, 93),
    "recvmsg": (47, 212),
    "uname": (63, 160),
    "fcntl": (72, 25),
    "ftruncate": (77, 46),
    "getcwd": (79, 17),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "times": (100, 153),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "set_robust_list": (273, 99),
    "fallocate": (285, 47),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "rseq": (334, 293),
    "restart_syscall": (219, 128),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _filter(architecture: int, allowed: tuple[int, ...]) -> bytes:
    checks = [
        # Jumps over the remaining checks and the refusal to the permission.
        _instruction(_JUMP_EQUAL, number, if_true=len(allowed) - place)
        for place, number in enumerate(allowed)
    ]
    return b"".join(
        (
            _instruction(_LOAD_WORD, _OFFSET_ARCHITECTURE),
            _instruction(_JUMP_EQUAL, architecture, if_true=1),
            _instruction(_RETURN, _RET_KILL_PROCESS),
            _instruction(_LOAD_WORD, _OFFSET_NUMBER),
            *checks,
            _instruction(_RETURN, _RET_ERRNO | errno.EPERM),
            _instruction(_RETURN, _RET_ALLOW),
        )
    )


def filter_system_calls() -> bool:
    """From now on only the listed system calls work, others fail with EPERM; whether the platform could do it.

    The process must have given up gaining privileges before.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return False
    place = list(_ARCHITECTURES).index(machine)
    instructions = _filter(_ARCHITECTURES[machine], tuple(numbers[place] for numbers in _ALLOWED.values()))
    program = _Program(len(instructions) // 8, instructions)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return bool(prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)
