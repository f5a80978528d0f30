from typing import get_args

import pytest

from service.worker.watchdog import Loop, Watchdog


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_worker_whose_loops_move_is_alive() -> None:
    clock = Clock()
    watchdog = Watchdog(10, clock)
    for _ in range(5):
        clock.now += 9
        for loop in ("work", "heartbeat", "upkeep"):
            watchdog.touch(loop)
        assert watchdog.stalled() is None


@pytest.mark.parametrize("silent", ["work", "heartbeat", "upkeep"])
def test_one_silent_loop_is_named(silent: Loop) -> None:
    clock = Clock()
    watchdog = Watchdog(10, clock)
    clock.now += 12
    for loop in set(get_args(Loop)) - {silent}:
        watchdog.touch(loop)
    assert watchdog.stalled() == f"the {silent} loop has not moved for 12 s, more than 10 s"


def test_a_loop_that_moves_again_is_alive() -> None:
    clock = Clock()
    watchdog = Watchdog(10, clock)
    clock.now += 12
    for loop in ("work", "heartbeat", "upkeep"):
        watchdog.touch(loop)
    assert watchdog.stalled() is None


def test_a_batch_that_hangs_is_a_stalled_work_loop_although_the_loop_itself_moves() -> None:
    clock = Clock()
    watchdog = Watchdog(10, clock)
    watchdog.touch("work", 1)
    clock.now += 12
    for loop in ("work", "heartbeat", "upkeep"):
        watchdog.touch(loop)
    assert watchdog.stalled() == "the work loop has not moved for 12 s, more than 10 s"


def test_nothing_is_expected_of_a_batch_that_has_ended() -> None:
    clock = Clock()
    watchdog = Watchdog(10, clock)
    watchdog.touch("work", 1)
    watchdog.rest("work", 1)
    clock.now += 12
    for loop in ("work", "heartbeat", "upkeep"):
        watchdog.touch(loop)
    assert watchdog.stalled() is None
