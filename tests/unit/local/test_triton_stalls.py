"""When the process of a model in a local Triton ends the server, on clocks that the tests set."""

import pytest

from service.local.triton_stalls import GAP_S, GIVEN_UP_S, StallGuard

STEP_S = GAP_S / 7


class Machine:
    """A guard, the two clocks it reads, and the gaps for which it would have ended the server."""

    def __init__(self) -> None:
        self.awake_s = self.wall_s = 100.0
        self.ended: list[float] = []
        self.guard = StallGuard(lambda: (self.awake_s, self.wall_s), self.ended.append)

    def stand_still(self, seconds: float) -> None:
        self.awake_s += seconds
        self.wall_s += seconds

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.stand_still(STEP_S)
            self.guard.beat()


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_batch_that_takes_long_while_the_process_runs_is_answered(machine: Machine) -> None:
    with machine.guard:
        machine.run(60)
    assert machine.ended == []


@pytest.mark.parametrize("beaten", [False, True])
def test_a_process_that_stood_still_with_a_batch_ends_the_server_before_it_answers(
    machine: Machine, beaten: bool
) -> None:
    with machine.guard:
        machine.stand_still(2)
        if beaten:
            machine.guard.beat()
    assert machine.ended == [pytest.approx(2)]


def test_a_short_halt_of_a_batch_that_takes_long_ends_the_server(machine: Machine) -> None:
    with machine.guard:
        machine.run(10)
        machine.stand_still(GAP_S + STEP_S)
        machine.run(10)
    assert len(machine.ended) == 1


def test_a_batch_that_is_answered_before_it_could_be_given_up_is_answered(machine: Machine) -> None:
    with machine.guard:
        machine.stand_still((GAP_S + GIVEN_UP_S) / 2)
    assert machine.ended == []


def test_a_process_that_stood_still_without_a_batch_goes_on(machine: Machine) -> None:
    machine.stand_still(3600)
    machine.run(1)
    with machine.guard:
        machine.run(2)
    assert machine.ended == []


def test_a_halt_in_one_batch_is_forgotten_in_the_next(machine: Machine) -> None:
    with machine.guard:
        machine.stand_still((GAP_S + GIVEN_UP_S) / 2)
    machine.run(1)
    with machine.guard:
        machine.run(2)
    assert machine.ended == []


@pytest.mark.parametrize("beaten", [False, True])
def test_a_batch_taken_right_after_a_halt_had_waited_in_it(machine: Machine, beaten: bool) -> None:
    machine.stand_still(2)
    if beaten:
        machine.guard.beat()
    with machine.guard:
        pass
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
