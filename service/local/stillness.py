"""Whether the processes of a server compute anything."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# What a process that only waits uses of a core, with margin: its threads wake some times a second.
_AWAKE = 0.005
# Fields of /proc/PID/stat after the name: session, and the ticks in user and in kernel mode.
_SESSION, _USER, _SYSTEM = 3, 11, 12


def session_cpu_s(session: int, proc: Path = _PROC) -> float:
    """Seconds of CPU that the processes of a session have used so far, without those that have ended."""
    ticks = 0
    for folder in proc.iterdir():
        if folder.name.isdigit():
            try:
                # The name may hold spaces and parentheses of its own.
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[_SESSION]) == session:
                ticks += int(fields[_USER]) + int(fields[_SYSTEM])
    return ticks / _TICKS_PER_S


class Stillness:
    """Notices that processes which should compute have only waited for `still_s` seconds, by the CPU they use.

    `cpu_s` says how much they have used so far.
    """

    def __init__(self, cpu_s: Callable[[], float], still_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._cpu_s = cpu_s
        self._clock = clock
        self._still_s = still_s
        self._since = clock()
        self._used_s = cpu_s()

    def lasts(self) -> bool:
        """Whether they have waited for so long. Cheap to ask often: it looks once in `still_s`."""
        elapsed_s = self._clock() - self._since
        if elapsed_s < self._still_s:
            return False
        used_s = self._cpu_s()
        still = abs(used_s - self._used_s) < _AWAKE * elapsed_s
        self._since, self._used_s = self._clock(), used_s
        return still
