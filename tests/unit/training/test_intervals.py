"""Wilson's interval."""

from __future__ import annotations

import pytest

from service.training.intervals import shown, weighted_share, wilson


def test_the_interval_is_that_of_a_published_example() -> None:
    # 81 of 263: 0.2553 to 0.3662 (Newcombe 1998, table I, method 3).
    share = wilson(81, 263)
    assert (share["low"], share["high"]) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize(("hits", "low", "high"), [(0, 0.0, 0.2775), (10, 0.7225, 1.0)])
def test_a_share_of_none_or_all_has_an_interval_of_one_side(hits: int, low: float, high: float) -> None:
    share = wilson(hits, 10)
    assert (share["low"], share["high"]) == pytest.approx((low, high), abs=1e-4)


def test_without_cases_nothing_is_known() -> None:
    assert (wilson(0, 0)["low"], wilson(0, 0)["high"]) == (0.0, 1.0)


def test_more_hits_than_cases_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hits must lie in 0 \.\. 3, not 4"):
        wilson(4, 3)


def test_counts_are_shown_beside_the_interval() -> None:
    assert shown(wilson(5, 10)) == "50.0 % (23.7 - 76.3; 5 of 10)"


def test_equal_weights_leave_the_interval_as_it_is() -> None:
    assert weighted_share([True, False, True], [2.0, 2.0, 2.0]) == wilson(2, 3)


def test_unequal_weights_move_the_share_and_widen_the_interval() -> None:
    hits = [True] * 5 + [False] * 5
    share = weighted_share(hits, [9.0] + [1.0] * 9)
    assert share["share"] == pytest.approx(13 / 18)
    plain = wilson(5, 10)
    assert share["high"] - share["low"] > plain["high"] - plain["low"]
    assert (share["hits"], share["count"]) == (5, 10)


def test_weights_that_are_not_positive_are_refused() -> None:
    with pytest.raises(ValueError, match="positive weights"):
        weighted_share([True], [0.0])
