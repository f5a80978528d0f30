"""When the process of a model in a local Triton ends the server, on clocks that the tests set."""

import pytest

from service.local.triton_stalls import LIMIT_S, StallGuard


class Machine:
    """A guard, the two clocks it reads, and the gaps for which it would have ended the server."""

    def __init__(self) -> None:
        self.awake_s = self.wall_s = 100.0
        self.ended: list[float] = []
        self.guard = StallGuard(lambda: (self.awake_s, self.wall_s), self.ended.append)

    def pass_by(self, seconds: float) -> None:
        self.awake_s += seconds
        self.wall_s += seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_batch_that_takes_long_while_the_process_runs_is_answered(machine: Machine) -> None:
    with machine.guard:
        for _ in range(100):
            machine.pass_by(LIMIT_S / 2)
            machine.guard.beat()
    assert machine.ended == []


def test_a_process_that_stood_still_with_a_batch_ends_the_server_before_it_answers(machine: Machine) -> None:
    with machine.guard:
        machine.pass_by(2)
    assert machine.ended == [pytest.approx(2)]


def test_the_beat_after_a_gap_ends_the_server_where_there_is_a_batch(machine: Machine) -> None:
    with machine.guard:
        machine.pass_by(2)
        machine.guard.beat()
        assert machine.ended == [pytest.approx(2)]


def test_a_process_that_stood_still_without_a_batch_goes_on(machine: Machine) -> None:
    machine.pass_by(3600)
    machine.guard.beat()
    machine.pass_by(LIMIT_S / 2)
    with machine.guard:
        machine.guard.beat()
    assert machine.ended == []


@pytest.mark.parametrize("beaten", [False, True])
def test_a_batch_taken_right_after_a_gap_had_waited_in_it(machine: Machine, beaten: bool) -> None:
    machine.pass_by(2)
    if beaten:
        machine.guard.beat()
    machine.guard.__enter__()
    assert machine.ended == [pytest.approx(2)]


def test_a_clock_that_is_set_forward_counts_since_the_server_waits_by_it(machine: Machine) -> None:
    with machine.guard:
        machine.wall_s += 60
    assert machine.ended == [pytest.approx(60)]


def test_a_clock_that_is_set_back_does_not_count(machine: Machine) -> None:
    with machine.guard:
        machine.wall_s -= 60
        machine.guard.beat()
    assert machine.ended == []
