"""Properties of the whole network."""

from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from service.model.config import Selection
from service.model.layers import PatchEmbedding
from service.model.vidtr import VidTr
from tests.unit.model.networks import POOLED, VARIANTS, layers, random_clips, sharp, tiny_config, tiny_network


@pytest.mark.parametrize("variant", VARIANTS)
def test_attention_is_never_negative_and_sums_to_one(variant: str) -> None:
    network = sharp(VARIANTS[variant])
    scores = network(random_clips(network, 3))
    for attention in (scores.temporal_attention, scores.layer_attention):
        assert (attention >= 0).all()
        torch.testing.assert_close(attention.sum(dim=-1), torch.ones(attention.shape[:-1]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_four_outputs_have_their_shapes(variant: str) -> None:
    network = sharp(VARIANTS[variant])
    t = network.config.frames
    assert [tuple(o.shape) for o in network(random_clips(network, 3))] == [(3, 4), (3, t), (3, 3, t), (3, 3, t)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_attention_is_far_from_even(variant: str) -> None:
    network = sharp(VARIANTS[variant])
    assert network(random_clips(network, 3)).temporal_attention.std(dim=-1).min() > 1e-4


@pytest.mark.parametrize("selection", get_args(Selection))
def test_each_layer_retains_as_many_frames_as_the_schedule_keeps(selection: Selection) -> None:
    network = tiny_network(selection=selection, **POOLED)
    retention = network(random_clips(network, 3)).layer_retention
    torch.testing.assert_close(retention.sum(dim=-1), torch.tensor([4.0, 4.0, 2.0]).expand(3, 3))


@pytest.mark.parametrize("selection", get_args(Selection))
def test_retention_never_grows_from_layer_to_layer(selection: Selection) -> None:
    network = tiny_network(selection=selection, **POOLED)
    retention = network(random_clips(network, 3)).layer_retention
    assert (retention[:, 1:] <= retention[:, :-1] + 1e-6).all()


def test_frame_selection_keeps_a_frame_whole_or_not_at_all() -> None:
    network = tiny_network(selection="frame", **POOLED)
    retention = network(random_clips(network, 3)).layer_retention
    assert set(retention.unique().tolist()) == {0.0, 1.0}


def test_head_location_selection_keeps_shares_of_frames() -> None:
    network = tiny_network(selection="head_location", **POOLED)
    retention = network(random_clips(network, 3)).layer_retention
    assert ((retention > 0) & (retention < 1)).any()


def test_without_pooling_every_frame_is_retained() -> None:
    network = tiny_network()
    assert torch.equal(network(random_clips(network, 2)).layer_retention, torch.ones(2, 3, 6))


@pytest.mark.parametrize("selection", get_args(Selection))
def test_the_class_row_survives_pooling(selection: Selection) -> None:
    network = tiny_network(selection=selection, **POOLED)
    layer = layers(network)[0]
    layer.self_attn.register_forward_hook(lambda _m, _i, out: out._replace(tokens=torch.zeros_like(out.tokens)))
    torch.nn.init.zeros_(layer.linear2.weight)
    torch.nn.init.zeros_(layer.linear2.bias)
    x = torch.randn(2, 7, 7, 16)
    pooled, *_ = layer(x, None)
    assert torch.equal(pooled[:, 0], x[:, 0])


def test_frame_selection_keeps_the_residual_rows_in_order_of_time() -> None:
    network = tiny_network(selection="frame", **POOLED)
    layer = layers(network)[0]
    layer.self_attn.register_forward_hook(lambda _m, _i, out: out._replace(tokens=torch.zeros_like(out.tokens)))
    torch.nn.init.zeros_(layer.linear2.weight)
    torch.nn.init.zeros_(layer.linear2.bias)
    x = torch.randn(1, 7, 7, 16)
    pooled, _, carry, _ = layer(x, None)
    kept = carry[0].argmax(dim=-1)
    assert kept.tolist() == sorted(kept.tolist())
    assert torch.equal(pooled[0], x[0, kept])


def test_the_patch_embedding_is_a_convolution_with_kernel_equal_to_stride() -> None:
    embedding = PatchEmbedding(patch=4, dim=10).double()
    torch.nn.init.normal_(embedding.weight)
    torch.nn.init.normal_(embedding.bias)
    clips = torch.randn(2, 3, 5, 8, 12, dtype=torch.float64)
    convolved = F.conv3d(clips, embedding.weight, embedding.bias, stride=(1, 4, 4))  # (B, d, T, H/p, W/p)
    torch.testing.assert_close(embedding(clips), convolved.flatten(3).permute(0, 2, 3, 1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_of_frames_matters(variant: str) -> None:
    network = sharp(VARIANTS[variant])
    clips = random_clips(network, 1)
    assert not torch.allclose(network(clips).logits, network(clips.flip(2)).logits, atol=1e-3)


def test_positions_on_tokens_equal_the_same_table_built_into_the_tokens() -> None:
    network = tiny_network(positions="tokens")
    grid = torch.randn(1, 7, 7, 16)
    table = network.pos_embedding.view(1, 7, 7, 16)
    with_table, *_ = network.encoder(grid, table)
    built_in, *_ = network.encoder(grid + table, torch.zeros_like(table))
    torch.testing.assert_close(with_table, built_in)


def test_first_layer_positions_do_not_reach_the_residual_stream() -> None:
    network = tiny_network(positions="first_layer")
    layer = layers(network)[0]
    layer.self_attn.register_forward_hook(lambda _m, _i, out: out._replace(tokens=torch.zeros_like(out.tokens)))
    x = torch.randn(1, 7, 7, 16)
    assert torch.equal(layer(x, torch.randn(1, 7, 7, 16))[0], layer(x, None)[0])


def final_tokens(network: VidTr, clips: Tensor) -> tuple[Tensor, Tensor]:
    """The normed grid after the last layer, `(B, R, P, d)`, and the logits."""
    grids: list[Tensor] = []
    network.encoder.layers[-1].register_forward_hook(lambda _m, _i, output: grids.append(output[0]))
    logits = network(clips).logits
    return network.encoder.norm(grids[0]), logits


def test_with_both_class_tokens_their_crossing_is_classified() -> None:
    network = tiny_network()
    tokens, logits = final_tokens(network, random_clips(network, 2))
    torch.testing.assert_close(logits, network.fc(tokens[:, 0, 0]))


def test_with_spatial_class_tokens_only_their_mean_over_frames_is_classified() -> None:
    network = tiny_network(class_tokens="spatial")
    tokens, logits = final_tokens(network, random_clips(network, 2))
    assert tokens.shape == (2, 6, 7, 16)
    torch.testing.assert_close(logits, network.fc(tokens[:, :, 0].mean(dim=1)))


@pytest.mark.parametrize("order", ["temporal_first", "spatial_first"])
def test_without_class_tokens_the_mean_of_all_tokens_is_classified(order: str) -> None:
    network = tiny_network(class_tokens="none", order=order)
    tokens, logits = final_tokens(network, random_clips(network, 2))
    assert tokens.shape == (2, 6, 6, 16)
    torch.testing.assert_close(logits, network.fc(tokens.mean(dim=(1, 2))))


@pytest.mark.parametrize(
    ("class_tokens", "tables"),
    [
        ("both", {"cls_s", "cls_t", "pos_embedding"}),
        ("spatial", {"cls_s", "pos_embedding"}),
        ("none", {"pos_embedding"}),
    ],
)
def test_the_grid_has_the_class_tokens_that_were_asked_for(class_tokens: str, tables: set[str]) -> None:
    network = tiny_network(class_tokens=class_tokens)
    assert {name for name, _ in network.named_parameters(recurse=False)} == tables


def test_head_dropout_acts_on_the_classified_token_in_training() -> None:
    network = tiny_network(head_dropout=0.5)
    clips = random_clips(network, 1)
    steady = network(clips).logits
    torch.manual_seed(0)
    assert not torch.allclose(network.train()(clips).logits, steady)


def test_clips_of_another_shape_are_refused() -> None:
    network = tiny_network()
    with pytest.raises(ValueError, match=r"clips must be \(B, 3, 6, 16, 24\)"):
        network(torch.zeros(1, 3, 6, 24, 16))


def fresh() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(VidTr(tiny_config(qkv="separate")).named_parameters())


def test_fresh_biases_are_zero() -> None:
    assert all(not p.any() for name, p in fresh().items() if name.endswith("bias"))


@pytest.mark.parametrize("name", ["cls_s", "cls_t", "pos_embedding"])
def test_fresh_tokens_and_positions_are_small_and_not_zero(name: str) -> None:
    values = fresh()[name]
    assert values.abs().max() <= 0.04
    assert 0.01 < values.std() < 0.03


def test_every_fresh_matrix_holds_different_finite_numbers() -> None:
    for name, parameter in fresh().items():
        if parameter.dim() > 1:
            assert parameter.isfinite().all(), name
            assert parameter.unique().numel() > parameter.numel() // 2, name
