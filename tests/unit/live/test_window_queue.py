"""Windows of a stream: scored a few at a time, told in order, and the oldest dropped where they come too fast."""

import asyncio
from collections import defaultdict

import pytest

from service.contracts import SampledWindow, WindowResult
from service.errors import QueueFull
from service.live.window_queue import AT_A_TIME, TOO_SLOW, Entry, WindowQueue


class Engine:
    """Scores windows when it is told to."""

    def __init__(self) -> None:
        self.asked: defaultdict[float, asyncio.Future[WindowResult]] = defaultdict(
            asyncio.get_running_loop().create_future
        )
        self.running = 0
        self.most = 0

    async def score(self, window: SampledWindow, clips: bytes) -> WindowResult:
        assert clips == str(window.start_s).encode()
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self.asked[window.start_s]
        finally:
            self.running -= 1

    def answer(self, start_s: float) -> None:
        self.asked[start_s].set_result(WindowResult(start_s=start_s, end_s=start_s + 1, predictions=()))


@pytest.fixture
async def engine() -> Engine:
    return Engine()


def offer(queue: WindowQueue, *numbers: int) -> None:
    for n in numbers:
        queue.offer(n, SampledWindow(start_s=n, end_s=n + 1, times_s=(n,)), str(float(n)).encode(), 0.0)


async def rest(queue: WindowQueue) -> list[list[Entry]]:
    found = []
    while entries := await queue.next():
        found.append(entries)
    return found


def told(found: list[list[Entry]]) -> list[tuple[str, list[int]]]:
    return [(entries[0].why, [entry.number for entry in entries]) for entries in found]


async def test_answers_come_in_the_order_of_the_windows(engine: Engine) -> None:
    queue = WindowQueue(engine.score, 8)
    offer(queue, 0, 1, 2)
    queue.close()
    for start_s in (2.0, 0.0, 1.0):
        engine.answer(start_s)
    assert told(await rest(queue)) == [("", [0]), ("", [1]), ("", [2])]


async def test_a_few_windows_are_scored_at_a_time(engine: Engine) -> None:
    queue = WindowQueue(engine.score, 100)
    offer(queue, *range(20))
    queue.close()
    await asyncio.sleep(0)
    for n in range(20):
        engine.answer(float(n))
    assert len(await rest(queue)) == 20
    assert engine.most == AT_A_TIME


async def test_of_windows_that_come_too_fast_the_oldest_that_waits_is_dropped(engine: Engine) -> None:
    queue = WindowQueue(engine.score, 2)
    offer(queue, *range(AT_A_TIME + 5))
    queue.close()
    kept = [*range(AT_A_TIME), AT_A_TIME + 3, AT_A_TIME + 4]
    for n in kept:
        engine.answer(float(n))
    found = told(await rest(queue))
    assert found[AT_A_TIME] == (TOO_SLOW, [AT_A_TIME, AT_A_TIME + 1, AT_A_TIME + 2])
    assert [numbers for why, numbers in found if not why] == [[n] for n in kept]
    assert queue.waiting == 0


async def test_what_is_dropped_holds_no_clips(engine: Engine) -> None:
    queue = WindowQueue(engine.score, 1)
    offer(queue, *range(AT_A_TIME + 50))
    assert sum(entry.clips is not None for entry in queue._entries) == AT_A_TIME + 1
    queue.close("stopped")
    for n in range(AT_A_TIME):
        engine.answer(float(n))
    await rest(queue)


async def test_a_window_that_is_refused_is_dropped_with_the_code(engine: Engine) -> None:
    queue = WindowQueue(engine.score, 8)
    offer(queue, 0, 1)
    queue.close()
    engine.answer(1.0)
    engine.asked[0.0].set_exception(QueueFull("It is full."))
    assert told(await rest(queue)) == [("queue_full", [0]), ("", [1])]


async def test_a_closed_queue_drops_what_waits_for_a_reason(engine: Engine) -> None:
    queue = WindowQueue(engine.score, 8)
    offer(queue, *range(AT_A_TIME + 2))
    queue.close("stopped")
    for n in range(AT_A_TIME):
        engine.answer(float(n))
    assert told(await rest(queue))[-1] == ("stopped", [AT_A_TIME, AT_A_TIME + 1])
