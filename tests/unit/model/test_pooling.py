"""topK_std pooling against an oracle written with loops and exact arithmetic."""

from fractions import Fraction
from statistics import stdev
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from service.model.config import Selection
from service.model.pooling import TopKStd, take_token_rows, topk_std

SELECTIONS: tuple[Selection, ...] = get_args(Selection)


def slow_topk_std(attention: Tensor, keep: int, selection: Selection) -> Tensor:
    """Rank the frames of every scope one number at a time."""
    batch, heads, columns, slots, _ = attention.shape
    sigma = [
        [
            [[Fraction(stdev(attention[b, j, p, t].tolist())) for t in range(1, slots)] for p in range(columns)]
            for j in range(heads)
        ]
        for b in range(batch)
    ]
    rows = torch.zeros(batch, heads, columns, keep + 1, dtype=torch.int64)
    for b in range(batch):
        for j in range(heads):
            for p in range(columns):
                if selection == "frame":
                    scope = [(jj, pp) for jj in range(heads) for pp in range(columns)]
                elif selection == "location":
                    scope = [(jj, p) for jj in range(heads)]
                else:
                    scope = [(j, p)]
                totals = [sum(sigma[b][jj][pp][t] for jj, pp in scope) for t in range(slots - 1)]
                best = sorted(range(slots - 1), key=lambda t: (-totals[t], t))[:keep]
                rows[b, j, p, 1:] = torch.tensor(sorted(best)) + 1
    return rows


@st.composite
def maps_full_of_ties(draw: st.DrawFn) -> tuple[Tensor, int]:
    """Rows of an odd length holding ±a in pairs and one 0: their deviation is exactly a, and few values of a occur."""
    batch, heads, columns = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    frames = 2 * draw(st.integers(1, 4))
    keep = draw(st.integers(1, frames - 1))
    count = batch * heads * columns * (frames + 1)
    deviations = draw(st.lists(st.sampled_from([0.125, 0.25, 0.5, 1.0]), min_size=count, max_size=count))
    pattern = torch.tensor([1.0, -1.0] * (frames // 2) + [0.0])
    rows = torch.tensor(deviations)[:, None] * pattern
    return rows.view(batch, heads, columns, frames + 1, frames + 1), keep


@pytest.mark.parametrize("selection", SELECTIONS)
@given(case=maps_full_of_ties())
@settings(deadline=None, max_examples=40)
def test_the_choice_equals_the_slow_oracle_and_ties_go_to_the_earlier_frame(
    selection: Selection, case: tuple[Tensor, int]
) -> None:
    attention, keep = case
    assert torch.equal(topk_std(attention, keep, selection), slow_topk_std(attention, keep, selection))


@pytest.mark.parametrize("selection", SELECTIONS)
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(2, 9))
@settings(deadline=None, max_examples=25)
def test_the_choice_equals_the_slow_oracle_on_softmax_maps(selection: Selection, seed: int, frames: int) -> None:
    scores = 3 * torch.randn(2, 2, 3, frames + 1, frames + 1, generator=torch.Generator().manual_seed(seed))
    attention, keep = scores.softmax(dim=-1), (frames + 1) // 2
    assert torch.equal(topk_std(attention, keep, selection), slow_topk_std(attention, keep, selection))


def even_map(frames: int) -> Tensor:
    return torch.full((1, 2, 3, frames + 1, frames + 1), 1 / (frames + 1))


def test_among_equal_frames_the_earliest_stay() -> None:
    assert topk_std(even_map(5), 3, "head_location")[0, 0, 0].tolist() == [0, 1, 2, 3]


def test_without_a_class_row_the_first_row_is_a_frame_that_may_leave() -> None:
    attention = even_map(4)
    attention[..., 2, :] = torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1])
    attention[..., 4, :] = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.6])
    assert topk_std(attention, 2, "head_location", class_row=False)[0, 0, 0].tolist() == [2, 4]


def test_the_class_row_stays_even_when_its_map_is_the_flattest() -> None:
    attention = torch.eye(6).expand(1, 2, 3, 6, 6).clone()
    attention[..., 0, :] = 1 / 6
    assert (topk_std(attention, 2, "frame")[..., 0] == 0).all()


def test_kept_frames_stay_in_order_of_time() -> None:
    attention = even_map(5)
    for frame, weight in ((5, 0.9), (2, 0.8), (4, 0.7)):
        attention[..., frame, :] = (1 - weight) / 5
        attention[..., frame, 0] = weight
    assert topk_std(attention, 3, "location")[0, 0, 0].tolist() == [0, 2, 4, 5]


def test_attention_to_the_class_row_counts_in_the_deviation() -> None:
    attention = even_map(4)
    attention[..., 3, :] = torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1])
    assert topk_std(attention, 1, "frame")[0, 0, 0].tolist() == [0, 3]


def test_frame_selection_is_one_choice_for_all_heads_and_locations() -> None:
    attention = torch.randn(2, 3, 4, 7, 7, generator=torch.Generator().manual_seed(5)).softmax(dim=-1)
    rows = topk_std(attention, 3, "frame")
    assert torch.equal(rows, rows[:, :1, :1].expand_as(rows))


def test_half_precision_maps_are_ranked_in_float32() -> None:
    attention = even_map(4).bfloat16()
    # The squares of these deviations are too close for bfloat16.
    attention[..., 2, :] = torch.tensor([0.25, 0.125, 0.125, 0.25, 0.25])
    attention[..., 3, :] = torch.tensor([0.25, 0.12451171875, 0.125, 0.25, 0.25])
    assert topk_std(attention, 1, "frame")[0, 0, 0].tolist() == [0, 3]


def test_without_a_second_softmax_the_kept_rows_are_the_rows_of_the_map() -> None:
    attention = torch.randn(1, 2, 3, 6, 6, generator=torch.Generator().manual_seed(1)).softmax(dim=-1)
    pooled, rows = TopKStd(2, "head_location", second_softmax=False)(attention)
    for j in range(2):
        for p in range(3):
            assert torch.equal(pooled[0, j, p], attention[0, j, p, rows[0, j, p]])


def test_a_second_softmax_flattens_the_kept_rows() -> None:
    attention = torch.eye(6).expand(1, 2, 3, 6, 6)
    pooled, _ = TopKStd(2, "frame", second_softmax=True)(attention)
    torch.testing.assert_close(pooled, torch.eye(6)[:3].softmax(dim=-1).expand_as(pooled))


def test_each_head_slice_of_the_residual_follows_its_own_choice() -> None:
    heads, channels = 2, 3
    x = torch.arange(5 * 2 * heads * channels).float().view(1, 5, 2, heads * channels)
    rows = torch.tensor([[[[0, 1, 4], [0, 2, 3]], [[0, 3, 4], [0, 1, 2]]]])  # (B, h, P, Q)
    taken = take_token_rows(x, rows)
    for j in range(heads):
        for p in range(2):
            for q in range(3):
                source = x[0, rows[0, j, p, q], p, j * channels : (j + 1) * channels]
                assert torch.equal(taken[0, q, p, j * channels : (j + 1) * channels], source)
