"""What it costs to queue a clip beside workers that have nothing to do."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from redis import Redis as Blocking

from service.contracts import JobClass
from service.queue.clip_entries import ClipEntry
from service.queue.clip_stream import ClipStream
from service.queue.connection import connect
from service.queue.redis_keys import RedisKeys
from testing.factories import spec

WAIT_MS = 30_000
"""longer than the measurement takes: workers that look again by themselves are none of an XADD's business"""
SETTLED_S = 0.05
MOST_S = 20.0
ROUTE = spec().name

Wait = Callable[[ClipStream], Awaitable[list[ClipEntry]]]


async def all_wait(stream: ClipStream) -> list[ClipEntry]:
    """Every worker waits at the stream."""
    return await stream.read([ROUTE], 1, WAIT_MS)


async def few_wait(stream: ClipStream) -> list[ClipEntry]:
    """A few workers wait there for all of them: what the service does."""
    return await stream.wait([ROUTE], 1, WAIT_MS) or await stream.read([ROUTE], 1, 1)


async def queue_us(url: str, readers: int, rounds: int, wait: Wait) -> float:
    """Microseconds of Redis' CPU for an XADD beside so many idle `readers`: the median of `rounds`."""
    keys = RedisKeys(f"idle-{wait.__name__}-{readers}")
    key, taken = keys.clips(ROUTE, JobClass.INTERACTIVE), []
    fields: Any = {"job": "j", "clip": 0, "version": "1", "shape": "4,8,8,3", "enqueued_at": 0, "deadline_at": 0}
    arrived = asyncio.Event()
    with Blocking.from_url(url) as queueing:
        async with _idle(queueing, url, keys, readers, wait, arrived):
            for _ in range(rounds):
                await asyncio.sleep(SETTLED_S)
                arrived.clear()
                # The readers stand still meanwhile: they share this thread.
                before = _cpu_us(queueing)
                beside = _cpu_us(queueing) - before
                queueing.xadd(key, fields)
                taken.append(_cpu_us(queueing) - before - 2 * beside)
                async with asyncio.timeout(MOST_S):
                    await arrived.wait()
    return statistics.median(taken)


def _cpu_us(queueing: Blocking) -> float:
    used: Any = queueing.info("cpu")
    return float(used["used_cpu_sys"] + used["used_cpu_user"]) * 1e6


@contextlib.asynccontextmanager
async def _idle(
    queueing: Blocking, url: str, keys: RedisKeys, readers: int, wait: Wait, arrived: asyncio.Event
) -> AsyncIterator[None]:
    ending = asyncio.Event()
    clients = [connect(url, name=f"idle{number}") for number in range(readers)]
    streams = [ClipStream(client, keys, f"w{number}") for number, client in enumerate(clients)]
    reading = [asyncio.create_task(_read(stream, wait, arrived, ending)) for stream in streams]
    try:
        async with asyncio.timeout(MOST_S):
            while _blocked(queueing) < readers:  # noqa: ASYNC110 - Redis tells of no such moment
                await asyncio.sleep(SETTLED_S)
        yield
    finally:
        # Not cancelled: in Python 3.11 a cancellation that meets the end of a Redis command is lost.
        ending.set()
        for client in queueing.client_list():
            queueing.client_unblock(int(client["id"]))
        await asyncio.gather(*reading)
        await asyncio.gather(*(client.aclose() for client in clients))


def _blocked(queueing: Blocking) -> int:
    facts: Any = queueing.info("clients")
    return int(facts["blocked_clients"])


async def _read(stream: ClipStream, wait: Wait, arrived: asyncio.Event, ending: asyncio.Event) -> None:
    await stream.join([ROUTE])
    while not ending.is_set():
        if entries := await wait(stream):
            arrived.set()
            await stream.lead.pass_on()
            await stream.ack(entries)


async def measure(url: str, sizes: Sequence[int], rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds of Redis' CPU for one XADD, by who waits and how many there are."""
    return {
        name: {str(size): await queue_us(url, size, rounds, wait) for size in sizes}
        for name, wait in (("xadd, all wait", all_wait), ("xadd, few wait", few_wait))
    }
