"""Generated clips: the content moves as the class says, symmetries agree with what is generated, seeds repeat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.training.camera_motion.degrade import encoded
from service.training.camera_motion.generator import Batch, CameraMotion, GeneratorConfig
from service.training.camera_motion.symmetry import FLIPPED, MIRRORED, REVERSED, TRANSPOSED
from service.training.camera_motion.textures import colored_noise, dead_leaves, glyphs, shows_motion, texture_bank
from service.training.camera_motion.trajectories import INDEX, Speeds, sample_paths


@pytest.fixture(scope="module")
def bank() -> Tensor:
    return texture_bank([], tiles_each=1, procedural=10, side=192, seed=3)


def clips_of(label: str, bank: Tensor, count: int = 8, *, degradation: bool = False, seed: int = 1) -> Batch:
    camera = CameraMotion(bank, GeneratorConfig(degradation=degradation), seed)
    return camera.batch(torch.full((count,), INDEX[label]))


def mean_flow(clips: Tensor) -> tuple[float, float, float, float]:
    """Mean motion of the content between neighboring frames, by least squares on the brightness gradient.

    Pixels right and down, and per pixel of distance from the middle: growth and clockwise turn.
    """
    gray = clips.double().mean(-1)
    gray = torch.nn.functional.avg_pool2d(gray, 5, stride=1)
    middle = (gray[:, 1:] + gray[:, :-1]) / 2
    gy, gx = torch.gradient(middle, dim=(2, 3))
    gt = gray[:, 1:] - gray[:, :-1]
    n = gray.size(-1)
    line = torch.arange(n).double() - (n - 1) / 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    rows = torch.stack([gx, gy, gx * x + gy * y, gy * x - gx * y], -1).reshape(-1, 4)
    solved = torch.linalg.lstsq(rows, -gt.reshape(-1, 1)).solution.flatten()
    right, down, growth, turn = solved.tolist()
    return right, down, growth, turn


@pytest.mark.parametrize(
    ("label", "component", "sign"),
    [
        ("pan_left", 0, 1),
        ("pan_right", 0, -1),
        ("tilt_up", 1, 1),
        ("tilt_down", 1, -1),
        ("zoom_in", 2, 1),
        ("zoom_out", 2, -1),
        ("roll_cw", 3, -1),
        ("roll_ccw", 3, 1),
    ],
)
def test_the_content_moves_against_the_camera(label: str, component: int, sign: int, bank: Tensor) -> None:
    slow = Speeds(translation=(0.015, 0.02), zoom=(0.02, 0.03), roll=(0.02, 0.03))
    camera = CameraMotion(bank, GeneratorConfig(degradation=False, speeds=slow), 5)
    clips = camera.batch(torch.full((24,), INDEX[label])).clips
    flow = mean_flow(clips)
    scaled = (flow[0], flow[1], flow[2] * 24, flow[3] * 24)
    assert np.sign(scaled[component]) == sign
    assert abs(scaled[component]) == max(map(abs, scaled))


def test_a_static_clip_without_degradation_is_nearly_still(bank: Tensor) -> None:
    right, down, growth, turn = mean_flow(clips_of("static", bank, 16).clips)
    assert max(abs(right), abs(down), abs(growth * 24), abs(turn * 24)) < 0.08


def test_a_cut_lies_where_it_is_said_to_be(bank: Tensor) -> None:
    batch = clips_of("cut", bank, 24)
    change = batch.clips.float().diff(dim=1).abs().mean((2, 3, 4))
    assert float((change.argmax(1) == batch.cut).float().mean()) > 0.9


def test_cuts_are_spread_over_all_positions() -> None:
    paths = sample_paths(torch.full((500,), INDEX["cut"]), 8, Speeds(), torch.Generator().manual_seed(0))
    assert torch.bincount(paths.cut, minlength=7).min() > 40


def test_only_cuts_have_a_cut(bank: Tensor) -> None:
    camera = CameraMotion(bank, GeneratorConfig(), 1)
    batch = camera.batch(torch.arange(12))
    assert torch.equal(batch.cut >= 0, batch.labels == INDEX["cut"])


def test_a_fade_changes_most_of_the_light() -> None:
    paths = sample_paths(torch.full((200,), INDEX["fade"]), 8, Speeds(), torch.Generator().manual_seed(0))
    assert (paths.light.amax(1) - paths.light.amin(1)).min() > 0.45


def test_equal_seeds_give_equal_clips(bank: Tensor) -> None:
    assert torch.equal(clips_of("shake", bank, degradation=True).clips, clips_of("shake", bank, degradation=True).clips)


def test_another_seed_gives_other_clips(bank: Tensor) -> None:
    one, other = clips_of("pan_left", bank, seed=1).clips, clips_of("pan_left", bank, seed=2).clips
    assert not torch.equal(one, other)


@pytest.mark.parametrize("table", [MIRRORED, FLIPPED, TRANSPOSED, REVERSED])
def test_a_symmetry_applied_twice_is_none(table: Tensor) -> None:
    assert torch.equal(table[table], torch.arange(len(LABELS)))


@pytest.mark.parametrize("label", ["pan_left", "tilt_up", "zoom_in", "roll_cw"])
@pytest.mark.parametrize(
    ("table", "change"),
    [
        (MIRRORED, lambda clips: clips.flip(3)),
        (FLIPPED, lambda clips: clips.flip(2)),
        (TRANSPOSED, lambda clips: clips.transpose(2, 3)),
        (REVERSED, lambda clips: clips.flip(1)),
    ],
    ids=["mirrored", "flipped", "transposed", "reversed"],
)
def test_a_changed_clip_moves_as_its_new_class_says(
    label: str, table: Tensor, change: Callable[[Tensor], Tensor], bank: Tensor
) -> None:
    slow = Speeds(translation=(0.015, 0.02), zoom=(0.02, 0.03), roll=(0.02, 0.03))

    def flow_of(wanted: str) -> np.ndarray:
        camera = CameraMotion(bank, GeneratorConfig(degradation=False, speeds=slow), 5)
        return np.array(mean_flow(camera.batch(torch.full((24,), INDEX[wanted])).clips)) * [1, 1, 24, 24]

    camera = CameraMotion(bank, GeneratorConfig(degradation=False, speeds=slow), 5)
    changed = np.array(mean_flow(change(camera.batch(torch.full((24,), INDEX[label])).clips))) * [1, 1, 24, 24]
    expected = flow_of(LABELS[int(table[INDEX[label]])])
    strongest = int(np.abs(expected).argmax())
    assert int(np.abs(changed).argmax()) == strongest
    assert np.sign(changed[strongest]) == np.sign(expected[strongest])


def test_the_codec_keeps_the_picture_and_changes_its_pixels(bank: Tensor) -> None:
    clips = clips_of("pan_left", bank, 6).clips.permute(0, 4, 1, 2, 3).float() / 255
    back = encoded(clips, torch.Generator().manual_seed(0))
    difference = (back - clips).abs().mean()
    assert back.shape == clips.shape
    assert 0.0005 < difference < 0.1


@pytest.mark.parametrize("make", [dead_leaves, colored_noise, glyphs])
def test_procedural_textures_show_motion(make: Callable[[int, np.random.Generator], np.ndarray]) -> None:
    tile = torch.from_numpy(make(192, np.random.default_rng(1))).permute(2, 0, 1)
    assert shows_motion(tile, share=0.4)


def test_a_gradient_does_not_show_motion() -> None:
    ramp = torch.linspace(60, 130, 192).byte().expand(3, 192, 192)
    assert not shows_motion(ramp)
