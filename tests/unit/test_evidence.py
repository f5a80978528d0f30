"""Shapley values of frames, on functions whose values are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from service.evidence import (
    EXACT_FRAMES,
    Kept,
    Value,
    Values,
    deletion,
    evidence,
    rank_correlation,
    shapley,
    shown,
    subsets,
    variants,
)


def table(frames: int, seed: int) -> Value:
    """Any function of sets: the score of each is random."""
    values = np.random.default_rng(seed).uniform(0, 1, 1 << frames)
    return lambda kept: values[(kept * (1 << np.arange(frames))).sum(1)]


def by_all_orders(value: Value, frames: int) -> Values:
    """The definition: what a frame adds, averaged over all orders."""
    total = np.zeros(frames)
    orders = list(itertools.permutations(range(frames)))
    for order in orders:
        kept = np.zeros((frames + 1, frames), dtype=bool)
        for place, t in enumerate(order):
            kept[place + 1 :, t] = True
        total[list(order)] += np.diff(value(kept))
    return total / len(orders)


@pytest.mark.parametrize("frames", [1, 2, 5, 6])
def test_exact_values_are_those_of_the_definition(frames: int) -> None:
    value = table(frames, frames)
    np.testing.assert_allclose(evidence(value, frames).contributions, by_all_orders(value, frames), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_contributions_sum_to_the_score_less_that_of_the_still_clip(seed: int) -> None:
    found = evidence(table(8, seed), 8)
    assert found.contributions.sum() == pytest.approx(found.score - found.still_score, abs=1e-12)
    assert found.forwards == 256
    assert found.error == 0


def test_a_frame_that_never_matters_has_no_value_and_equal_frames_have_equal_ones() -> None:
    def value(kept: Kept) -> Values:
        return 0.2 + 0.5 * (kept[:, 1] | kept[:, 4]) + 0.1 * (kept[:, 2] & kept[:, 6])

    found = evidence(value, 8)

    np.testing.assert_allclose(found.contributions, [0, 0.25, 0.05, 0, 0.25, 0, 0.05, 0], atol=1e-12)
    # Either of the two will do; the lower set number comes first.
    assert found.enough == (1, 2, 6)


def test_the_smallest_set_that_keeps_most_of_the_score_is_found() -> None:
    def value(kept: Kept) -> Values:
        return 0.1 + 0.7 * (kept[:, 3] & kept[:, 4]) + 0.05 * kept[:, 0]

    assert evidence(value, 6).enough == (3, 4)


def test_sampled_values_are_within_their_stated_error() -> None:
    frames, within = 12, 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        weights, pairs = random.normal(0, 0.1, frames), random.normal(0, 0.05, (frames, frames))

        def value(kept: Kept, weights: Values = weights, pairs: Values = pairs) -> Values:
            one = kept.astype(float)
            return np.asarray(one @ weights + ((one @ pairs) * one).sum(1))

        # A frame gets its own term and half of each that it shares.
        exact = weights + np.diag(pairs) + (pairs + pairs.T - 2 * np.diag(np.diag(pairs))).sum(1) / 2
        found = evidence(value, frames, orders=8, seed=seed)
        within += bool(np.abs(found.contributions - exact).max() <= found.error + 1e-12)
        assert found.contributions.sum() == pytest.approx(found.score - found.still_score)
    assert within >= 57


def test_sampling_states_an_error_that_falls_with_the_orders() -> None:
    value = table(EXACT_FRAMES + 1, 3)
    exact = shapley(value(subsets(EXACT_FRAMES + 1)))
    few, many = (evidence(value, EXACT_FRAMES + 1, orders=n) for n in (8, 400))
    assert 0 < many.error < few.error
    assert np.abs(many.contributions - exact).max() <= many.error


def test_a_frame_that_is_left_out_is_shown_as_the_nearest_one_the_earlier_of_two() -> None:
    kept = np.array([[1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 1, 1, 1, 0]], dtype=bool)
    np.testing.assert_array_equal(shown(kept), [[0, 0, 0, 4, 4], [2, 2, 2, 2, 2], [1, 1, 2, 3, 3]])
    clip = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1) * np.ones((1, 2, 2, 3), np.uint8)
    np.testing.assert_array_equal(variants(clip, kept)[:, :, 0, 0, 0], shown(kept))


@pytest.mark.parametrize(("frames", "orders"), [(0, 4), (EXACT_FRAMES + 1, 1)])
def test_what_cannot_be_sampled_is_refused(frames: int, orders: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        evidence(table(frames, 0), frames, orders=orders)


def test_rank_correlation_is_spearmans() -> None:
    assert rank_correlation(np.array([1.0, 5, 2, 9]), np.array([10.0, 30, 20, 99])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    # By hand: ranks 0.5, 0.5, 2, 3 and 0, 1, 2, 3.
    assert rank_correlation(np.array([1.0, 1, 2, 3]), np.array([0.0, 1, 2, 3])) == pytest.approx(0.9486833)
    assert rank_correlation(np.ones(3), np.array([1.0, 2, 3])) is None


def test_deletion_falls_fastest_where_what_counts_goes_first() -> None:
    def value(kept: Kept) -> Values:
        return np.asarray(kept @ np.array([0.6, 0.0, 0.3, 0.1]))

    assert deletion(value, np.array([0, 2, 3, 1])) == pytest.approx((0.4 + 0.1 + 0 + 0) / 4)
    assert deletion(value, np.array([1, 3, 2, 0])) == pytest.approx((1.0 + 0.9 + 0.6 + 0) / 4)
