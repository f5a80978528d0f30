from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contracts import JobRequest
from service.errors import InvalidOption, TooManyClips
from service.video.windows import Window, coverage, index_clip, index_starts, plan_windows, wanted_until_s
from tests.unit.video.common import LIMITS, SHARED, limits, spec

SPAN = 8 * 4 / 30


def plan(duration: float, request: JobRequest | None = None, **changes: int) -> list[Window]:
    return plan_windows(duration, [], 1 / 30, spec(), request or JobRequest(), limits(**changes))


def starts(windows: list[Window]) -> list[float]:
    return [window.start_s for window in windows]


def test_auto_windows_are_as_many_as_spans_fit_begun() -> None:
    assert len(plan(3.5 * SPAN)) == 4


@pytest.mark.parametrize(
    ("request_", "until_s"),
    [
        (JobRequest(windows=1), SPAN),
        (JobRequest(windows=1, start=3), 3 + SPAN),
        (JobRequest(windows=2), None),
        (JobRequest(), None),
    ],
)
def test_what_one_window_needs_of_a_video_is_known_before_its_length(
    request_: JobRequest, until_s: float | None
) -> None:
    assert wanted_until_s(spec(), request_) == pytest.approx(until_s)
    if until_s is not None:
        assert max(plan(60.0, request_)[0].wanted_s) <= until_s


def test_auto_windows_stop_at_their_limit() -> None:
    assert len(plan(100 * SPAN, max_auto_windows=7)) == 7


def test_a_video_of_exactly_two_spans_has_two_windows() -> None:
    assert len(plan(2 * SPAN)) == 2


def test_auto_windows_shrink_to_the_clips_a_job_may_have() -> None:
    assert len(plan(100 * SPAN, JobRequest(crops=3), max_clips_per_job=8)) == 2


def test_windows_are_spread_from_the_start_to_one_span_before_the_end() -> None:
    assert starts(plan(10.0, JobRequest(windows=3))) == pytest.approx([0, (10 - SPAN) / 2, 10 - SPAN])


def test_one_window_starts_at_the_beginning() -> None:
    assert starts(plan(10.0, JobRequest(windows=1))) == [0]


def test_a_video_shorter_than_a_span_has_one_window_however_many_are_asked() -> None:
    assert starts(plan(SPAN / 2, JobRequest(windows=5))) == [0]


def test_all_windows_lie_back_to_back_and_the_last_ends_with_the_video() -> None:
    windows = plan(2.5 * SPAN, JobRequest(windows="all"))
    assert starts(windows) == pytest.approx([0, SPAN, 1.5 * SPAN])


def test_slots_are_frame_step_reference_frames_apart() -> None:
    (window,) = plan(10.0, JobRequest(windows=1))
    assert window.wanted_s == pytest.approx([k * 4 / 30 for k in range(8)])


def test_too_many_clips_name_the_limit_and_the_number() -> None:
    with pytest.raises(TooManyClips, match="201 clips") as caught:
        plan(100.0, JobRequest(windows=67, crops=3))
    assert (caught.value.limit, caught.value.actual) == (200, 201)


def test_all_windows_of_a_long_video_are_too_many_clips() -> None:
    with pytest.raises(TooManyClips):
        plan(201 * SPAN, JobRequest(windows="all"))


def test_start_and_end_restrict_the_windows() -> None:
    windows = plan(20.0, JobRequest(start=5, end=8, windows=2))
    assert starts(windows) == pytest.approx([5, 8 - SPAN])


def test_no_slot_wants_a_frame_at_or_after_the_end_asked_for() -> None:
    (window,) = plan(20.0, JobRequest(start=5, end=5.5))
    assert max(window.wanted_s) == pytest.approx(5.5 - 1 / 30)


def test_slots_past_the_end_are_counted_as_repeated() -> None:
    (window,) = plan(0.5)
    assert window.repeated == 4


def test_an_end_beyond_the_video_is_the_end_of_the_video() -> None:
    assert plan(3.0, JobRequest(end=99.0)) == plan(3.0)


@pytest.mark.parametrize(("start", "end"), [(3.0, 3.0), (4.0, 2.0)])
def test_an_end_that_is_not_after_the_start_is_refused(start: float, end: float) -> None:
    with pytest.raises(InvalidOption, match="must come after the start"):
        plan(10.0, JobRequest(start=start, end=end))


def test_a_start_beyond_the_end_of_the_video_is_refused() -> None:
    with pytest.raises(InvalidOption, match="beyond the end") as caught:
        plan(10.0, JobRequest(start=10.0))
    assert (caught.value.limit, caught.value.actual) == (10.0, 10.0)


def test_coverage_counts_overlapping_windows_once() -> None:
    windows = [Window(0, 2, (), 0), Window(1, 3, (), 0), Window(5, 6, (), 0)]
    assert coverage(windows, 10.0) == pytest.approx(0.4)


def test_coverage_of_a_restricted_range_is_that_of_the_whole_video() -> None:
    assert coverage(plan(10 * SPAN, JobRequest(start=0, end=SPAN)), 10 * SPAN) == pytest.approx(0.1)


@given(
    duration=st.floats(0.04, 5000),
    windows=st.one_of(st.just("auto"), st.integers(1, 60)),
    start=st.floats(0, 1),
    length=st.floats(0.01, 1),
)
def test_windows_and_slots_never_leave_the_range(duration: float, windows: int, start: float, length: float) -> None:
    begin, end = start * duration * 0.99, (start * 0.99 + length) * duration
    found = plan(duration, JobRequest(windows=windows, start=begin, end=end))
    for window in found:
        assert begin <= window.start_s <= window.end_s <= min(end, duration) + 1e-6
        assert begin <= min(window.wanted_s)
        assert max(window.wanted_s) <= max(begin, min(end, duration))
        assert list(window.wanted_s) == sorted(window.wanted_s)
    assert 0 <= coverage(found, duration) <= 1


def indexed(frames: int, request: JobRequest, length: int, stride: int) -> list[list[int]]:
    model = spec(sampling="index", frames=length, frame_step=stride)
    times = [float(i) for i in range(frames)]
    windows = plan_windows(float(frames), times, 0.1, model, request, LIMITS)
    return [[round(time) for time in window.wanted_s] for window in windows]


def test_index_sampling_of_a_short_video_repeats_the_last_frame_it_reaches() -> None:
    assert indexed(20, JobRequest(windows=10), 8, 8) == [[0, 8, 16, 16, 16, 16, 16, 16]]


def test_index_sampling_counts_frames_from_the_start_asked_for() -> None:
    assert indexed(100, JobRequest(windows=1, start=30.0), 4, 5) == [[30, 35, 40, 45]]


def test_index_windows_back_to_back_reach_the_last_frame() -> None:
    assert [clip[0] for clip in indexed(50, JobRequest(windows="all"), 4, 5)] == [0, 20, 30]


@pytest.mark.skipif(not (SHARED / "golden" / "sampling.safetensors").exists(), reason="no golden vectors here")
def test_index_sampling_equals_the_official_test_indices() -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    golden = safetensors.load_file(SHARED / "golden" / "sampling.safetensors")
    cases = [name for name in golden if name.startswith("test.")]
    assert cases
    for name in cases:
        frames, length, stride = (int(part[1:]) for part in name.removeprefix("test.").split("_"))
        clips = [index_clip(start, frames, stride, length) for start in index_starts(frames, length * stride, 10)]
        np.testing.assert_array_equal(golden[name], clips, err_msg=name)
        planned = indexed(frames, JobRequest(windows=10), length, stride)
        np.testing.assert_array_equal(np.unique(golden[name], axis=0), np.unique(planned, axis=0), err_msg=name)


def test_windows_with_a_stride_begin_that_far_apart_and_the_last_ends_with_the_video() -> None:
    windows = plan(2.5 * SPAN, JobRequest(windows="all", stride=SPAN / 2))
    assert starts(windows) == pytest.approx([0, SPAN / 2, SPAN, 1.5 * SPAN])


def test_a_stride_of_one_span_is_back_to_back() -> None:
    assert starts(plan(7.3, JobRequest(windows="all", stride=SPAN))) == starts(plan(7.3, JobRequest(windows="all")))


def test_a_stride_beyond_the_span_is_refused_with_both() -> None:
    with pytest.raises(InvalidOption, match=r"stride \(1.5 s\) is larger than a window's span \(1.06667 s\)"):
        plan(10.0, JobRequest(windows="all", stride=1.5))


def test_a_stride_without_all_windows_is_refused() -> None:
    with pytest.raises(InvalidOption, match="windows=all only; windows is 3"):
        plan(10.0, JobRequest(windows=3, stride=0.5))


def test_the_clips_of_overlapping_windows_are_counted() -> None:
    with pytest.raises(TooManyClips, match="18 windows"):
        plan(10.0, JobRequest(windows="all", stride=SPAN / 2), max_clips_per_job=17)


def test_a_stride_holds_for_windows_by_frame_number() -> None:
    times = [i / 25 for i in range(250)]
    windows = plan_windows(
        10.0, times, 1 / 25, spec(sampling="index"), JobRequest(windows="all", stride=SPAN / 2), LIMITS
    )
    assert starts(windows)[:3] == pytest.approx([0, 16 / 25, 32 / 25])
