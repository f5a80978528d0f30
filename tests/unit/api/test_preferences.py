import pytest

from service.api.preferences import waiting
from service.errors import InvalidOption


def test_without_headers_the_servers_limits_hold() -> None:
    assert waiting(None, None, 30, 600).wait_s == 30
    assert waiting(None, None, 30, 600).deadline_s == 600


def test_respond_async_does_not_wait() -> None:
    assert waiting("respond-async", None, 30, 600).asynchronous


def test_respond_async_wins_over_wait() -> None:
    assert waiting("respond-async, wait=10", None, 30, 600).asynchronous
    assert waiting("wait=10, respond-async", None, 30, 600).asynchronous


def test_wait_shortens_the_wait_and_never_lengthens_it() -> None:
    assert waiting("wait=5", None, 30, 600).wait_s == 5
    assert waiting("wait=500", None, 30, 600).wait_s == 30


def test_an_unknown_preference_is_ignored() -> None:
    assert waiting("handling=strict, wait=abc", None, 30, 600).wait_s == 30


def test_the_deadline_header_only_shortens() -> None:
    assert waiting(None, "1.5", 30, 600).deadline_s == 1.5
    assert waiting(None, "9999", 30, 600).deadline_s == 600


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_a_deadline_that_is_no_positive_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="X-Deadline-S must be a positive number"):
        waiting(None, text, 30, 600)
