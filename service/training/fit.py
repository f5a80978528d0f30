"""Fit a network to clips that are held in memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from service.model.build import Network
from service.model.preprocess import Normalise


def fit(
    model: Network,
    clips: Tensor,
    labels: Tensor,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    seed: int = 0,
) -> list[float]:
    """Minimise cross-entropy with AdamW, in place, on the device of the model's parameters.

    `clips` are uint8 `(N, T, H, W, 3)` and `labels` int64 `(N,)` class indices. Each step draws `batch_size` clips
    without repeats, by `seed`; dropout draws from torch's global state. The model's mode is restored at the end.
    Returns the loss of each step, before its update.

    Raises ValueError where the clips and labels do not pair up or the batch is larger than their number.
    """
    if len(clips) != len(labels):
        raise ValueError(f"{len(clips)} clips need as many labels, not {len(labels)}")
    if not 1 <= batch_size <= len(clips):
        raise ValueError(f"batch_size must lie in 1 .. {len(clips)}, not {batch_size}")
    device = model.fc.weight.device
    normalise = Normalise().to(device)
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    was_training = model.training
    model.train()
    losses = []
    for _ in range(steps):
        chosen = torch.randperm(len(clips), generator=draw)[:batch_size]
        logits = model(normalise(clips[chosen].to(device))).logits
        loss = F.cross_entropy(logits, labels[chosen].to(device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    model.train(was_training)
    return losses
