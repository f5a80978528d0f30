import asyncio
import contextlib

import pytest

from service.api.decode_pace import DecodePace
from service.contracts import JobClass
from service.errors import Undecodable


def test_before_the_first_decode_no_wait_is_expected() -> None:
    assert DecodePace(2).ready_in_s(100) == 0.0


def test_those_ahead_share_the_processes() -> None:
    pace = DecodePace(2)
    pace.observe(3.0)
    assert pace.ready_in_s(7) == 12.0


def test_the_pace_follows_slower_decodes() -> None:
    pace = DecodePace(1)
    pace.observe(1.0)
    waits = []
    for _ in range(30):
        pace.observe(5.0)
        waits.append(pace.ready_in_s(0))
    assert waits == sorted(waits)
    assert 1.0 < waits[0] < 4.9 < waits[-1] <= 5.0


async def entered(pace: DecodePace, stack: contextlib.AsyncExitStack, job_class: JobClass) -> bool:
    """Whether a turn is to be had now."""
    turn = asyncio.create_task(stack.enter_async_context(pace.turn(job_class)))
    for _ in range(5):
        await asyncio.sleep(0)
    if not turn.done():
        turn.cancel()
        await asyncio.wait({turn})
        return False
    await turn
    return True


async def test_long_films_leave_a_process_to_short_clips() -> None:
    pace = DecodePace(3)
    async with contextlib.AsyncExitStack() as stack:
        assert [await entered(pace, stack, JobClass.BULK) for _ in range(3)] == [True, True, False]
        assert [await entered(pace, stack, JobClass.INTERACTIVE) for _ in range(2)] == [True, False]


async def test_a_single_process_is_there_for_films_too() -> None:
    async with contextlib.AsyncExitStack() as stack:
        assert await entered(DecodePace(1), stack, JobClass.BULK)


async def test_those_who_wait_are_counted_until_they_have_their_turn_or_give_up() -> None:
    pace = DecodePace(1)
    async with contextlib.AsyncExitStack() as stack:
        assert await entered(pace, stack, JobClass.INTERACTIVE)
        assert pace.waiting == 0
        waiting = asyncio.create_task(stack.enter_async_context(pace.turn(JobClass.INTERACTIVE)))
        await asyncio.sleep(0)
        assert pace.waiting == 1
        waiting.cancel()
        await asyncio.wait({waiting})
        assert pace.waiting == 0


@pytest.mark.parametrize("error", [None, Undecodable("no")])
async def test_what_a_turn_costs_is_remembered_also_when_it_fails(error: Exception | None) -> None:
    pace = DecodePace(1, iter((10.0, 13.0)).__next__)
    with contextlib.suppress(Undecodable):
        async with pace.turn(JobClass.INTERACTIVE):
            if error is not None:
                raise error
    assert pace.ready_in_s(0) == 3.0
