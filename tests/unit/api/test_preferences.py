import pytest

from service.api.preferences import waiting
from service.errors import InvalidOption


def test_without_headers_the_servers_limits_hold() -> None:
    assert waiting({}, 30, 600).wait_s == 30
    assert waiting({}, 30, 600).deadline_s == 600


def test_respond_async_does_not_wait() -> None:
    assert waiting({"prefer": "respond-async"}, 30, 600).asynchronous


def test_respond_async_wins_over_wait() -> None:
    assert waiting({"prefer": "respond-async, wait=10"}, 30, 600).asynchronous
    assert waiting({"prefer": "wait=10, respond-async"}, 30, 600).asynchronous


def test_wait_shortens_the_wait_and_never_lengthens_it() -> None:
    assert waiting({"prefer": "wait=5"}, 30, 600).wait_s == 5
    assert waiting({"prefer": "wait=500"}, 30, 600).wait_s == 30


def test_an_unknown_preference_is_ignored() -> None:
    assert waiting({"prefer": "handling=strict, wait=abc"}, 30, 600).wait_s == 30


def test_the_deadline_header_only_shortens() -> None:
    assert waiting({"x-deadline-s": "1.5"}, 30, 600).deadline_s == 1.5
    assert waiting({"x-deadline-s": "9999"}, 30, 600).deadline_s == 600


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_a_deadline_that_is_no_positive_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="X-Deadline-S must be a positive number"):
        waiting({"x-deadline-s": text}, 30, 600)
