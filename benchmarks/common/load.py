"""Load from one event loop: an open loop for latency, a closed loop for capacity.

The open loop sends at a constant rate, whatever becomes of the requests before, and counts latency from the moment at
which a request was to be sent. A server that stalls is thus charged for every request that had to come meanwhile, and
so is a generator that falls behind. So that it does not, Python's garbage collection is off while it sends: among the
objects of a process that has torch in memory one collection takes longer than most requests, and it would be charged to
whichever server is measured at that moment.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from benchmarks.common.http import Answer

Send = Callable[[], Awaitable[Answer]]
"""Sends one request and waits for its answer."""


@dataclass(frozen=True)
class Sample:
    """One request of an open loop; times are seconds of the event loop's clock."""

    intended: float
    sent: float
    ended: float
    answer: Answer

    @property
    def latency_s(self) -> float:
        """From the moment at which it was to be sent."""
        return self.ended - self.intended


@dataclass(frozen=True)
class Capacity:
    """What a closed loop reached."""

    per_s: float
    good: int
    bad: int
    seconds: float
    """of the counted part"""
    own_cpu_s: float
    """CPU that this process took in it, the load generator above all"""


@contextmanager
def _uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def open_loop(send: Send, rate: float, count: int) -> list[Sample]:
    """`count` requests at `rate` per second; all of them, in the order of sending."""
    loop = asyncio.get_running_loop()

    async def one(intended: float) -> Sample:
        sent = loop.time()
        answer = await send()
        return Sample(intended, sent, loop.time(), answer)

    tasks = []
    with _uncollected():
        begin = loop.time()
        for number in range(count):
            intended = begin + number / rate
            if (wait := intended - loop.time()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(one(intended)))
        return list(await asyncio.gather(*tasks))


async def closed_loop(
    send: Send, clients: int, seconds: float, settle_s: float = 1.0, around: Callable[[], None] = lambda: None
) -> Capacity:
    """Answers per second while each of `clients` sends its next request as soon as its last one is answered.

    What ends within the first `settle_s` seconds or after the last is not counted. `around` is called at the begin and
    at the end of the counted part.
    """
    loop = asyncio.get_running_loop()
    counts = {True: 0, False: 0}

    async def client() -> None:
        while loop.time() < end:
            good = (await send()).good
            if begin <= loop.time() < end:
                counts[good] += 1
            if not good:
                await asyncio.sleep(0.01)  # A server that refuses at once must not be asked in a tight circle.

    with _uncollected():
        begin = loop.time() + settle_s
        end = begin + seconds
        clients_ = [asyncio.create_task(client()) for _ in range(clients)]
        await asyncio.sleep(settle_s)
        around()
        cpu, started = time.process_time(), loop.time()
        await asyncio.sleep(max(0.0, end - loop.time()))
        around()
        cpu, taken = time.process_time() - cpu, loop.time() - started
        await asyncio.gather(*clients_)
    return Capacity(counts[True] / taken, counts[True], counts[False], taken, cpu)


def percentiles_ms(seconds: Sequence[float], shares: Sequence[float] = (50, 95, 99)) -> dict[str, float]:
    """Percentiles in milliseconds, by names such as `p99`; NaN where there are no values."""
    if not seconds:
        return {f"p{share:g}": float("nan") for share in shares}
    found = np.percentile(np.asarray(seconds), shares) * 1000
    return {f"p{share:g}": round(float(value), 3) for share, value in zip(shares, found, strict=True)}
