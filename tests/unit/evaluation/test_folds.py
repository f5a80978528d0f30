"""Cross-validation, and the baseline that sees no motion."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from service.evaluation.baseline import frame_average, mean_frames
from service.evaluation.folds import CrossValidation, cross_validate, folds_table
from service.settings import Settings
from service.training.config import TrainConfig
from service.video.config import VideoLimits
from testing.videos import quadrants, write_video


def config(folder: Path, **data: object) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "network": {
                "height": 16, "width": 16, "frames": 4, "patch": 8, "depth": 1, "heads": 2, "dim": 16, "mlp_dim": 16,
            },
            "data": {"kind": "folder", "videos": folder, "folds": 2, "windows": 1, **data},
            "recipe": {"steps": 2, "batch": 4, "warmup": 1},
            "run": {"evaluate_every": 2, "log_every": 1, "accelerator": "cpu"},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> CrossValidation:
    folder = tmp_path_factory.mktemp("folds")
    for i in range(4):
        for label in ("quadrants", "numbers"):
            (folder / "videos" / label).mkdir(parents=True, exist_ok=True)
        write_video(folder / "videos" / "numbers" / f"{i}.mp4", 20)
        write_video(folder / "videos" / "quadrants" / f"{i}.mp4", 20, draw=quadrants)
    lines: list[str] = []
    limits = Settings().subset(VideoLimits)
    result = cross_validate(config(folder / "videos"), folder / "out", limits, 1, lines.append)
    assert len(lines) == 2
    return result


def test_every_video_is_judged_once(found: CrossValidation) -> None:
    assert found.result.targets.sum(0).tolist() == [4, 4]


def test_figures_have_folds_mean_and_deviation(found: CrossValidation) -> None:
    tops = [row["top1"] for row in found.figures["folds"]]
    assert found.figures["top1"]["mean"] == pytest.approx(sum(tops) / 2)
    assert set(found.figures) == {"folds", "top1", "frame_average", "most_frequent", "chance"}


def test_mean_frames_tell_pictures_apart_that_differ(found: CrossValidation) -> None:
    assert found.figures["frame_average"]["mean"] == 1.0


def test_the_table_has_a_row_for_each_fold(found: CrossValidation) -> None:
    page = folds_table(found.figures)
    assert "fold 0" in page
    assert "fold 1" in page


def test_data_with_a_held_out_set_have_no_folds(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without held-out annotations"):
        cross_validate(
            config(tmp_path, held_out_annotations=tmp_path), tmp_path, Settings().subset(VideoLimits), 1, print
        )


def test_a_mean_frame_forgets_the_order() -> None:
    clips = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    torch.testing.assert_close(mean_frames(clips), mean_frames(clips.flip(1)))


def test_the_baseline_learns_what_is_linear_and_nothing_of_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 6, generator=generator)
    linear, noise = (x[:, 0] > 0).long(), torch.randint(0, 2, (200,), generator=generator)
    half = 100
    right = frame_average(x[:half], linear[:half], x[half:], 2) == linear[half:]
    chance = frame_average(x[:half], noise[:half], x[half:], 2) == noise[half:]
    assert right.float().mean() > 0.9
    assert 0.3 < chance.float().mean() < 0.7
