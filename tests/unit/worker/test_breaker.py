from service.contracts import BreakerState
from service.worker.breaker import Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def state(breaker: Breaker) -> BreakerState:
    # A type checker takes an attribute that was compared once to stay what it was.
    return breaker.state


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(failures=2, open_s=5.0, clock=clock)
    breaker.failed()
    breaker.failed()
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(failures=2, open_s=5.0, clock=Clock())
    breaker.failed()
    assert state(breaker) == "closed"
    breaker.failed()
    assert state(breaker) == "open"
    assert breaker.retry_in_s == 5.0


def test_a_success_between_two_failures_keeps_it_closed() -> None:
    breaker = Breaker(failures=2, open_s=5.0, clock=Clock())
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert state(breaker) == "closed"


def test_after_its_time_one_attempt_decides() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now = 5.0
    assert state(breaker) == "half_open"
    breaker.failed()
    assert state(breaker) == "open"
    clock.now = 10.0
    breaker.succeeded()
    assert state(breaker) == "closed"


def test_a_sign_of_life_lets_the_next_attempt_decide_at_once() -> None:
    breaker = opened(Clock())
    breaker.probe()
    assert state(breaker) == "half_open"


def test_a_sign_of_life_changes_nothing_while_work_flows() -> None:
    breaker = Breaker(failures=2, open_s=5.0, clock=Clock())
    breaker.probe()
    assert state(breaker) == "closed"


def test_one_outage_is_one_failure_however_many_batches_it_meets() -> None:
    clock = Clock()
    breaker = Breaker(failures=2, open_s=5.0, clock=clock)
    began = breaker.now
    for _ in range(4):
        clock.now += 1
        breaker.failed(began)
    assert state(breaker) == "closed"
    breaker.failed(breaker.now)
    assert state(breaker) == "open"


def test_an_attempt_from_before_does_not_open_a_breaker_again_that_lets_one_batch_try() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, open_s=5.0, clock=clock)
    early, clock.now = breaker.now, 1.0
    breaker.failed(breaker.now)
    clock.now = 7.0
    breaker.failed(early)
    assert state(breaker) == "half_open"
    breaker.failed(breaker.now)
    assert state(breaker) == "open"
