"""Batches of labeled videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from service.contracts import DecodedVideo
from service.settings import Settings
from service.training import videos_source
from service.training.config import TrainConfig
from service.training.data_source import make_source
from service.training.sources import Examples
from service.training.videos_source import Videos
from service.video.clips import decode_file
from service.video.config import VideoLimits
from testing.videos import quadrants, write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for label in ("one", "two"):
        (folder / label).mkdir()
        for i in range(2):
            write_video(folder / label / f"{i}.mp4", 20, draw=quadrants)
    return folder


def source(folder: Path, **data: object) -> Videos:
    network = {"height": 32, "width": 32, "frames": 4, "patch": 8, "depth": 1, "heads": 1, "dim": 8, "mlp_dim": 8}
    fields = {"kind": "folder", "videos": folder, "folds": 2, "windows": 1, "flip": False, **data}
    config = TrainConfig.model_validate({"network": network, "data": fields, "recipe": {"steps": 1}})
    made = make_source(config, Settings().subset(VideoLimits), folder / "clips")
    assert isinstance(made, Videos)
    return made


def red_share(batch: Examples) -> torch.Tensor:
    """Share of each clip's pixels that belong to the red quarter."""
    red, green, blue = batch.clips.float().unbind(-1)
    return ((red > 150) & (green < 100) & (blue < 100)).float().mean((1, 2, 3))


def test_two_processes_may_decode_the_same_videos_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile: list[Videos] = []

    def while_another_starts_and_ends(*arguments: Any) -> DecodedVideo:
        decoded = decode_file(*arguments)
        with monkeypatch.context() as other:
            other.setattr(videos_source, "decode_file", decode_file)
            meanwhile.append(source(folder, windows=2))
        return decoded

    monkeypatch.setattr(videos_source, "decode_file", while_another_starts_and_ends)
    one = source(folder, windows=2)
    assert meanwhile
    assert one.skipped == meanwhile[0].skipped == []
    assert torch.equal(one.batch(0, 0, 4, 4).clips, meanwhile[0].batch(0, 0, 4, 4).clips)


def test_enlarged_views_have_the_same_size(folder: Path) -> None:
    batch = source(folder, scale=1.5).batch(0, 0, 4, 4)
    assert batch.clips.shape == (4, 4, 32, 32, 3)
    assert batch.clips.dtype == torch.uint8


def test_enlargement_cuts_out_smaller_parts(folder: Path) -> None:
    # The smaller the part, the more unevenly it covers the four quarters.
    plain, larger = (red_share(source(folder, scale=scale).batch(0, 0, 32, 32)) for scale in (1.0, 2.0))
    assert float(larger.std()) > 1.3 * float(plain.std())


def test_a_batch_is_the_same_each_time(folder: Path) -> None:
    one, other = (source(folder, scale=1.25).batch(3, 0, 4, 4).clips for _ in range(2))
    assert torch.equal(one, other)


def test_training_examples_are_not_cropped_by_chance(folder: Path) -> None:
    made = source(folder, scale=1.25)
    one, other = (made.training_examples() for _ in range(2))
    assert len(one) == 2
    assert all(torch.equal(a.clips, b.clips) for a, b in zip(one, other, strict=True))


def test_a_run_for_420_is_trained_and_evaluated_on_pictures_that_came_in_it(folder: Path) -> None:
    network = {"height": 32, "width": 32, "frames": 4, "patch": 8, "depth": 1, "heads": 1, "dim": 8, "mlp_dim": 8}
    config = TrainConfig.model_validate(
        {
            "network": network,
            "data": {"kind": "folder", "videos": folder, "folds": 2, "windows": 1, "flip": False},
            "recipe": {"steps": 1},
            "run": {"clip_format": "yuv420"},
        }
    )
    made = make_source(config, Settings().subset(VideoLimits), folder / "clips")
    in_rgb = source(folder)
    [[sees], [saw]] = [[example.clips for example in one.held_out()][:1] for one in (made, in_rgb)]
    assert sees.shape == saw.shape
    blocks = sees.view(1, 4, 16, 2, 16, 2, 3).float()
    # Of a block in 4:2:0 only the brightness differs: the differences of colors are those of the block.
    colors = blocks[..., 0] - blocks[..., 2]
    inside = (blocks > 20).all(-1).all(3).all(-1) & (blocks < 235).all(-1).all(3).all(-1)
    spread = (colors.amax((3, 5)) - colors.amin((3, 5)))[inside]
    assert len(spread) > 100
    assert float(spread.max()) <= 2
    assert made.batch(0, 0, 4, 4).clips.shape == (4, 4, 32, 32, 3)


def test_a_run_for_420_whose_sizes_are_odd_is_refused(folder: Path) -> None:
    network = {"height": 32, "width": 32, "frames": 4, "patch": 8, "depth": 1, "heads": 1, "dim": 8, "mlp_dim": 8}
    config = TrainConfig.model_validate(
        {
            "network": network,
            "data": {"kind": "folder", "videos": folder, "folds": 2},
            "recipe": {"steps": 1},
            "run": {"clip_format": "yuv420", "resize_short_side": 37},
        }
    )
    with pytest.raises(ValueError, match="clip_format yuv420 needs even sizes, not resize_short_side 37"):
        make_source(config, Settings().subset(VideoLimits), folder / "clips")
