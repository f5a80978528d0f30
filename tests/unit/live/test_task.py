"""What a session is to do, and what it holds while it does."""

from typing import Any

import pytest

from service.contracts.stream_requests import StreamRequest
from service.live.task import LiveCaller, LiveTask
from service.live.window_queue import AT_A_TIME
from testing.factories import spec

CALLER = LiveCaller(owner="", tenant="me", identity="me")


def task(**options: Any) -> LiveTask:
    return LiveTask.of(StreamRequest(**options), CALLER, spec(), 100.0)


def test_a_session_survives_its_way_through_redis() -> None:
    begun = task(step=0.5, source={"url": "https://example.com/a.ts"})
    assert LiveTask.model_validate(begun.model_dump(mode="json")) == begun


@pytest.mark.parametrize(("asked", "lasts"), [(None, 100.0), (10.0, 10.0), (1000.0, 100.0)])
def test_a_session_lasts_as_long_as_the_server_lets_it(asked: float | None, lasts: float) -> None:
    assert LiveTask.of(StreamRequest(max_s=asked), CALLER, spec(), 100.0).max_s == lasts


def test_windows_begin_a_span_apart_unless_a_step_is_asked_for() -> None:
    assert (task().step_s, task(step=0.25).step_s) == (spec().span_s, 0.25)


def test_clips_are_held_of_windows_that_overlap_or_are_scored() -> None:
    size = spec().clip_bytes
    assert task().least_bytes == (AT_A_TIME + 1) * size
    # A span of a second has ten windows of a step of a tenth, one that begins and one that is read.
    assert task(step=0.1, crops=3).least_bytes == 12 * 3 * size


def test_fewer_windows_wait_where_they_are_large() -> None:
    size = spec().clip_bytes
    assert [task().most_waiting(8, (AT_A_TIME + fit) * size) for fit in (20, 3, 0)] == [8, 3, 1]
