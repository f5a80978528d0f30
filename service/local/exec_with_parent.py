"""Run as a script, `python exec_with_parent.py PARENT_PID PROGRAM [ARGUMENT…]`: becomes PROGRAM, which ends when its
parent does.

A program killed by SIGKILL runs no clean-up, so the kernel has to end its servers (Linux only: elsewhere PROGRAM simply
runs). Doing this here, between fork and exec of a process of its own, avoids `preexec_fn`, which is unsafe in a parent
that has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Replace this process by `command`; exits with 1 where the parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # The parent may have died before the request took effect, and then no signal will ever come.
    if os.getppid() != parent:
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - running another program is its purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
