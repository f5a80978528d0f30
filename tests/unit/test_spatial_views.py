"""What an answer says of where the model looked."""

from __future__ import annotations

from typing import Any

import pytest

from service.aggregate import aggregate, window_result
from service.contracts import ClipScores, JobRequest, Region
from service.errors import InvalidOption
from service.spatial_views import check_spatial
from testing.factories import decoded, record, scores, spec

SPATIAL = JobRequest(attention="spatial")
GRID: dict[str, Any] = {"spatial_grid": (2, 3)}


def looked(first: float = 0.01, **changes: Any) -> ClipScores:
    """Scores of a clip of four frames; cell number n of all has `first` and n thousandths."""
    return scores(spatial_attention=tuple(first + n / 1000 for n in range(24)), **changes)


def test_each_frame_has_its_grid_row_by_row() -> None:
    [window] = aggregate(record(request=SPATIAL), spec(**GRID), [looked()], 0.0).windows
    assert window.spatial_attention is not None
    [view] = window.spatial_attention
    assert len(view.frames) == 4
    assert view.frames[1] == ((0.016, 0.017, 0.018), (0.019, 0.02, 0.021))


def test_a_frame_that_was_dropped_before_the_last_layer_has_none() -> None:
    kept = ((1.0, 0.0, 0.25, 1.0), (0.0, 0.0, 0.0, 1.0))
    [window] = aggregate(record(request=SPATIAL), spec(**GRID), [looked(layer_retention=kept)], 0.0).windows
    assert window.spatial_attention is not None
    # The last layer reads once more what it drops.
    assert [grid is None for grid in window.spatial_attention[0].frames] == [False, True, False, False]


def test_of_a_single_layer_every_frame_has_a_grid() -> None:
    one = looked(layer_attention=((0.25,) * 4,), layer_retention=((0.0, 0.0, 0.0, 1.0),))
    [window] = aggregate(record(request=SPATIAL), spec(layers=1, **GRID), [one], 0.0).windows
    assert window.spatial_attention is not None
    assert None not in window.spatial_attention[0].frames


def test_numbers_have_five_digits() -> None:
    [window] = aggregate(record(request=SPATIAL), spec(**GRID), [looked(0.123456789)], 0.0).windows
    assert window.spatial_attention is not None
    grid = window.spatial_attention[0].frames[0]
    assert grid is not None
    assert grid[0] == (0.12346, 0.12446, 0.12546)


def test_each_crop_has_a_view_with_its_region() -> None:
    job = record(request=SPATIAL, decoded=decoded(windows=2, crops=3))
    clips = [looked(float(number)) for number in range(6)]
    _, second = aggregate(job, spec(**GRID), clips, 0.0).windows
    assert second.spatial_attention is not None
    # Of 64 x 48 pixels, 10 x 8 after resizing, the network sees 8 x 8.
    assert [view.region for view in second.spatial_attention] == [
        Region(left=left, top=0.0, width=0.8, height=1.0) for left in (0.0, 0.2, 0.1)
    ]
    firsts = [view.frames[0][0][0] for view in second.spatial_attention if view.frames[0] is not None]
    assert firsts == [3.0, 4.0, 5.0]


def test_a_window_by_itself_has_the_views_of_the_whole_answer() -> None:
    job = record(request=SPATIAL, decoded=decoded(windows=2))
    clips = [looked(0.1), looked(0.2)]
    whole = aggregate(job, spec(**GRID), clips, 0.0)
    assert window_result(spec(**GRID), SPATIAL, job.decoded, 1, clips[1:]) == whole.windows[1]


@pytest.mark.parametrize("detail", ["none", "frames", "layers"])
def test_it_is_left_out_unless_it_is_asked_for(detail: Any) -> None:
    [window] = aggregate(record(request=JobRequest(attention=detail)), spec(**GRID), [looked()], 0.0).windows
    assert window.spatial_attention is None


def test_it_comes_with_all_that_layers_say() -> None:
    answers = [
        aggregate(record(request=JobRequest(attention=detail)), spec(**GRID), [looked()], 0.0).windows[0].attention
        for detail in ("layers", "spatial")
    ]
    assert answers[0] is not None
    assert answers[0] == answers[1]


def test_a_model_that_does_not_give_it_is_refused_by_name() -> None:
    with pytest.raises(InvalidOption, match="must not be `spatial` for model 'tiny' in version 1") as refused:
        check_spatial(spec(), SPATIAL)
    assert refused.value.actual == "spatial"
    check_spatial(spec(**GRID), SPATIAL)
    check_spatial(spec(), JobRequest(attention="layers"))


def test_cells_are_those_of_all_frames() -> None:
    assert (spec(**GRID).spatial_cells, spec().spatial_cells) == (4 * 6, 0)
