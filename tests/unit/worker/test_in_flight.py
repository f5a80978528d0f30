import asyncio

import pytest

from service.worker.in_flight import InFlight, SharedTime


class Clock:
    now = 5.0

    def __call__(self) -> float:
        return self.now


async def test_room_comes_when_one_of_the_tasks_ends() -> None:
    in_flight, gates = InFlight(), [asyncio.Event(), asyncio.Event()]
    for gate in gates:
        in_flight.begin(_passed(gate))
    room = asyncio.create_task(in_flight.room(2))
    await asyncio.sleep(0)
    assert not room.done()
    gates[1].set()
    await room
    assert len(in_flight) == 1
    gates[0].set()
    await in_flight.close()
    assert len(in_flight) == 0


async def _passed(gate: asyncio.Event) -> None:
    await gate.wait()


async def test_there_is_room_where_nothing_is_in_flight() -> None:
    await InFlight().room(1)


def test_a_batch_alone_has_all_the_time_for_itself() -> None:
    clock = Clock()
    with SharedTime(clock).share() as own_s:
        clock.now += 3
        assert own_s() == 3


def test_batches_in_flight_share_the_time_that_passes() -> None:
    clock = Clock()
    shared = SharedTime(clock)
    with shared.share() as first:
        clock.now += 1
        with shared.share() as second:
            clock.now += 2
            assert (first(), second()) == (2, 1)
        clock.now += 1
        assert first() == 3


def test_the_shares_add_up_to_the_time_in_which_any_batch_was_in_flight() -> None:
    clock = Clock()
    shared = SharedTime(clock)
    total = 0.0
    for length in (1.0, 4.0):
        clock.now += 100
        with shared.share() as a, shared.share() as b, shared.share() as c:
            clock.now += length
            total += a() + b() + c()
    assert total == pytest.approx(5.0)
