import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from service.contracts import JobClass
from service.errors import Undecodable
from service.video.decode_scheduler import DecodeScheduler


def test_before_the_first_decode_no_wait_is_expected() -> None:
    assert DecodeScheduler(2).estimated_wait_s(100) == 0.0


def test_those_ahead_share_the_processes() -> None:
    scheduler = DecodeScheduler(2)
    scheduler.observe(3.0)
    assert scheduler.estimated_wait_s(7) == 12.0


def test_the_estimate_follows_slower_decodes() -> None:
    scheduler = DecodeScheduler(1)
    scheduler.observe(1.0)
    waits = []
    for _ in range(30):
        scheduler.observe(5.0)
        waits.append(scheduler.estimated_wait_s(0))
    assert waits == sorted(waits)
    assert 1.0 < waits[0] < 4.9 < waits[-1] <= 5.0


async def entered(scheduler: DecodeScheduler, stack: contextlib.AsyncExitStack, job_class: JobClass) -> bool:
    """Whether a slot is to be had now."""
    slot = asyncio.create_task(stack.enter_async_context(scheduler.slot(job_class)))
    for _ in range(5):
        await asyncio.sleep(0)
    if not slot.done():
        slot.cancel()
        await asyncio.wait({slot})
        return False
    await slot
    return True


async def test_long_films_leave_a_process_to_short_clips() -> None:
    scheduler = DecodeScheduler(3)
    async with contextlib.AsyncExitStack() as stack:
        assert [await entered(scheduler, stack, JobClass.BULK) for _ in range(3)] == [True, True, False]
        assert [await entered(scheduler, stack, JobClass.INTERACTIVE) for _ in range(2)] == [True, False]


async def test_a_single_process_is_there_for_films_too() -> None:
    async with contextlib.AsyncExitStack() as stack:
        assert await entered(DecodeScheduler(1), stack, JobClass.BULK)


async def test_those_who_wait_are_counted_until_they_have_a_slot_or_give_up() -> None:
    scheduler = DecodeScheduler(1)
    async with contextlib.AsyncExitStack() as stack:
        assert await entered(scheduler, stack, JobClass.INTERACTIVE)
        assert scheduler.waiting == 0
        waiting = asyncio.create_task(stack.enter_async_context(scheduler.slot(JobClass.INTERACTIVE)))
        await asyncio.sleep(0)
        assert scheduler.waiting == 1
        waiting.cancel()
        await asyncio.wait({waiting})
        assert scheduler.waiting == 0


@pytest.mark.parametrize("error", [None, Undecodable("no")])
async def test_what_a_decode_costs_is_remembered_also_when_it_fails(error: Exception | None) -> None:
    scheduler = DecodeScheduler(1, iter((10.0, 13.0)).__next__)
    with contextlib.suppress(Undecodable):
        async with scheduler.slot(JobClass.INTERACTIVE):
            if error is not None:
                raise error
    assert scheduler.estimated_wait_s(0) == 3.0


INTERACTIVE, BULK = JobClass.INTERACTIVE, JobClass.BULK


async def order(scheduler: DecodeScheduler, callers: Sequence[str], processes: int = 1) -> list[str]:
    """In which order callers are served who asked in this one while all processes were taken."""
    served: list[str] = []

    async def ask(caller: str) -> None:
        async with scheduler.slot(INTERACTIVE, caller):
            served.append(caller)
            await asyncio.sleep(0)

    gate = asyncio.Event()

    async def hold(caller: str) -> None:
        async with scheduler.slot(INTERACTIVE, caller):
            await gate.wait()

    async with asyncio.TaskGroup() as group:
        for number in range(processes):
            group.create_task(hold(f"before {number}"))
        for caller in callers:
            group.create_task(ask(caller))
        await asyncio.sleep(0)
        assert scheduler.waiting == len(callers)
        gate.set()
    return served


async def test_a_caller_with_one_upload_does_not_wait_for_another_s_hundred() -> None:
    served = await order(DecodeScheduler(1), [*(100 * ["flood"]), "good"])
    assert served.index("good") <= 1


async def test_callers_have_their_turns_one_after_the_other() -> None:
    served = await order(DecodeScheduler(1), [*(3 * ["a"]), *(3 * ["b"]), *(3 * ["c"])])
    assert [set(served[i : i + 3]) for i in (0, 3, 6)] == 3 * [{"a", "b", "c"}]


async def test_of_one_caller_the_first_that_came_is_the_first_served() -> None:
    scheduler, served = DecodeScheduler(1), []

    async def ask(number: int) -> None:
        async with scheduler.slot(INTERACTIVE, "a"):
            served.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(ask(number))
    assert served == [0, 1, 2, 3, 4]


async def test_who_has_the_fewest_at_work_is_next() -> None:
    scheduler = DecodeScheduler(2)
    served: list[str] = []
    async with scheduler.slot(INTERACTIVE, "a"):
        async with scheduler.slot(INTERACTIVE, "b"):
            waiting = [asyncio.create_task(_held(scheduler, caller, served)) for caller in ("a", "c")]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
    assert served == ["c", "a"]


async def _held(scheduler: DecodeScheduler, caller: str, served: list[str] | None = None) -> None:
    async with scheduler.slot(INTERACTIVE, caller):
        if served is not None:
            served.append(caller)
        await asyncio.sleep(0)


@pytest.mark.parametrize("assigned", [False, True])
async def test_a_wait_that_is_cancelled_leaves_its_slot_to_others(assigned: bool) -> None:
    scheduler = DecodeScheduler(1)
    async with scheduler.slot(INTERACTIVE, "a"):
        leaving = asyncio.create_task(_held(scheduler, "b"))
        await asyncio.sleep(0)
        if not assigned:
            leaving.cancel()
    if assigned:
        # Its slot has come, and it does not know yet.
        leaving.cancel()
    await asyncio.wait({leaving})
    assert scheduler.waiting == 0
    async with scheduler.slot(INTERACTIVE, "c"):
        pass


async def test_what_long_films_may_not_take_goes_to_short_clips() -> None:
    scheduler = DecodeScheduler(2)
    async with scheduler.slot(BULK, "a"):
        film = asyncio.create_task(scheduler.slot(BULK, "b").__aenter__())
        await asyncio.sleep(0)
        async with scheduler.slot(INTERACTIVE, "c"):
            assert not film.done()
        film.cancel()
        await asyncio.wait({film})
