import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.queue.fair_share import FairShare

RULE = FairShare(0.75)


def filled(capacity: int, callers: int) -> list[int]:
    """What each of the callers holds who all take what they can, in turns."""
    held = [0] * callers
    while True:
        before = list(held)
        for caller in range(callers):
            held[caller] += RULE.allows(held[caller], capacity - sum(held), 1)
        if held == before:
            return held


@pytest.mark.parametrize(("callers", "each"), [(1, 750), (2, 428), (3, 300), (9, 107)])
def test_callers_who_take_all_they_can_get_the_same_and_leave_a_part(callers: int, each: int) -> None:
    held = filled(1000, callers)
    assert all(abs(one - each) <= 1 for one in held)
    assert 1000 - sum(held) >= each // 3


@given(st.integers(1, 500), st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), max_size=200))
def test_whatever_callers_ask_for_nobody_who_holds_something_takes_more_than_its_share(
    capacity: int, asked: list[tuple[int, int]]
) -> None:
    held = [0] * 6
    for caller, more in asked:
        free = capacity - sum(held)
        began = held[caller] == 0
        if RULE.allows(held[caller], free, more):
            held[caller] += more
            assert began or held[caller] <= 0.75 * (held[caller] + capacity - sum(held)) + 1e-9
    assert sum(held) <= capacity


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_who_holds_nothing_gets_whatever_is_free(free: int, more: int) -> None:
    assert RULE.allows(0, free, more) == (more <= free)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 50))
def test_a_share_of_one_is_no_rule(held: int, free: int, more: int) -> None:
    assert FairShare(1.0).allows(held, free, more) == (more <= free)
    assert FairShare(1.0).per_free < 0


@given(st.integers(1, 1000), st.integers(0, 1000), st.integers(1, 100))
def test_the_factor_for_scripts_says_the_same(held: int, free: int, more: int) -> None:
    assert (more <= free and held + more <= RULE.per_free * (free - more)) == RULE.allows(held, free, more)
