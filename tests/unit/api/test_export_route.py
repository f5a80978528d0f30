"""What the export says of jobs that have no result."""

from __future__ import annotations

from typing import Any

import pytest

from service.api.routes.export_route import _ended_otherwise, accepted
from service.contracts import JobState, JobStatus
from service.errors import BackendFailed, DeadlineExceeded, ResultNotReady


def status(state: JobState, **changes: Any) -> JobStatus:
    values: dict[str, Any] = {
        "id": "0" * 32,
        "status": state,
        "created_at": 1.0,
        "deadline_at": 2.0,
        "clips_total": 4,
        "clips_done": 1,
        "model": "tiny",
        "version": "1",
    }
    return JobStatus(**{**values, **changes})


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
def test_a_job_that_goes_on_is_to_be_asked_again(state: JobState) -> None:
    error = _ended_otherwise(status(state))
    assert isinstance(error, ResultNotReady)
    assert f"is {state}: 1 of 4 clips are scored" in error.detail
    assert error.retry_after_s is not None


@pytest.mark.parametrize("ended", [BackendFailed("The engine failed."), DeadlineExceeded("Too late.")])
def test_a_job_that_failed_answers_with_its_own_error(ended: BackendFailed | DeadlineExceeded) -> None:
    error = _ended_otherwise(status(JobState.FAILED, error=ended.to_dict()))
    assert type(error) is type(ended)
    assert str(error) == str(ended)


@pytest.mark.parametrize(
    ("header", "form"),
    [
        (None, "json"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("text/vtt", "vtt"),
        ("text/csv;q=0.5, text/vtt;q=0.9", "vtt"),
        ("text/csv; q=0, */*", "json"),
        ("text/html, application/x-subrip;q=0.2", "srt"),
        ("text/csv;q=0, application/json;q=0.1", "json"),
    ],
)
def test_an_accept_header_chooses_a_format_with_a_media_type_of_its_own(header: str | None, form: str) -> None:
    assert accepted(header).name == form
