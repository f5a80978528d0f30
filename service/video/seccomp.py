"""The system calls of a process that decodes: it may compute, read and write what it is handed, and end."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence

from service.video.bpf import Call, Condition, OneOf, Within, filter_program

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2

# Numbers of the audit subsystem, by the machine's name.
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Numbers of the permitted calls on these two.
_ALLOWED = {
    "read": (0, 63),
    "write": (1, 64),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "mprotect": (10, 226),
    "madvise": (28, 233),
    "brk": (12, 214),
    "futex": (202, 98),
    "clock_gettime": (228, 113),
    "close": (3, 57),
    "fstat": (5, 80),
    "fcntl": (72, 25),
    "recvmsg": (47, 212),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "getrandom": (318, 278),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
}

_READ, _WRITE = 1, 2
_MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS = 0x02, 0x10, 0x20
_MAP_NORESERVE, _MAP_STACK = 0x4000, 0x20000
_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
_MADV_DONTNEED, _MADV_FREE, _MADV_HUGEPAGE = 4, 8, 14
_FUTEX_PRIVATE, _FUTEX_CLOCK_REALTIME = 128, 256
_FUTEX_WAIT, _FUTEX_WAKE, _FUTEX_WAIT_BITSET, _FUTEX_WAKE_BITSET = 0, 1, 9, 10
_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC = 0, 1, 2, 3, 1030

_FUTEX_OPERATIONS = tuple(
    operation | private | clock
    for operation in (_FUTEX_WAIT, _FUTEX_WAKE, _FUTEX_WAIT_BITSET, _FUTEX_WAKE_BITSET)
    for private in (0, _FUTEX_PRIVATE)
    for clock in (0, _FUTEX_CLOCK_REALTIME)
)


def _conditions(control: int) -> dict[str, tuple[Condition, ...]]:
    """What the arguments of some calls have to be; `control` is the connection that tasks come by."""
    # Memory of its own alone, never executable: no other process sees it, and no file is behind it.
    private = _MAP_PRIVATE | _MAP_ANONYMOUS
    return {
        "mmap": (
            Within(2, _READ | _WRITE),
            Within(3, private | _MAP_FIXED | _MAP_NORESERVE | _MAP_STACK, needed=private),
        ),
        "mprotect": (Within(2, _READ | _WRITE),),
        "mremap": (Within(3, _MREMAP_MAYMOVE | _MREMAP_FIXED),),
        "madvise": (OneOf(2, (_MADV_DONTNEED, _MADV_FREE, _MADV_HUGEPAGE)),),
        "futex": (OneOf(1, _FUTEX_OPERATIONS),),
        # Others make the kernel send signals to any process of the same user, or lock and seal files.
        "fcntl": (OneOf(1, (_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC)),),
        "recvmsg": (OneOf(0, (control,)),),
    }


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def permitted(machine: str, control: int) -> Sequence[Call]:
    """The calls that a sandbox worker on `machine` may make; tasks come by the connection `control`."""
    place = list(_ARCHITECTURES).index(machine)
    conditions = _conditions(control)
    return [Call(numbers[place], conditions.get(name, ())) for name, numbers in _ALLOWED.items()]


def filter_system_calls(control: int) -> bool:
    """From now on only the listed system calls work, others fail with EPERM; whether the platform could do it.

    Tasks come by the descriptor `control`. The process must have given up gaining privileges before.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return False
    instructions = filter_program(_ARCHITECTURES[machine], permitted(machine, control))
    program = _Program(len(instructions) // 8, instructions)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return bool(prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)
