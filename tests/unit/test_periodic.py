"""Waiting for an event or a time, and repeated work."""

import asyncio

import pytest

from service.periodic import Periodic, wait_or_timeout

LONG_S = 1000.0


async def test_a_wait_says_whether_the_event_came() -> None:
    event = asyncio.Event()
    assert not await wait_or_timeout(event, 0.0)
    event.set()
    assert await wait_or_timeout(event, LONG_S)


async def test_work_that_is_woken_is_done_before_its_interval_is_over() -> None:
    calls: asyncio.Queue[None] = asyncio.Queue()
    periodic = Periodic("test", LONG_S, lambda: calls.put(None))
    periodic.start()
    await calls.get()
    periodic.wake()
    await calls.get()
    await periodic.close()
    assert calls.empty()


async def test_the_interval_is_asked_for_after_each_call() -> None:
    intervals = iter((0.0, 0.0, LONG_S))
    calls: asyncio.Queue[None] = asyncio.Queue()
    periodic = Periodic("test", lambda: next(intervals), lambda: calls.put(None))
    periodic.start()
    for _ in range(3):
        await calls.get()
    await periodic.close()
    assert next(intervals, None) is None


async def test_an_error_of_the_work_comes_out_when_it_is_closed() -> None:
    called = asyncio.Event()

    async def work() -> None:
        called.set()
        raise ValueError("broken")

    periodic = Periodic("test", LONG_S, work)
    periodic.start()
    await called.wait()
    with pytest.raises(ValueError, match="broken"):
        await periodic.close()
