import asyncio
from collections.abc import Sequence

import pytest

from service.api.turns import Turns
from service.contracts import JobClass

INTERACTIVE, BULK = JobClass.INTERACTIVE, JobClass.BULK


async def order(turns: Turns, callers: Sequence[str], processes: int = 1) -> list[str]:
    """In which order callers have their turns who asked in this one while all processes were taken."""
    served: list[str] = []

    async def ask(caller: str) -> None:
        async with turns.turn(caller, INTERACTIVE):
            served.append(caller)
            await asyncio.sleep(0)

    gate = asyncio.Event()

    async def hold(caller: str) -> None:
        async with turns.turn(caller, INTERACTIVE):
            await gate.wait()

    async with asyncio.TaskGroup() as group:
        for number in range(processes):
            group.create_task(hold(f"before {number}"))
        for caller in callers:
            group.create_task(ask(caller))
        await asyncio.sleep(0)
        assert turns.waiting == len(callers)
        gate.set()
    return served


async def test_a_caller_with_one_upload_does_not_wait_for_another_s_hundred() -> None:
    served = await order(Turns(1), [*(100 * ["flood"]), "good"])
    assert served.index("good") <= 1


async def test_callers_have_their_turns_one_after_the_other() -> None:
    served = await order(Turns(1), [*(3 * ["a"]), *(3 * ["b"]), *(3 * ["c"])])
    assert [set(served[i : i + 3]) for i in (0, 3, 6)] == 3 * [{"a", "b", "c"}]


async def test_of_one_caller_the_first_that_came_is_the_first_served() -> None:
    turns, served = Turns(1), []

    async def ask(number: int) -> None:
        async with turns.turn("a", INTERACTIVE):
            served.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(ask(number))
    assert served == [0, 1, 2, 3, 4]


async def test_who_has_the_fewest_at_work_is_next() -> None:
    turns = Turns(2)
    served: list[str] = []
    async with turns.turn("a", INTERACTIVE):
        async with turns.turn("b", INTERACTIVE):
            waiting = [asyncio.create_task(_held(turns, caller, served)) for caller in ("a", "c")]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
    assert served == ["c", "a"]


async def _held(turns: Turns, caller: str, served: list[str] | None = None) -> None:
    async with turns.turn(caller, INTERACTIVE):
        if served is not None:
            served.append(caller)
        await asyncio.sleep(0)


@pytest.mark.parametrize("turned", [False, True])
async def test_a_wait_that_is_cancelled_leaves_its_turn_to_others(turned: bool) -> None:
    turns = Turns(1)
    async with turns.turn("a", INTERACTIVE):
        leaving = asyncio.create_task(_held(turns, "b"))
        await asyncio.sleep(0)
        if not turned:
            leaving.cancel()
    if turned:
        # Its turn has come, and it does not know yet.
        leaving.cancel()
    await asyncio.wait({leaving})
    assert turns.waiting == 0
    async with turns.turn("c", INTERACTIVE):
        pass


async def test_what_long_films_may_not_take_goes_to_short_clips() -> None:
    turns = Turns(2)
    async with turns.turn("a", BULK):
        film = asyncio.create_task(turns.turn("b", BULK).__aenter__())
        await asyncio.sleep(0)
        async with turns.turn("c", INTERACTIVE):
            assert not film.done()
        film.cancel()
        await asyncio.wait({film})
