"""Generated moments as a source of batches, and the configuration that trains on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from service.settings import Settings
from service.training.camera_motion.camera_moments import MOMENT_LABELS
from service.training.config import MomentsData, read_config
from service.training.data_source import make_source
from service.training.moments_source import GeneratedMoments
from service.training.start import make_network
from service.video.config import VideoLimits

CONFIG = Path(__file__).parents[3] / "configs" / "camera_moments.toml"


def source(folder: Path, **fields: Any) -> GeneratedMoments:
    data = MomentsData(
        kind="camera_moments", pictures=folder, held_out_pictures=folder, procedural=16, evaluation_clips=18, **fields
    )
    return GeneratedMoments(data, 8, 16, seed=1)


def test_parts_are_the_whole_batch_and_a_round_shows_the_same_clips_otherwise(tmp_path: Path) -> None:
    moments = source(tmp_path, reuse=2)
    whole = moments.batch(4, 0, 16, 16)
    parts = [source(tmp_path, reuse=2).batch(4, first, first + 8, 16) for first in (0, 8)]
    for ours, theirs in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(ours, torch.cat(theirs))
    same, other = moments.batch(5, 0, 16, 16), moments.batch(6, 0, 16, 16)
    levels = [clips.float().mean((1, 2, 3, 4)) for clips in (whole.clips, same.clips, other.clips)]
    torch.testing.assert_close(levels[0], levels[1])
    assert not torch.equal(whole.clips, same.clips)
    assert not torch.allclose(levels[0], levels[2])


def test_a_part_that_is_no_whole_grain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"multiples of 8, not 0 \.\. 4"):
        source(tmp_path).batch(0, 0, 4, 8)


def test_as_many_clips_of_each_class_are_held_out(tmp_path: Path) -> None:
    targets = torch.cat([examples.targets for examples in source(tmp_path).held_out()])
    assert targets.sum(0).tolist() == [2.0] * len(MOMENT_LABELS)


def test_the_shipped_configuration_trains_on_moments(tmp_path: Path) -> None:
    folders = [f'data.{name} = "{tmp_path}"' for name in ("pictures", "held_out_pictures")]
    config = read_config(CONFIG, [*folders, "data.procedural = 16"])
    made = make_source(config, Settings().subset(VideoLimits), tmp_path)
    assert isinstance(made, GeneratedMoments)
    network = make_network(config, len(made.labels))
    clips = made.batch(0, 0, 8, 8).clips
    assert clips.shape == (8, network.config.frames, network.config.height, network.config.width, 3)
