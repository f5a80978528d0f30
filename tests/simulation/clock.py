"""The clocks of a simulation, and its random numbers."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from unittest import mock

from tests.virtual_loop import VirtualLoop

EPOCH = 1_800_000_000.0

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
