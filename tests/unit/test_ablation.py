"""The ablation of down-sampling: its clips, a run on them, and how often kept frames hold the moment."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.ablation import begun_before, write
from benchmarks.ablation_clips import KeptClips, divided, render_clips
from benchmarks.ablation_run import kept_moments, run
from service.model.config import VidTrConfig
from service.model.factory import build_network
from service.model.preprocess import Normalize
from service.training.camera_motion.camera_moments import MomentsBatch, MomentsConfig
from service.training.config import TrainConfig

SHAPE = MomentsConfig(frames=8, side=16)
GRID: dict[str, Any] = {
    "height": 16,
    "width": 16,
    "frames": 8,
    "patch": 8,
    "depth": 3,
    "heads": 2,
    "dim": 16,
    "mlp_dim": 16,
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bank = torch.randint(0, 256, (14, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    file = tmp_path_factory.mktemp("ablation") / "clips.pt"
    render_clips(file, divided(bank), SHAPE, (40, 18), processes=1)
    return file


def test_no_tile_is_both_trained_on_and_held_out() -> None:
    bank = torch.arange(30, dtype=torch.uint8)
    train, held_out = divided(bank)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(30))
    assert held_out.tolist() == [12, 13, 26, 27]


def test_too_few_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 14 tiles are needed, not 13"):
        divided(torch.zeros(13))


def test_every_clip_is_seen_once_an_epoch_and_in_another_order_with_another_seed(clips: Path) -> None:
    source = KeptClips(clips, torch.device("cpu"))
    levels = [
        torch.cat([source.batch(step, 0, 8, 8).clips for step in steps]).float().mean((1, 2, 3, 4))
        for steps in (range(5), range(5, 10))
    ]
    torch.testing.assert_close(levels[0].sort()[0], levels[1].sort()[0])
    assert not torch.allclose(levels[0], levels[1])
    source.seed = 1
    assert not torch.equal(
        source.batch(0, 0, 8, 8).clips, KeptClips(clips, torch.device("cpu")).batch(0, 0, 8, 8).clips
    )


@pytest.mark.parametrize(("case", "everything", "anything"), [("kept", 1, 1), ("dropped", 0, 0), ("whole", 0, 1)])
def test_moments_are_kept_where_their_telling_frames_survive(case: str, everything: int, anything: int) -> None:
    torch.manual_seed(0)
    network = build_network(VidTrConfig(**GRID, classes=9, pooling=((1, 4), (2, 2)))).eval()
    pixels = torch.randint(0, 256, (12, 8, 16, 16, 3), dtype=torch.uint8)
    with torch.inference_mode():
        survived = network(Normalize()(pixels)).layer_retention[:, -1] > 0.5
    telling = {"kept": survived, "dropped": ~survived, "whole": torch.ones_like(survived)}[case]
    found = kept_moments(network, MomentsBatch(pixels, torch.zeros(12), torch.zeros(12), telling), batch=5)
    assert found is not None
    assert (found["all"], found["any"]) == (everything, anything)


@pytest.mark.parametrize(("telling", "chance"), [(1, 2 / 8), (2, 1 / 28)])
def test_chance_is_that_of_frames_dropped_at_random(telling: int, chance: float) -> None:
    network = build_network(VidTrConfig(**GRID, classes=9, pooling=((1, 4), (2, 2))))
    marks = torch.arange(8).expand(3, 8) < telling
    pixels = torch.zeros(3, 8, 16, 16, 3, dtype=torch.uint8)
    found = kept_moments(network, MomentsBatch(pixels, torch.zeros(3), torch.zeros(3), marks), batch=5)
    assert found is not None
    assert found["all_by_chance"] == pytest.approx(chance)


def test_a_run_tells_its_figures_unless_it_would_begin_too_late(clips: Path, tmp_path: Path) -> None:
    data = {"kind": "camera_moments", "pictures": "a", "held_out_pictures": "b"}
    network = {**GRID, "pooling": [[1, 4], [2, 2]]}
    recipe = {"steps": 2, "batch": 8}
    config = TrainConfig.model_validate(
        {"network": network, "data": data, "recipe": recipe, "run": {"accelerator": "cpu", "evaluate_every": 2}}
    )
    assert run(config, clips, tmp_path / "late", time.monotonic() - 1) is None
    found = run(config, clips, tmp_path / "run", time.monotonic() + 600)
    assert found is not None
    assert found["top1"] == pytest.approx(sum(found["accuracy"].values()) / 9)
    assert 0 <= found["kept"]["all"] <= found["kept"]["any"] <= 1


@pytest.mark.slow
def test_kept_clips_are_trained_on_without_a_decoder_or_a_server() -> None:
    script = "import sys, benchmarks.ablation; print(*{name.partition('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"av", "cv2", "redis", "fastapi", "tritonclient"} & set(found)


def arguments_of(file: Path) -> argparse.Namespace:
    return argparse.Namespace(json=file, steps=3, device="cpu")


def moments_config() -> TrainConfig:
    data = {"kind": "camera_moments", "pictures": "a", "held_out_pictures": "b"}
    return TrainConfig.model_validate({"network": GRID, "data": data, "recipe": {"steps": 9, "batch": 8}})


def test_a_later_sitting_goes_on_with_the_results_of_an_earlier_one(tmp_path: Path) -> None:
    arguments = arguments_of(tmp_path / "results.json")
    begun = begun_before(arguments, moments_config(), {"VidTr": {}})
    begun["ways"]["VidTr"]["runs"].append({"seed": 0, "top1": 0.5})
    write(arguments.json, begun)
    assert begun_before(arguments, moments_config(), {"VidTr": {}}) == begun


@pytest.mark.parametrize("change", [{"steps": 4}, {"ways": {}}])
def test_results_of_other_runs_are_not_gone_on_with(change: dict[str, Any], tmp_path: Path) -> None:
    arguments = arguments_of(tmp_path / "results.json")
    write(arguments.json, begun_before(arguments, moments_config(), {"VidTr": {}}) | change)
    with pytest.raises(ValueError, match="is of other runs"):
        begun_before(arguments, moments_config(), {"VidTr": {}})
