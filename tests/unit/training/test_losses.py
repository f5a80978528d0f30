"""The loss that draws attention to what frames are worth."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from service.training.losses import value_loss

WORTH = torch.tensor([[0.1, 0.6, 0.2, 0.1]])


def loss(*attention: float) -> float:
    return float(value_loss(torch.tensor([attention]), WORTH))


def test_attention_that_is_what_the_frames_are_worth_costs_nothing() -> None:
    assert abs(loss(0.1, 0.6, 0.2, 0.1)) < 1e-6


def test_attention_in_the_right_order_costs_less_than_in_the_wrong_one() -> None:
    assert loss(0.2, 0.35, 0.25, 0.2) < loss(0.25, 0.25, 0.25, 0.25001) < loss(0.35, 0.2, 0.2, 0.25)


def test_clips_whose_values_are_not_known_ask_for_nothing() -> None:
    unknown = torch.full((1, 4), torch.nan)
    attention = torch.tensor([[0.4, 0.3, 0.2, 0.1]] * 2)
    assert float(value_loss(attention, torch.cat([unknown, WORTH]))) == float(value_loss(attention[:1], WORTH))


def test_a_part_without_any_value_still_has_a_gradient() -> None:
    attention: Tensor = torch.full((2, 4), 0.25, requires_grad=True)
    value_loss(attention, torch.full((2, 4), torch.nan)).backward()
    assert attention.grad is not None
    assert not attention.grad.any()


def test_a_frame_that_speaks_against_the_label_is_wanted_least() -> None:
    against = torch.tensor([[-0.3, 0.0, 0.8, 0.0]])
    given = [torch.tensor([row]) for row in ([0.1, 0.2, 0.5, 0.2], [0.2, 0.1, 0.5, 0.2])]
    fits, does_not = (float(value_loss(attention, against)) for attention in given)
    assert fits < does_not
    assert math.isfinite(fits)
