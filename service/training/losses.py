"""What a step of training minimizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from service.model.layers import NetworkOutput
from service.model.preprocess import Normalize
from service.training.camera_motion.flow import MotionScores, flow_loss
from service.training.config import Recipe
from service.training.sources import Examples


def examples_loss(
    network: Any, normalize: Normalize, examples: Examples, recipe: Recipe, multi_label: bool, device: torch.device
) -> Tensor:
    """Loss of a part of a batch: of the labels, and of attention and motion where the recipe asks for them."""
    clips, targets = normalize(examples.clips.to(device)), examples.targets.to(device)
    if recipe.mixup:
        share = float(torch.distributions.Beta(recipe.mixup, recipe.mixup).sample())
        clips = share * clips + (1 - share) * clips.roll(1, 0)
        targets = share * targets + (1 - share) * targets.roll(1, 0)
    output: NetworkOutput | MotionScores = network(clips)
    scores = output.scores if isinstance(output, MotionScores) else output
    logits = scores.logits.float()
    if multi_label:
        loss = F.binary_cross_entropy_with_logits(logits, targets)
    else:
        loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
    if isinstance(output, MotionScores) and examples.flow.numel():
        loss = loss + recipe.camera_flow * flow_loss(output.flows, examples.flow.to(device))
    if recipe.cut_attention and not recipe.mixup:
        loss = loss + recipe.cut_attention * _cut_loss(scores.temporal_attention, examples.cut.to(device))
    if recipe.frame_values and not recipe.mixup and examples.values.numel():
        loss = loss + recipe.frame_values * value_loss(scores.temporal_attention, examples.values.to(device))
    return loss


def value_loss(attention: Tensor, values: Tensor) -> Tensor:
    """How far `attention` `(B, T)` is from what frames are worth, `values` `(B, T)`, where they are known; 0 at best.

    The divergence of attention from the values above 0, scaled to sum 1, says how much each frame should get. Half of
    what their correlation lacks says in which order: values below 0 count there too, and so do clips whose frames are
    worth nearly the same.
    """
    known = values.isfinite().all(1)
    attention, values = attention[known], values[known]
    if not len(values):
        return 0.0 * attention.sum()
    wanted = values.clamp(min=0)
    wanted = wanted / wanted.sum(1, keepdim=True).clamp(min=1e-6)
    divergence = (torch.special.xlogy(wanted, wanted) - wanted * attention.log()).sum(1)
    ours, theirs = (given - given.mean(1, keepdim=True) for given in (attention, values))
    together = F.cosine_similarity(ours, theirs, dim=1)
    loss: Tensor = (divergence + 0.5 * (1 - together)).mean()
    return loss


def _cut_loss(attention: Tensor, cut: Tensor) -> Tensor:
    there = cut >= 0
    attention, slot = attention[there], cut[there][:, None]
    beside = attention.gather(1, slot) + attention.gather(1, slot + 1)
    return -beside.log().sum() / len(cut)
