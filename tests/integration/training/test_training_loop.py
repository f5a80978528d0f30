"""The training loop: it learns, resumes as if never stopped, and accumulates as if it had not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from service.training.config import TrainConfig
from service.training.sources import Examples, generator_for
from service.training.start import make_network
from service.training.training_loop import train
from tests.fixtures.extras import TRAINING

pytestmark = TRAINING


class Blobs:
    """Clips whose brightness tells the class: easy, and the same for every way to run."""

    labels = ("dark", "bright", "red")
    multi_label = False

    def batch(self, step: int, first: int, last: int, size: int) -> Examples:
        clips, targets = [], []
        for position in range(first, last):
            draw = generator_for(5, step, position)
            label = int(torch.randint(0, 3, (), generator=draw))
            clip = torch.randint(0, 80, (4, 16, 16, 3), generator=draw)
            clip += torch.tensor([[0, 0, 0], [160, 160, 160], [160, 0, 0]])[label]
            clips.append(clip.byte())
            targets.append(F.one_hot(torch.tensor(label), 3).float())
        return Examples(torch.stack(clips), torch.stack(targets), torch.full((len(clips),), -1))

    def held_out(self) -> list[Examples]:
        return [self.batch(10_000 + i, 0, 8, 8) for i in range(4)]


def config(*, steps: int = 6, run: dict[str, Any] | None = None, **recipe: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "network": {
                "height": 16, "width": 16, "frames": 4, "patch": 8, "depth": 2, "heads": 2, "dim": 16, "mlp_dim": 32,
                "pooling": [[0, 2]], "dropout": 0.1,
            },
            "data": {"kind": "folder", "videos": "unused"},
            "recipe": {"steps": steps, "batch": 8, "warmup": 2, "learning_rate": 3e-3, **recipe},
            "run": {"evaluate_every": 3, "log_every": 1, "accelerator": "cpu", **(run or {})},
        }
    )  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for k, v in load_file(folder / "last.safetensors").items() if k.startswith("network.")}


def test_easy_classes_are_learnt(tmp_path: Path) -> None:
    settings = config(steps=60, ema=0.9)
    train(make_network(settings, 3), Blobs(), settings, tmp_path)
    rows = [line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert float([value for _, figure, value in rows if figure == "top1"][-1]) > 0.9


@pytest.mark.parametrize("name", ["modern", "paper"])
def test_a_resumed_run_ends_with_the_same_loss_and_weights(name: str, tmp_path: Path) -> None:
    settings = config(name=name, ema=0.9, clip_norm=1.0)
    whole = train(make_network(settings, 3), Blobs(), settings, tmp_path / "whole")
    # Two steps beyond the checkpoint are lost, as in a kill.
    train(make_network(settings, 3), Blobs(), settings, tmp_path / "cut", stop_after=5)
    resumed = train(make_network(settings, 3), Blobs(), settings, tmp_path / "cut")
    assert resumed == whole
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_log_of_a_resumed_run_repeats_no_step(tmp_path: Path) -> None:
    settings = config()
    train(make_network(settings, 3), Blobs(), settings, tmp_path, stop_after=5)
    train(make_network(settings, 3), Blobs(), settings, tmp_path)
    rows = [line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert [int(step) for step, figure, _ in rows if figure == "loss"] == [1, 2, 3, 4, 5, 6]


def test_accumulated_parts_make_the_same_step(tmp_path: Path) -> None:
    losses = []
    for parts in (1, 4):
        settings = config(accumulate=parts)
        settings.network["dropout"] = 0.0
        losses.append(train(make_network(settings, 3), Blobs(), settings, tmp_path / str(parts)))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_recomputed_activations_change_nothing(tmp_path: Path) -> None:
    losses = []
    for checkpointing in (False, True):
        settings = config(run={"checkpointing": checkpointing})
        losses.append(train(make_network(settings, 3), Blobs(), settings, tmp_path / str(checkpointing)))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_a_run_in_bfloat16_goes_through(tmp_path: Path) -> None:
    settings = config(run={"precision": "bf16-mixed"})
    assert train(make_network(settings, 3), Blobs(), settings, tmp_path) < 2.0


def test_mixup_goes_through(tmp_path: Path) -> None:
    settings = config(mixup=0.4, label_smoothing=0.1)
    assert train(make_network(settings, 3), Blobs(), settings, tmp_path) < 3.0


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    settings = config(accumulate=3)
    with pytest.raises(ValueError, match=r"batch \(8\) must be a multiple of processes x accumulate \(3\)"):
        train(make_network(settings, 3), Blobs(), settings, tmp_path)


class Moving(Blobs):
    """The same with a motion that is known: brighter clips move faster."""

    def batch(self, step: int, first: int, last: int, size: int) -> Examples:
        examples = super().batch(step, first, last, size)
        speed = examples.targets.argmax(1).float().view(-1, 1, 1, 1, 1) * 0.04
        return examples._replace(flow=speed.expand(-1, 4, 2, 2, 4))


def test_motion_that_is_read_from_tokens_is_part_of_the_loss_and_survives_a_kill(tmp_path: Path) -> None:
    settings = config(camera_flow=1.0, steps=6)
    settings.network["pooling"] = [[1, 2]]
    whole = train(make_network(settings, 3), Moving(), settings, tmp_path / "whole")
    train(make_network(settings, 3), Moving(), settings, tmp_path / "cut", stop_after=5)
    assert train(make_network(settings, 3), Moving(), settings, tmp_path / "cut") == whole
    settings = config(camera_flow=0.0, steps=6)
    settings.network["pooling"] = [[1, 2]]
    assert train(make_network(settings, 3), Moving(), settings, tmp_path / "plain") < whole
    assert not any("readers" in key for key in load_file(tmp_path / "whole" / "best.safetensors"))
