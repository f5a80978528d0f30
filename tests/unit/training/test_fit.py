"""Fitting: gradients reach every parameter and a small network learns what it is shown."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from service.model.config import VidTrConfig
from service.model.preprocess import Normalise
from service.model.vidtr import VidTr
from service.training.fit import fit


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
    model, (clips, labels) = network(qkv=qkv), random_data()
    fit(model, clips, labels, steps=60, batch_size=8, learning_rate=3e-3)
    with torch.inference_mode():
        assert torch.equal(model(Normalise()(clips)).logits.argmax(dim=-1), labels)


@pytest.mark.parametrize("qkv", ["shared", "separate"])
@pytest.mark.parametrize("selection", ["frame", "location", "head_location"])
def test_every_parameter_receives_a_gradient(qkv: str, selection: str) -> None:
    model, (clips, labels) = network(qkv=qkv, selection=selection), random_data()
    F.cross_entropy(model(Normalise()(clips)).logits, labels).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9]
    assert silent == []


def test_the_same_seed_gives_the_same_losses() -> None:
    clips, labels = random_data()
    runs = [fit(network(), clips, labels, steps=3, batch_size=4, seed=5) for _ in range(2)]
    assert runs[0] == runs[1]


def test_another_seed_draws_other_batches() -> None:
    clips, labels = random_data()
    runs = [fit(network(), clips, labels, steps=3, batch_size=4, seed=seed) for seed in (5, 6)]
    assert runs[0] != runs[1]


def test_fitting_returns_the_network_to_its_mode() -> None:
    model, (clips, labels) = network(), random_data()
    fit(model, clips, labels, steps=1, batch_size=8)
    assert not model.training


def test_clips_without_labels_are_refused() -> None:
    clips, labels = random_data()
    with pytest.raises(ValueError, match="8 clips need as many labels, not 7"):
        fit(network(), clips, labels[:7], steps=1, batch_size=8)


@pytest.mark.parametrize("batch_size", [0, 9])
def test_a_batch_that_the_clips_cannot_fill_is_refused(batch_size: int) -> None:
    clips, labels = random_data()
    with pytest.raises(ValueError, match=r"batch_size must lie in 1 \.\. 8"):
        fit(network(), clips, labels, steps=1, batch_size=batch_size)
