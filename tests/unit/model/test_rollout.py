"""Attention rollout against its definition, written out with loops."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from service.model.attention import Attended
from service.model.config import Selection
from service.model.rollout import layer_flow, rollout
from tests.unit.model.networks import POOLED, random_clips, tiny_network

Matrix = list[list[float]]


def product(a: Matrix, b: Matrix) -> Matrix:
    return [[sum(x * b[k][j] for k, x in enumerate(row)) for j in range(len(b[0]))] for row in a]


def identity(size: int) -> Matrix:
    return [[float(i == j) for j in range(size)] for i in range(size)]


def normalised(row: list[float]) -> list[float]:
    return [x / sum(row) for x in row]


def slow_rollout(attention: list[Matrix], carry: list[Matrix]) -> tuple[list[float], Matrix, Matrix]:
    slots = len(attention[0][0])
    reach = carried = identity(slots)
    scores, retention = [], []
    for a, p in zip(attention, carry, strict=True):
        frames = [row[1:] for row in carried[1:]]
        scores.append(normalised(product([a[0][1:]], frames)[0]))
        carried = product(p, carried)
        retention.append([sum(row[j] for row in carried[1:]) for j in range(1, slots)])
        half = [[(x + y) / 2 for x, y in zip(u, v, strict=True)] for u, v in zip(a, p, strict=True)]
        reach = product(half, reach)
    return normalised(reach[0][1:]), scores, retention


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


@pytest.mark.parametrize("selection", get_args(Selection))
@pytest.mark.parametrize("qkv", ["shared", "separate"])
def test_the_network_reports_the_rollout_of_its_own_maps(selection: Selection, qkv: str) -> None:
    network = tiny_network(selection=selection, qkv=qkv, **POOLED)
    seen: list[Attended] = []
    for layer in network.encoder.layers:
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


def test_half_precision_maps_give_float32_scores() -> None:
    temporal = torch.rand(1, 2, 3, 5, 5, dtype=torch.float64).softmax(dim=-1).bfloat16()
    attention, carry = layer_flow(temporal, None)
    assert [t.dtype for t in rollout([attention], [carry])] == [torch.float32] * 3
