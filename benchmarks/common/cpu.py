"""CPU seconds of trees of processes, dead children included."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import psutil

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tree_cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of each process and all below it, of children that were waited for too; each counts once."""
    seen: dict[int, float] = {}
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    seen[process.pid] = times.user + times.system + times.children_user + times.children_system
    return sum(seen.values())


def least_cpu_s(run: Callable[[], object], rounds: int) -> float:
    """The least CPU seconds that a call takes of this process, of so many: other work only adds to them."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return min(found)


@dataclass(frozen=True)
class Usage:
    """What was used between two moments."""

    wall_s: float
    cpu_s: dict[str, float]
    """CPU seconds by part"""


class Meter:
    """CPU of named parts, each some trees of processes; `own` is this process without its children."""

    def __init__(self, parts: Mapping[str, Iterable[int]]) -> None:
        self._parts = {name: tuple(pids) for name, pids in parts.items()}
        self._marks: list[tuple[float, dict[str, float]]] = []

    def mark(self) -> None:
        """Read all clocks."""
        cpu = {name: tree_cpu_s(pids) for name, pids in self._parts.items()}
        self._marks.append((time.perf_counter(), {**cpu, "own": time.process_time()}))

    def usage(self) -> Usage:
        """What was used between the last two marks."""
        (began, before), (ended, after) = self._marks[-2:]
        return Usage(ended - began, {name: after[name] - before[name] for name in after})


def busy(load: float) -> bool:
    """Whether other work on this machine, by its load average, disturbs a measurement."""
    return load > 0.25 * CORES
