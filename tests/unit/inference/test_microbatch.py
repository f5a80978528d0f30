"""Batches in passes of bounded size."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from service.inference.microbatch import microbatch

CLIP_BYTES = 2 * 4 * 4 * 3


class Recorder:
    """A forward that tells clips apart and notes how many it got at once."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        self.batches.append(len(clips))
        total = clips.flatten(1).sum(dim=1).float()
        return total, torch.stack([total, -total], dim=1)


def clips_of(batch: int) -> Tensor:
    return torch.randint(0, 256, (batch, 2, 4, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(batch))


@pytest.mark.parametrize(
    ("batch", "limit", "batches"),
    [
        (1, 3 * CLIP_BYTES, [1]),
        (3, 3 * CLIP_BYTES, [3]),
        (4, 3 * CLIP_BYTES, [2, 2]),
        (8, 3 * CLIP_BYTES, [3, 3, 2]),
        (4, 7 * CLIP_BYTES // 3, [2, 2]),
        (32, 15 * CLIP_BYTES // 7, 16 * [2]),
        (2, CLIP_BYTES - 1, [1, 1]),
        (0, CLIP_BYTES, [0]),
    ],
)
def test_no_pass_is_larger_than_the_limit_and_all_are_alike(batch: int, limit: int, batches: Sequence[int]) -> None:
    recorder = Recorder()
    microbatch(recorder, limit)(clips_of(batch))
    assert recorder.batches == batches


def test_the_scores_of_all_passes_come_in_the_order_of_the_clips() -> None:
    clips = clips_of(7)
    together = Recorder()(clips)
    apart = microbatch(Recorder(), 2 * CLIP_BYTES)(clips)
    assert len(apart) == 2
    for ours, theirs in zip(apart, together, strict=True):
        assert torch.equal(ours, theirs)


def test_a_clip_in_420_counts_as_the_one_in_rgb_that_the_network_sees() -> None:
    recorder = Recorder()
    microbatch(recorder, 2 * CLIP_BYTES)(torch.zeros(4, 2, 6, 4, 1, dtype=torch.uint8))
    assert recorder.batches == [2, 2]
