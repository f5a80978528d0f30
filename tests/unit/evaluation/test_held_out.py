"""Generated clips to evaluate on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from service.evaluation.held_out import HeldOutMotion
from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.training.config import GeneratedData


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> HeldOutMotion:
    folder: Path = tmp_path_factory.mktemp("none")
    data = GeneratedData(kind="camera_motion", pictures=folder, held_out_pictures=folder, procedural=32)
    return HeldOutMotion(data, 8, 16, 0)


def test_every_class_has_as_many_clips(made: HeldOutMotion) -> None:
    clips, labels, cut = made.clips(2)
    assert clips.shape == (2 * len(LABELS), 8, 16, 16, 3)
    assert torch.bincount(labels).tolist() == [2] * len(LABELS)
    assert bool(((cut >= 0) == (labels == LABELS.index("cut"))).all())


def test_more_clips_begin_with_the_same(made: HeldOutMotion) -> None:
    assert torch.equal(made.clips(2)[0][: len(LABELS)], made.clips(1)[0])


def test_cuts_are_at_every_position(made: HeldOutMotion) -> None:
    _, cut = made.cuts(3)
    assert torch.bincount(cut).tolist() == [3] * 7
