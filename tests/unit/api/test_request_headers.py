import pytest

from service.api.request_headers import read_wait_policy
from service.errors import InvalidOption


def test_without_headers_the_servers_limits_hold() -> None:
    assert read_wait_policy(None, None, 30, 600).wait_s == 30
    assert read_wait_policy(None, None, 30, 600).deadline_s == 600


def test_respond_async_does_not_wait() -> None:
    assert read_wait_policy("respond-async", None, 30, 600).asynchronous


def test_respond_async_wins_over_wait() -> None:
    assert read_wait_policy("respond-async, wait=10", None, 30, 600).asynchronous
    assert read_wait_policy("wait=10, respond-async", None, 30, 600).asynchronous


def test_wait_shortens_the_wait_and_never_lengthens_it() -> None:
    assert read_wait_policy("wait=5", None, 30, 600).wait_s == 5
    assert read_wait_policy("wait=500", None, 30, 600).wait_s == 30


def test_an_unknown_preference_is_ignored() -> None:
    assert read_wait_policy("handling=strict, wait=abc", None, 30, 600).wait_s == 30


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("respond-async; a=b", "respond-async"),
        ('RESPOND-ASYNC=""', "respond-async"),
        ('wait="5"', "wait=5"),
        ("wait = 5", "wait=5"),
        ("wait=5;strict, wait=9", "wait=5"),
        (", foo ,, wait=5", "wait=5"),
        ('foo="a,respond-async,b"', None),
        ('foo="a\\", respond-async', None),
        ("respond-async=no", None),
        ("wait=\u0665", None),
        ("wait=5.5", None),
        ("wait", None),
    ],
)
def test_a_preference_is_read_as_its_grammar_says(prefer: str, applied: str | None) -> None:
    assert read_wait_policy(prefer, None, 30, 600).applied == applied


def test_the_deadline_header_only_shortens() -> None:
    assert read_wait_policy(None, "1.5", 30, 600).deadline_s == 1.5
    assert read_wait_policy(None, "9999", 30, 600).deadline_s == 600


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", "1_0", "\u0665"])
def test_a_deadline_that_is_no_positive_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="X-Deadline-S must be a positive number"):
        read_wait_policy(None, text, 30, 600)
