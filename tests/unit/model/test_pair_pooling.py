"""Pooling in pairs of frames against loops over frames and channels."""

import pytest
import torch
from torch import Tensor

from service.model.attention import SharedProjectionAttention
from service.model.factory import build_network
from service.model.pair_pooling import PairConv, PairMean
from tests.unit.model.networks import HALVED, VARIANTS, random_clips, tiny_network

HEADS, DIM = 2, 6


def tokens() -> Tensor:
    return torch.randn(2, 9, 3, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def uneven_conv() -> PairConv:
    conv = PairConv(DIM).double()
    torch.nn.init.normal_(conv.weight, generator=torch.Generator().manual_seed(2))
    return conv


def slow_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Frame rows 1, 2, ... of `(B, R, P, d)`: output u sees the frames 2u-1, 2u and 2u+1, counted from 0."""
    frames = x.size(1) - 1
    merged = x.new_zeros(x.size(0), 1 + frames // 2, *x.shape[2:])
    merged[:, 0] = x[:, 0]
    for u in range(frames // 2):
        for tap in range(3):
            source = 2 * u - 1 + tap
            if 0 <= source < frames:
                for channel in range(x.size(3)):
                    merged[:, 1 + u, :, channel] += weight[channel, 0, tap] * x[:, 1 + source, :, channel]
    return merged


def split(x: Tensor) -> Tensor:
    heads: Tensor = x.unflatten(3, (HEADS, -1))
    return heads.permute(0, 3, 2, 1, 4)  # (B, R, P, d) -> (B, h, P, R, c)


def test_averages_are_those_of_neighboring_frames() -> None:
    x = tokens()
    merged = PairMean().tokens(x, None)
    for u in range(4):
        torch.testing.assert_close(merged[:, 1 + u], (x[:, 1 + 2 * u] + x[:, 2 + 2 * u]) / 2)


@pytest.mark.parametrize("pool", [PairMean(), uneven_conv()], ids=["avg", "conv"])
def test_the_class_row_is_not_merged(pool: PairMean | PairConv) -> None:
    assert torch.equal(pool.tokens(tokens(), None)[:, 0], tokens()[:, 0])


def test_the_convolution_equals_its_loops() -> None:
    conv = uneven_conv()
    torch.testing.assert_close(conv.tokens(tokens(), None), slow_conv(tokens(), conv.weight))


def test_a_fresh_convolution_is_the_mean_of_each_pair() -> None:
    torch.testing.assert_close(PairConv(DIM).double().tokens(tokens(), None), PairMean().tokens(tokens(), None))


def test_a_fresh_network_leaves_its_kernels_at_the_pair_means() -> None:
    network = build_network(VARIANTS["conv"])
    kernels = [module.weight for module in network.modules() if isinstance(module, PairConv)]
    assert len(kernels) == 2
    assert all(torch.equal(kernel, PairConv(16).weight) for kernel in kernels)


def test_a_network_whose_kernels_are_pair_means_averages() -> None:
    averaging = tiny_network(pooling_method="avg", **HALVED)
    convolving = tiny_network(pooling_method="conv", **HALVED)
    for module in convolving.modules():
        if isinstance(module, PairConv):
            module.weight.data = PairConv(16).weight.data
    convolving.load_state_dict(averaging.state_dict(), strict=False)
    clips = random_clips(averaging, 2)
    torch.testing.assert_close(convolving(clips).logits, averaging(clips).logits, atol=1e-5, rtol=0)


def attention(pool: PairMean | PairConv) -> SharedProjectionAttention:
    layer = SharedProjectionAttention(DIM, HEADS, 0.0, pool)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in layer.named_parameters():
        if "pool" not in name:
            torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return layer.double().eval()


@pytest.mark.parametrize("pool", [PairMean(), uneven_conv()], ids=["avg", "conv"])
def test_the_temporal_result_queries_and_keys_are_merged_before_space(pool: PairMean | PairConv) -> None:
    layer, x = attention(pool), tokens()
    query, key, value = (split(part) for part in (x @ layer.in_proj_weight.T + layer.in_proj_bias).chunk(3, dim=-1))
    weights = (query @ key.transpose(-1, -2) / (DIM / HEADS) ** 0.5).softmax(dim=-1)
    in_time = (weights @ value).permute(0, 3, 2, 1, 4).flatten(3)  # (B, R, P, d)
    query, key, value = (pool.tokens(p, None) for p in (join(query), join(key), in_time))
    in_space = torch.zeros_like(value)
    for j in range(HEADS):
        part = slice(j * DIM // HEADS, (j + 1) * DIM // HEADS)
        q, k, v = query[..., part], key[..., part], value[..., part]
        in_space[..., part] = (q @ k.transpose(-1, -2) / (DIM / HEADS) ** 0.5).softmax(dim=-1) @ v
    torch.testing.assert_close(layer(x).tokens, layer.out_proj(in_space))


def join(x: Tensor) -> Tensor:
    return x.permute(0, 3, 2, 1, 4).flatten(3)


def test_the_kernel_learns() -> None:
    network = tiny_network(pooling_method="conv", **HALVED)
    network(random_clips(network, 2)).logits.square().sum().backward()
    kernels = [module.weight for module in network.modules() if isinstance(module, PairConv)]
    assert len(kernels) == 2
    assert all(kernel.grad is not None and kernel.grad.abs().max() > 0 for kernel in kernels)
