"""The two recipes: which optimizer, and what rate at which step."""

from __future__ import annotations

import math

import torch
from torch import nn

from service.training.config import Recipe


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD over what is trained (paper), or AdamW that decays matrices only, not biases, norms, tokens, positions."""
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    if recipe.name == "paper":
        return torch.optim.SGD(
            [p for _, p in named], lr=recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay
        )
    tables = ("cls", "pos_embedding")
    decayed = [p for name, p in named if p.dim() > 1 and not name.rpartition(".")[2].startswith(tables)]
    chosen = {id(p) for p in decayed}
    rest = [p for _, p in named if id(p) not in chosen]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def rate_at(step: int, recipe: Recipe) -> float:
    """Learning rate of a step, counted from 0."""
    if recipe.name == "paper":
        return recipe.learning_rate * 0.1 ** sum(step >= share * recipe.steps for share in recipe.milestones)
    warm = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    held = recipe.hold * recipe.steps
    fall = max(0.0, step - held) / max(1.0, recipe.steps - held)
    return recipe.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fall)))
