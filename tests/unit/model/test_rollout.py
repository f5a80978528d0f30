"""Attention rollout against its definition, written out with loops."""

import functools
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from service.model.attention import Attended
from service.model.config import Selection
from service.model.joint_attention import JointAttention
from service.model.rollout import layer_flow, rollout
from service.model.sequence import BypassedLayer, JointLayer, SequenceVidTr
from tests.unit.model.networks import HALVED, POOLED, RELEASED, random_clips, tiny_network, tiny_sequence_network
from tests.unit.model.networks import layers as encoder_layers

Matrix = list[list[float]]


def product(a: Matrix, b: Matrix) -> Matrix:
    return [[sum(x * b[k][j] for k, x in enumerate(row)) for j in range(len(b[0]))] for row in a]


def identity(size: int) -> Matrix:
    return [[float(i == j) for j in range(size)] for i in range(size)]


def normalized(row: list[float]) -> list[float]:
    return [x / sum(row) for x in row]


def mean_row(matrix: Matrix) -> list[float]:
    return [sum(column) / len(matrix) for column in zip(*matrix, strict=True)]


def slow_rollout(
    attention: list[Matrix], carry: list[Matrix], num_separable: int = 0
) -> tuple[list[float], Matrix, Matrix]:
    slots = len(attention[0][0])
    reach = carried = identity(slots)
    scores, retention = [], []
    for i, (a, p) in enumerate(zip(attention, carry, strict=True)):
        frames = [row[1:] for row in carried[1:]]
        row = mean_row(a[1:]) if i < num_separable else a[0]
        scores.append(normalized(product([row[1:]], frames)[0]))
        carried = product(p, carried)
        retention.append([sum(row[j] for row in carried[1:]) for j in range(1, slots)])
        half = [[(x + y) / 2 for x, y in zip(u, v, strict=True)] for u, v in zip(a, p, strict=True)]
        reach = product(half, reach)
    read = mean_row(reach[1:]) if num_separable == len(attention) else reach[0]
    return normalized(read[1:]), scores, retention


def slow_flow(temporal: Tensor, rows: Tensor | None) -> tuple[Matrix, Matrix]:
    """Means over heads and locations of one clip's map `(h, P, Q, R)` and of its one-hot choice."""
    heads, columns, kept, slots = temporal.shape
    attention = [[0.0] * slots for _ in range(kept)]
    carry = [[0.0] * slots for _ in range(kept)]
    for j in range(heads):
        for p in range(columns):
            for q in range(kept):
                for r in range(slots):
                    attention[q][r] += float(temporal[j, p, q, r]) / (heads * columns)
                carry[q][q if rows is None else int(rows[j, p, q])] += 1 / (heads * columns)
    return attention, carry


def slow_merged_flow(temporal: Tensor) -> tuple[Matrix, Matrix]:
    """A layer that merges pairs: its mean map, and half of either frame in each pair."""
    attention, _ = slow_flow(temporal, torch.zeros(temporal.shape[:3], dtype=torch.int64))
    slots = temporal.size(-1)
    carry = [[float(r == 0) for r in range(slots)]]
    for pair in range((slots - 1) // 2):
        carry.append([0.5 if r in (1 + 2 * pair, 2 + 2 * pair) else 0.0 for r in range(slots)])
    return attention, carry


def slow_bypassed_flow(temporal: Tensor, rows: Tensor | None) -> tuple[Matrix, Matrix]:
    """Slot 0 is put around the mean map and the mean choice of the frames."""
    attention, carry = (
        [[1.0] + [0.0] * len(matrix[0])] + [[0.0, *row] for row in matrix] for matrix in slow_flow(temporal, rows)
    )
    return attention, carry


def slow_joint_flow(network: SequenceVidTr, layer: JointLayer, x: Tensor, table: Tensor | None) -> list[Matrix]:
    """For each clip the class query's attention, head by head and token by token; the frames keep to themselves."""
    attention = layer.self_attn
    assert isinstance(attention, JointAttention)
    placed = x if table is None else x + table
    heads, locations = attention.heads, network.config.locations
    query, key, _ = (placed @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
    matrices = []
    for b in range(x.size(0)):
        row = [0.0] * (layer.frames + 1)
        for q, k in zip(query[b, 0].chunk(heads), key[b].chunk(heads, dim=-1), strict=True):
            weights = (k @ q / len(q) ** 0.5).softmax(dim=0).tolist()
            row[0] += weights[0] / heads
            for token, weight in enumerate(weights[1:]):
                row[1 + token // locations] += weight / heads
        matrices.append([row, *identity(layer.frames + 1)[1:]])
    return matrices


@pytest.mark.parametrize(
    "form",
    [{}, {"separable_layers": 2, "positions": "every_layer", "joint_value_positions": True}, RELEASED],
    ids=["vanilla", "hybrid", "released"],
)
def test_a_sequence_reports_the_rollout_of_its_own_maps(form: dict[str, Any]) -> None:
    network = tiny_sequence_network(**form)
    flows: list[list[tuple[Matrix, Matrix]]] = []

    def on_attention(
        layer: BypassedLayer | JointLayer, _attention: nn.Module, arguments: tuple[Any, ...], output: Any
    ) -> None:
        if isinstance(layer, BypassedLayer):
            rows = output.rows
            flows.append([slow_bypassed_flow(output.temporal[b], None if rows is None else rows[b]) for b in range(2)])
        else:
            matrices = slow_joint_flow(network, layer, *arguments[:2])
            flows.append([(matrix, identity(layer.frames + 1)) for matrix in matrices])

    for layer in network.encoder.layers:
        assert isinstance(layer, BypassedLayer | JointLayer)
        layer.self_attn.register_forward_hook(functools.partial(on_attention, layer))
    with torch.inference_mode():
        scores = network(random_clips(network, 2))
    for b in range(2):
        steps = [flow[b] for flow in flows]
        num_separable = network.config.separable_layers
        temporal, layers, retention = slow_rollout([a for a, _ in steps], [p for _, p in steps], num_separable)
        torch.testing.assert_close(scores.temporal_attention[b], torch.tensor(temporal), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(scores.layer_attention[b], torch.tensor(layers), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(scores.layer_retention[b], torch.tensor(retention), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", ["avg", "conv"])
@pytest.mark.parametrize("qkv", ["shared", "separate"])
def test_a_network_that_merges_pairs_reports_the_rollout_of_the_pair_means(method: str, qkv: str) -> None:
    network = tiny_network(pooling_method=method, qkv=qkv, **HALVED)
    seen: list[Attended] = []
    for layer in encoder_layers(network):
        layer.self_attn.register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.inference_mode():
        scores = network(random_clips(network, 1))
    flows = [slow_merged_flow(s.temporal[0]) for s in seen[:2]] + [slow_flow(seen[2].temporal[0], None)]
    temporal, layers, retention = slow_rollout([a for a, _ in flows], [p for _, p in flows])
    torch.testing.assert_close(scores.temporal_attention[0], torch.tensor(temporal), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(scores.layer_attention[0], torch.tensor(layers), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(scores.layer_retention[0], torch.tensor(retention), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "form",
    [{"class_tokens": "spatial"}, {"class_tokens": "none"}, {"class_tokens": "none", "order": "spatial_first"}],
    ids=str,
)
def test_without_a_temporal_class_row_the_mean_frame_row_is_reported(form: dict[str, Any]) -> None:
    network = tiny_network(**form)
    seen: list[Attended] = []
    for layer in encoder_layers(network):
        layer.self_attn.register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.inference_mode():
        scores = network(random_clips(network, 1))
    flows = [slow_bypassed_flow(s.temporal[0], None) for s in seen]
    temporal, layers, _ = slow_rollout([a for a, _ in flows], [p for _, p in flows], num_separable=3)
    torch.testing.assert_close(scores.temporal_attention[0], torch.tensor(temporal), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(scores.layer_attention[0], torch.tensor(layers), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("selection", get_args(Selection))
@pytest.mark.parametrize("qkv", ["shared", "separate"])
def test_the_network_reports_the_rollout_of_its_own_maps(selection: Selection, qkv: str) -> None:
    network = tiny_network(selection=selection, qkv=qkv, **POOLED)
    seen: list[Attended] = []
    for layer in encoder_layers(network):
        layer.self_attn.register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.inference_mode():
        scores = network(random_clips(network, 2))
    for b in range(2):
        flows = [slow_flow(s.temporal[b], None if s.rows is None else s.rows[b]) for s in seen]
        temporal, layers, retention = slow_rollout([a for a, _ in flows], [p for _, p in flows])
        torch.testing.assert_close(scores.temporal_attention[b], torch.tensor(temporal), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(scores.layer_attention[b], torch.tensor(layers), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(scores.layer_retention[b], torch.tensor(retention), atol=1e-6, rtol=1e-5)


def test_a_layer_worked_by_hand() -> None:
    attention = torch.tensor([[[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]]])
    carry = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.25, 0.75]]])
    temporal, layers, retention = rollout([attention], [carry])
    torch.testing.assert_close(temporal, torch.tensor([[0.4, 0.6]]))
    torch.testing.assert_close(layers, torch.tensor([[[0.4, 0.6]]]))
    torch.testing.assert_close(retention, torch.tensor([[[0.25, 0.75]]]))


def test_scores_of_a_later_layer_go_to_the_frames_its_slots_carry() -> None:
    drop = torch.tensor([[[1.0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]])
    even = torch.full((1, 3, 4), 0.25)
    later = torch.tensor([[[0.2, 0.6, 0.2], [1, 0, 0], [1, 0, 0]]])
    _, layers, _ = rollout([even, later], [drop, torch.eye(3)[None]])
    torch.testing.assert_close(layers[0, 1], torch.tensor([0.0, 0.75, 0.25]))


def test_attention_that_never_leaves_the_class_row_is_spread_evenly() -> None:
    closed = torch.eye(5)[None]
    temporal, layers, _ = rollout([closed], [closed])
    torch.testing.assert_close(temporal, torch.full((1, 4), 0.25))
    torch.testing.assert_close(layers, torch.full((1, 1, 4), 0.25))


def test_a_layer_without_a_class_row_leaves_slot_0_alone() -> None:
    temporal = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).view(1, 1, 1, 2, 2)
    attention, carry = layer_flow(temporal, None, class_row=False)
    torch.testing.assert_close(attention[0], torch.tensor([[1.0, 0, 0], [0, 0.25, 0.75], [0, 0.5, 0.5]]))
    assert torch.equal(carry[0], torch.eye(3))


def test_half_precision_maps_give_float32_scores() -> None:
    temporal = torch.rand(1, 2, 3, 5, 5, dtype=torch.float64).softmax(dim=-1).bfloat16()
    attention, carry = layer_flow(temporal, None)
    assert [t.dtype for t in rollout([attention], [carry])] == [torch.float32] * 3
