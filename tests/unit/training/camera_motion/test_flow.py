"""The camera's motion as a target: it is the motion that the pictures show, and the network learns to tell it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from service.model.config import SequenceConfig, VidTrConfig
from service.model.factory import build_network
from service.model.layers import EncoderLayer
from service.model.vidtr import VidTr
from service.training.camera_motion.flow import UNIT, CameraFlowReader, flow_loss
from service.training.camera_motion.generator import Batch, CameraMotion, GeneratorConfig
from service.training.camera_motion.initialize import initialize_for_motion
from service.training.camera_motion.symmetry import randomly_transformed
from service.training.camera_motion.textures import dead_leaves
from service.training.camera_motion.trajectories import INDEX, turned, turned_back

SIDE, CELLS, FRAMES = 48, 6, 8


@pytest.fixture(scope="module")
def camera() -> CameraMotion:
    tiles = [torch.from_numpy(dead_leaves(4 * SIDE, np.random.default_rng(seed))).permute(2, 0, 1) for seed in range(4)]
    return CameraMotion(torch.stack(tiles), GeneratorConfig(side=SIDE, cells=CELLS, degradation=False), seed=3)


def moved_error(batch: Batch, sign: float) -> float:
    """Mean difference between each frame and the next one, fetched along `sign` times the flow."""
    clips = batch.clips.float().mean(-1)  # (B, T, n, n)
    flow = batch.flow[:, :-1, ..., :2].flatten(0, 1).permute(0, 3, 1, 2)
    flow = sign * F.interpolate(flow, size=(SIDE, SIDE), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    line = (torch.arange(SIDE).float() + 0.5) / SIDE * 2 - 1
    here = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    fetched = F.grid_sample(clips[:, 1:].flatten(0, 1)[:, None], here + 2 * flow, align_corners=False)
    inner = slice(8, -8)
    return float((fetched[:, 0] - clips[:, :-1].flatten(0, 1))[:, inner, inner].abs().mean())


def directed(camera: CameraMotion) -> Batch:
    return camera.batch(torch.arange(1, 9).repeat(3), 0.0)


def test_places_in_the_frame_and_in_the_scene_are_each_others_inverse() -> None:
    place, log_view, angle = torch.randn(5, 2), torch.randn(5), torch.randn(5)
    torch.testing.assert_close(turned_back(turned(place, log_view, angle), log_view, angle), place)


def test_the_next_frame_fetched_along_the_flow_is_this_one(camera: CameraMotion) -> None:
    batch = directed(camera)
    assert moved_error(batch, 1.0) < 0.35 * moved_error(batch, 0.0)


def test_symmetries_turn_the_flow_as_they_turn_the_picture(camera: CameraMotion) -> None:
    batch = randomly_transformed(directed(camera), torch.Generator().manual_seed(1))
    assert moved_error(batch, 1.0) < 0.35 * moved_error(batch, 0.0)


def test_flow_to_the_frame_before_is_known_from_the_second_frame_on(camera: CameraMotion) -> None:
    flow = directed(camera).flow
    assert bool(flow[:, 0, ..., 2:].isnan().all())
    assert bool(flow[:, 1:, ..., 2:].isfinite().all())
    assert bool(flow[:, -1, ..., :2].isnan().all())


def test_no_flow_crosses_a_cut(camera: CameraMotion) -> None:
    batch = camera.batch(torch.full((6,), INDEX["cut"]), 0.0)
    for flow, cut in zip(batch.flow, batch.cut.tolist(), strict=True):
        assert bool(flow[cut, ..., :2].isnan().all())
        assert bool(flow[cut + 1, ..., 2:].isnan().all())
        assert bool(flow[:cut, ..., :2].isfinite().all())


def network(pooling: tuple[tuple[int, int], ...] = ((1, 4),)) -> VidTr:
    config = VidTrConfig(
        height=16, width=16, frames=FRAMES, patch=8, depth=2, heads=2, dim=16, mlp_dim=32, classes=3, pooling=pooling
    )
    return VidTr(config)


def test_reading_changes_no_score() -> None:
    clips, plain = torch.randn(2, 3, FRAMES, 16, 16), network()
    before = plain(clips)
    read = CameraFlowReader(plain)(clips)
    assert torch.equal(read.scores.logits, before.logits)
    assert [flow.shape for flow in read.flows] == [(2, FRAMES, 4, 4)]


def test_a_network_that_pools_at_once_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="a layer before the first that pools"):
        CameraFlowReader(network(((0, 4),)))


def test_unknown_flow_asks_for_nothing() -> None:
    target = torch.full((1, 2, 2, 2, 4), math.nan)
    target[0, 0, 0, 0] = UNIT
    flow = torch.zeros(1, 2, 4, 4, requires_grad=True)
    loss = flow_loss([flow], target)
    loss.backward()
    assert flow.grad is not None
    assert int((flow.grad != 0).sum()) == 4
    assert loss.item() == pytest.approx(0.75)


def _grating(direction: float) -> Tensor:
    x = torch.arange(48.0).expand(48, 48)
    time = torch.arange(float(FRAMES))[:, None, None]
    return torch.cos(2 * math.pi * (0.9 / 8 * x - direction * time / 4)).expand(1, 3, FRAMES, 48, 48)


_START: dict[str, Any] = {
    "height": 48,
    "width": 48,
    "frames": FRAMES,
    "patch": 8,
    "depth": 2,
    "heads": 8,
    "dim": 128,
    "mlp_dim": 384,
    "classes": 3,
}


@pytest.mark.parametrize(
    "config",
    [VidTrConfig(**_START, qkv="separate"), SequenceConfig(**_START, activation="gelu")],
    ids=["grid", "vanilla"],
)
def test_the_start_for_motion_tells_the_direction_of_a_wave_before_any_training(
    config: VidTrConfig | SequenceConfig,
) -> None:
    plain = build_network(config)
    initialize_for_motion(plain, 0)
    layer = plain.encoder.layers[0]
    hidden: list[Tensor] = []
    assert isinstance(layer, EncoderLayer)
    # The patches of the frames that have neighbors on both sides.
    layer.linear1.register_forward_hook(
        lambda module, given, result: hidden.append(
            result[0, 2:-1, 1:] if isinstance(config, VidTrConfig) else result[0, 1:].view(FRAMES, 36, -1)[1:-1]
        )
    )
    with torch.no_grad():
        for direction in (1.0, -1.0):
            plain(_grating(direction))
    # Of 288 units the first are for waves that move to the right, those of the second half for waves to the left.
    right, left = slice(0, 24), slice(144, 168)
    towards_right, towards_left = (units.relu().square() for units in hidden)
    assert float(towards_right[..., right].mean()) > 3 * float(towards_right[..., left].mean())
    assert float(towards_left[..., left].mean()) > 3 * float(towards_left[..., right].mean())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SequenceConfig(**_START, separable_layers=1), "not for separable layers before joint ones"),
        (VidTrConfig(**_START), "separate projections and both class tokens"),
        (VidTrConfig(**_START | {"heads": 4}, qkv="separate"), "8 heads and dim 128, not for 4 and 128"),
        (VidTrConfig(**_START | {"mlp_dim": 128}, qkv="separate"), "mlp_dim >= 288, not 128"),
    ],
)
def test_the_start_for_motion_refuses_other_forms(config: VidTrConfig | SequenceConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        initialize_for_motion(build_network(config), 0)
