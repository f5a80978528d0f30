"""What a decode process gives up before it sees untrusted bytes. Linux has all of it, macOS the limits and priority."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Collection

from service.video.landlock import give_up_paths
from service.video.seccomp import filter_system_calls

# What can shut a decode in beyond its limits, as `leave_network` and `apply_sandbox` name it.
SANDBOX_LAYERS = ("network namespace", "landlock", "seccomp")
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_OPEN_FILES = 64
# With a tenth of the weight of the process that answers requests, which is then served first.
_NICENESS = 10


def _within(value: int, hard: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def _limit(kind: int, soft: int) -> None:
    """Set the soft limit `kind`, as far as the hard one and the platform (macOS knows no address space) allow."""
    _, hard = resource.getrlimit(kind)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (_within(soft, hard), hard))


def _cap(kind: int, value: int) -> None:
    """Set both the soft and the hard limit `kind`, so that the process cannot take it back."""
    _, hard = resource.getrlimit(kind)
    value = _within(value, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (value, value))


def leave_network() -> bool:
    """Move to a network namespace without interfaces; whether the platform allows it.

    Comes before `bind_to_parent`: entering a namespace makes the kernel forget the signal that is set there.
    """
    if sys.platform != "linux":
        return False
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    # Without privileges a user namespace of its own is needed, which some container platforms forbid.
    return bool(unshare(_CLONE_NEWNET) == 0 or unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)


def lacking(active: Collection[str]) -> str | None:
    """What is missing of the least that a sandbox is made of; None where `active` is enough.

    Without the filter of system calls nothing keeps a decoder from the kernel, and it alone would be a single wall: one
    more has to stand behind it.
    """
    if sys.platform != "linux":
        return "seccomp, which only Linux has"
    if "seccomp" not in active:
        return "seccomp"
    return None if {"landlock", "network namespace"} & set(active) else "landlock, or else a network namespace"


def apply_sandbox(control: int) -> list[str]:
    """Give up files, network and other processes for good; what is open stays. Returns the names of what is active.

    `control` is the descriptor by which tasks come.
    """
    active = []
    if sys.platform == "linux":
        if give_up_paths():
            active.append("landlock")
        if filter_system_calls(control):
            active.append("seccomp")
    return active


def bind_to_parent(parent: int) -> None:
    """Die with the process `parent`, and quietly: interrupts are the parent's business, SIGTERM ends this at once.

    The kernel watches the thread that started this process, so that thread has to live as long as the pool.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A handler in Python would wait for native code that hangs; the default action does not.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def confine(memory_bytes: int) -> None:
    """Limit address space to `memory_bytes`, open files to a few, core files to none, and yield the CPU to others."""
    os.nice(_NICENESS)
    if sys.platform == "linux":
        # A decode that begins must not interrupt what is nearly done: the api that handed it over, a worker, Redis.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    _cap(resource.RLIMIT_CORE, 0)
    _cap(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _cap(resource.RLIMIT_AS, memory_bytes)


def allow(cpu_s: int, file_bytes: int) -> None:
    """Grant the next task `cpu_s` more CPU seconds and files of up to `file_bytes`.

    CPU seconds count over the life of the process, so the limit moves on with each task. Beyond it the kernel ends the
    process with SIGXCPU.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + 1 + cpu_s)
    _limit(resource.RLIMIT_FSIZE, file_bytes)


def allow_other(pid: int, used_s: float, cpu_s: int, file_bytes: int) -> None:
    """`allow` for a process that has used `used_s` CPU seconds, and that cannot do it itself. Linux only."""
    for kind, soft in ((resource.RLIMIT_CPU, int(used_s) + 1 + cpu_s), (resource.RLIMIT_FSIZE, file_bytes)):
        _, hard = resource.prlimit(pid, kind)
        resource.prlimit(pid, kind, (_within(soft, hard), hard))
