from service.api.shares import Shares


def test_a_caller_leaves_a_quarter_to_others_and_gets_it_back_when_they_end() -> None:
    slots = Shares(0.75).of("uploads", 64)
    taken = [slots.take("a") for _ in range(64)]
    assert taken.count(None) == slots.held("a") == 48
    refused = taken[-1]
    assert refused is not None
    assert (refused.own, refused.limit, refused.actual) == (True, 48, 48)
    assert slots.take("b") is None
    slots.give_back("a", 10)
    assert slots.take("a") is None


def test_what_is_used_up_is_said_to_be_everybody_s() -> None:
    slots = Shares(0.75).of("uploads", 2)
    assert slots.take("a") is None
    assert slots.take("b") is None
    refused = slots.take("c")
    assert refused is not None
    assert (refused.own, refused.limit, refused.actual) == (False, 2, 2)


def test_where_there_can_be_only_one_caller_everything_is_theirs() -> None:
    slots = Shares(0.5, only_one=lambda: True).of("uploads", 8)
    assert [slots.take("a") for _ in range(8)] == [None] * 8


def test_in_turns_a_caller_waits_for_no_more_of_another_s_than_it_has_itself() -> None:
    slots = Shares(1.0).of("uploads", 64)
    for _ in range(40):
        slots.take("flood")
    assert (slots.ahead("flood"), slots.ahead("good")) == (40, 1)
    slots.take("good")
    assert slots.ahead("good") == 1 + 2


def test_what_something_else_limits_is_shared_by_what_is_free() -> None:
    spool = Shares(0.5).of("spool", 0)
    assert spool.take("a", 100, free=400) is None
    refused = spool.take("a", 200, free=300)
    assert refused is not None
    assert (refused.own, refused.limit) == (True, 200)
    assert spool.take("b", 200, free=300) is None
