"""The 30-view test of the paper, from video frames to a score, on the authors' numbers."""

import numpy as np
import pytest
import torch
from torch import Tensor

from service.aggregate import probabilities
from service.crop_geometry import crop_corners
from service.model.preprocess import Normalize
from service.video.windows import index_clip, index_starts
from testing.factories import spec
from tests.unit.model.golden import Golden, build, named


@pytest.fixture
def views() -> Golden:
    return named("views30")


def frame_indices(views: Golden) -> list[list[int]]:
    frames, segments, stride = len(views.tensors["video_uint8"]), views.meta["segments"], views.meta["stride"]
    starts = index_starts(frames, 8 * stride, segments)
    return [index_clip(start, frames, stride, 8) for start in starts]


def clips(views: Golden) -> Tensor:
    """All views, normalized `(30, 3, T, H, W)`, crop after crop."""
    video, size = views.tensors["video_uint8"], views.meta["crop_size"]
    model = spec(height=size, width=size, resize_short_side=size).clip
    corners = crop_corners(video.size(2), video.size(1), model, views.meta["crops"])
    cut = [
        video[torch.tensor(indices), top : top + size, left : left + size]
        for left, top in corners
        for indices in frame_indices(views)
    ]
    normalized: Tensor = Normalize()(torch.stack(cut))
    return normalized


def view_logits(views: Golden) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = build(named(views.meta["model"]))(clips(views)).logits
    return logits


def test_the_golden_frames_are_sampled(views: Golden) -> None:
    assert frame_indices(views) == views.tensors["frame_idx"].tolist()


def test_the_first_golden_view_is_cut_and_normalized(views: Golden) -> None:
    torch.testing.assert_close(clips(views)[0], views.tensors["first_view_input"], atol=1e-5, rtol=0)


def test_the_golden_logits_of_all_views_are_reproduced(views: Golden) -> None:
    torch.testing.assert_close(view_logits(views), views.tensors["view_logits"], atol=2e-5, rtol=0)


def test_the_golden_score_is_the_mean_over_views_of_softmax(views: Golden) -> None:
    scores = probabilities(view_logits(views).double().numpy(), "softmax").mean(axis=0)
    np.testing.assert_allclose(scores, views.tensors["prob"][0].numpy(), atol=1e-5, rtol=0)
    assert abs(scores - views.tensors["prob_if_mean_logits"][0].numpy()).max() > 1e-3
