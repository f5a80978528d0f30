"""What frames are worth, estimated from few sets of them."""

from __future__ import annotations

import numpy as np
import pytest

from service.evidence import Kept, Values, shapley, subsets
from service.training.frame_values import drawn_sets, estimated_values

FRAMES = 8
WORTH = np.array([0.1, 0.4, 0.0, 0.05, 0.3, -0.1, 0.2, 0.05])


def score(kept: Kept) -> Values:
    """Frames add up, and the second and the fifth help each other."""
    return np.asarray(1 / (1 + np.exp(1 - 3 * kept @ WORTH - 2.0 * kept[:, 1] * kept[:, 4])))


def estimate(pairs: int, seed: int) -> Values:
    kept = drawn_sets(FRAMES, pairs, np.random.default_rng(seed))
    ends = score(subsets(FRAMES)[[0, -1]])
    return estimated_values(kept, score(kept), *ends)


def test_all_sets_give_the_exact_values() -> None:
    kept = subsets(FRAMES)
    values = score(kept)
    found = estimated_values(kept[1:-1], values[1:-1], values[0], values[-1])
    np.testing.assert_allclose(found, shapley(values), atol=1e-12)


def test_estimates_sum_to_what_all_frames_add() -> None:
    ends = score(subsets(FRAMES)[[0, -1]])
    assert abs(estimate(6, 0).sum() - (ends[1] - ends[0])) < 1e-12


def test_a_few_sets_tell_frames_that_count_from_those_that_do_not() -> None:
    exact = shapley(score(subsets(FRAMES)))
    found = np.mean([estimate(12, seed) for seed in range(20)], 0)
    assert set(np.argsort(-found)[:2]) == set(np.argsort(-exact)[:2])
    assert np.argmin(found) == np.argmin(exact)


def test_more_sets_come_closer() -> None:
    exact = shapley(score(subsets(FRAMES)))
    few, many = (np.mean([np.abs(estimate(pairs, seed) - exact) for seed in range(40)]) for pairs in (4, 60))
    assert many < 0.6 * few


def test_a_set_that_was_scored_twice_counts_once() -> None:
    kept = drawn_sets(FRAMES, 8, np.random.default_rng(1))
    twice = np.concatenate([kept, kept])
    ends = score(subsets(FRAMES)[[0, -1]])
    once, again = (estimated_values(sets, score(sets), *ends) for sets in (kept, twice))
    np.testing.assert_allclose(again, once)


def test_each_set_is_drawn_with_its_complement() -> None:
    kept = drawn_sets(5, 3, np.random.default_rng(0))
    assert len(kept) == 16
    assert (kept[10:13] == ~kept[13:]).all()
    assert kept[10:].sum(1).min() >= 2


def test_clips_of_three_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 frames, not of 3"):
        drawn_sets(3, 1, np.random.default_rng(0))
