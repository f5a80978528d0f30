"""Properties of the networks on a sequence with one class token."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from service.model.joint_attention import JointAttention, joint_map
from service.model.sequence import BypassedLayer, SequenceVidTr
from tests.unit.model.networks import RELEASED, random_clips, tiny_sequence_network

FORMS: dict[str, Mapping[str, Any]] = {"vanilla": {}, "hybrid": {"separable_layers": 2}, "released": RELEASED}


def class_tokens(network: SequenceVidTr, clips: Tensor) -> list[Tensor]:
    """The class token after each layer, `(1 or B, d)`."""
    seen: list[Tensor] = []
    handles = [
        layer.register_forward_hook(
            lambda m, _i, output: seen.append(output[0 if isinstance(m, BypassedLayer) else 1][:, 0])
        )
        for layer in network.encoder.layers
    ]
    network(clips)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("form", ["hybrid", "released"])
def test_the_class_token_sees_no_video_before_the_first_joint_layer(form: str) -> None:
    network = tiny_sequence_network(**FORMS[form])
    first, second = (class_tokens(network, random_clips(network, 1, seed=seed)) for seed in (1, 2))
    assert [torch.equal(a, b) for a, b in zip(first, second, strict=True)] == [True, True, False]


@pytest.mark.parametrize("form", ["hybrid", "released"])
def test_the_class_token_is_changed_by_the_layers_that_it_bypasses(form: str) -> None:
    network = tiny_sequence_network(**FORMS[form])
    seen = class_tokens(network, random_clips(network, 1))
    assert not torch.allclose(seen[0], network.cls[0])
    assert not torch.allclose(seen[1], seen[0])


def test_in_training_each_clip_has_its_own_dropout_of_the_class_token() -> None:
    network = tiny_sequence_network(dropout=0.5, **RELEASED).train()
    torch.manual_seed(0)
    first, second = class_tokens(network, random_clips(network, 2))[0]
    assert not torch.equal(first, second)


@pytest.mark.parametrize("form", FORMS)
def test_one_clip_does_not_see_another(form: str) -> None:
    network = tiny_sequence_network(**FORMS[form])
    clips = random_clips(network, 3)
    for together, alone in zip(network(clips), network(clips[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_gets_a_gradient(form: str) -> None:
    network = tiny_sequence_network(**FORMS[form])
    network(random_clips(network, 2)).logits.square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_after_the_last_pooling_layer_the_sequence_holds_the_frames_kept() -> None:
    network = tiny_sequence_network(**RELEASED)
    shapes: list[torch.Size] = []
    network.encoder.layers[2].register_forward_hook(lambda _m, _i, output: shapes.append(output[1].shape))
    network(random_clips(network, 2))
    assert shapes == [(2, 1 + 2 * 6, 16)]


def test_heads_and_locations_choose_their_own_frames() -> None:
    network = tiny_sequence_network(**RELEASED)
    retention = network(random_clips(network, 3)).layer_retention
    assert ((retention > 0) & (retention < 1)).any()


@pytest.mark.parametrize(
    ("positions", "placed"), [("first_layer", [True, False, False]), ("every_layer", [True, True, True])]
)
@pytest.mark.parametrize("separable_layers", [0, 1])
def test_positions_reach_the_layers_that_are_to_see_them(
    positions: str, placed: list[bool], separable_layers: int
) -> None:
    network = tiny_sequence_network(positions=positions, separable_layers=separable_layers)
    seen: list[bool] = []
    for layer in network.encoder.layers:
        layer.register_forward_pre_hook(lambda _m, arguments: seen.append(arguments[2] is not None))
    network(random_clips(network, 1))
    assert seen == placed


def joint_attention(value_positions: bool) -> JointAttention:
    attention = JointAttention(12, 3, 0.5, value_positions)
    generator = torch.Generator().manual_seed(5)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return attention.double().eval()


def joint_inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(2, 7, 12, dtype=torch.float64, generator=generator)
    return x, torch.randn(1, 7, 12, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("value_positions", [False, True])
def test_joint_attention_is_that_of_torch(value_positions: bool) -> None:
    ours = joint_attention(value_positions)
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True).double().eval()
    theirs.load_state_dict(ours.state_dict())
    x, positions = joint_inputs()
    value = x + positions if value_positions else x
    expected, weights = theirs(x + positions, x + positions, value)
    attended = ours(x, positions)
    torch.testing.assert_close(attended.tokens, expected)
    torch.testing.assert_close(attended.class_weights, weights[:, 0])


def test_without_positions_the_values_are_those_of_the_tokens() -> None:
    x, _ = joint_inputs()
    for ours, theirs in zip(
        joint_attention(False).projections(x, None), joint_attention(True).projections(x, None), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_dropout_acts_on_joint_attention_in_training_only() -> None:
    x, positions = joint_inputs()
    attention = joint_attention(False)
    steady = attention(x, positions).tokens
    assert torch.equal(attention(x, positions).tokens, steady)
    torch.manual_seed(0)
    assert not torch.allclose(attention.train()(x, positions).tokens, steady)


def test_rows_of_the_joint_map_sum_to_one() -> None:
    x, positions = joint_inputs()
    query, key, _ = joint_attention(False).projections(x, positions)
    torch.testing.assert_close(joint_map(query, key).sum(dim=-1), torch.ones(2, 3, 7, dtype=torch.float64))


def test_clips_of_another_shape_are_refused() -> None:
    network = tiny_sequence_network()
    with pytest.raises(ValueError, match=r"clips must be \(B, 3, 6, 16, 24\)"):
        network(torch.zeros(1, 3, 6, 24, 16))


def test_fresh_biases_are_zero_and_tables_small() -> None:
    torch.manual_seed(0)
    network = SequenceVidTr(tiny_sequence_network(**RELEASED).config)
    assert all(not p.any() for name, p in network.named_parameters() if name.endswith("bias"))
    for table in (network.cls, network.pos_embedding):
        assert 0 < table.abs().max() <= 0.04
