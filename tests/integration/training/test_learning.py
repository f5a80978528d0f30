"""Fitting: gradients reach every parameter and a small network learns what it is shown."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from service.model.config import VidTrConfig
from service.model.preprocess import Normalize
from service.model.vidtr import VidTr


def network(*, qkv: str = "separate", selection: str = "frame", seed: int = 0) -> VidTr:
    torch.manual_seed(seed)
    return VidTr(
        VidTrConfig(
            height=16,
            width=16,
            frames=6,
            patch=8,
            depth=3,
            heads=2,
            dim=32,
            mlp_dim=64,
            classes=8,
            pooling=((0, 4), (1, 2)),
            qkv=qkv,  # type: ignore[arg-type]
            selection=selection,  # type: ignore[arg-type]
        )
    ).eval()


def random_data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    clips = torch.randint(0, 256, (8, 6, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return clips, torch.randperm(8, generator=generator)


@pytest.mark.parametrize("qkv", ["shared", "separate"])
def test_a_tiny_network_learns_eight_random_clips_by_heart(qkv: str) -> None:
    model, (clips, labels) = network(qkv=qkv).train(), random_data()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(Normalize()(clips)).logits, labels).backward()
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        assert torch.equal(model(Normalize()(clips)).logits.argmax(dim=-1), labels)


@pytest.mark.parametrize("qkv", ["shared", "separate"])
@pytest.mark.parametrize("selection", ["frame", "location", "head_location"])
def test_every_parameter_receives_a_gradient(qkv: str, selection: str) -> None:
    model, (clips, labels) = network(qkv=qkv, selection=selection), random_data()
    F.cross_entropy(model(Normalize()(clips)).logits, labels).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9]
    assert silent == []
