"""An event loop in virtual time: nothing waits, and who goes on next is asked of a scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import selectors
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from unittest import mock

EPOCH = 1_800_000_000.0

Idle = Callable[[float | None], float]


class _Selector(selectors.SelectSelector):
    """There is no input or output to wait for: all sockets of a simulation are read where they were written."""

    idle: Idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self.loop.now += self.idle(timeout)
        return []

    loop: VirtualLoop


class VirtualLoop(asyncio.SelectorEventLoop):
    """`idle(timeout)` is called when no task can go on before the next timer, in `timeout` seconds.

    It lets a task go on and returns 0, or returns how many seconds pass.
    """

    def __init__(self, idle: Idle) -> None:
        self.now = 0.0
        self._chooser = _Selector()
        self._chooser.idle = idle
        self._chooser.loop = self
        super().__init__(self._chooser)

    def time(self) -> float:
        return self.now


skew: ContextVar[Callable[[], float]] = ContextVar("skew", default=lambda: 0.0)
"""How far the clock of the host is off on which the current task runs, in seconds."""


@contextlib.contextmanager
def virtual(loop: VirtualLoop, seed: int) -> Iterator[None]:
    """Clocks that follow `loop`, and random numbers and ids that follow `seed`."""
    source = random.Random(seed)

    def wall() -> float:
        return EPOCH + loop.now + skew.get()()

    def steady() -> float:
        return loop.now

    with (
        mock.patch.object(time, "time", wall),
        mock.patch.object(time, "monotonic", steady),
        mock.patch.object(time, "perf_counter", steady),
        mock.patch.object(os, "urandom", source.randbytes),
        mock.patch.object(random, "_urandom", source.randbytes),
        mock.patch.object(random, "uniform", source.uniform),
    ):
        yield
