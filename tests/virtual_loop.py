"""An event loop in virtual time: nothing waits, and who goes on next may be asked of a scheduler."""

from __future__ import annotations

import asyncio
import functools
import selectors
import time
from collections.abc import Callable, Coroutine
from unittest import mock

Idle = Callable[[float | None], float]


class _Selector(selectors.SelectSelector):
    """There is no input or output to wait for: all sockets of a simulation are read where they were written."""

    idle: Idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self.loop.now += self.idle(timeout)
        else:
            self.loop.now += self.loop.tick_s
        return []

    loop: VirtualLoop


class VirtualLoop(asyncio.SelectorEventLoop):
    """`idle(timeout)` is called when no task can go on before the next timer, in `timeout` seconds.

    It lets a task go on and returns 0, or returns how many seconds pass. Each turn of the loop takes `tick_s`: on a
    clock that stands still, who waits for less than it can tell would wait for ever.
    """

    def __init__(self, idle: Idle, tick_s: float = 0.0) -> None:
        self.now = 0.0
        self.tick_s = tick_s
        self._chooser = _Selector()
        self._chooser.idle = idle
        self._chooser.loop = self
        super().__init__(self._chooser)

    def time(self) -> float:
        return self.now


def virtual_time(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """A test whose pauses take no time, and whose clocks know of no other time than that of its pauses."""

    @functools.wraps(test)
    def run(*arguments: object, **named: object) -> None:
        loop = VirtualLoop(_next_timer)
        with mock.patch.object(time, "monotonic", loop.time):
            try:
                loop.run_until_complete(test(*arguments, **named))
            finally:
                loop.close()

    return run


def _next_timer(timeout: float | None) -> float:
    assert timeout is not None, "the test waits for something that never comes"
    return timeout
