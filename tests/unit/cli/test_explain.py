"""What a report says beside what it draws."""

import html
import re

import numpy as np
import pytest

from service.aggregate import aggregate
from service.cli.attention_figure import DROPPED_YET_ATTENDED, draw, remark
from service.cli.explain_page import page
from service.contracts import JobRequest, JobResult
from testing import factories


def result(*attention: float) -> JobResult:
    """One window of four frames, of which the first and the third are dropped in the second layer."""
    record = factories.record(request=JobRequest(attention="layers"))
    return aggregate(record, [factories.scores(temporal_attention=attention)], record.created_at)


def figure(answer: JobResult, note: str = "") -> str:
    pictures = np.zeros((1, 4, 8, 8, 3), dtype=np.uint8)
    return draw("title", answer.windows, pictures, "svg", note=note).decode()


DROPPED_COUNTS_MOST = (0.125, 0.125, 0.5, 0.25)
KEPT_COUNTS_MOST = (0.2, 0.3, 0.0, 0.5)


def test_a_dropped_frame_with_more_than_an_even_share_is_explained_once() -> None:
    assert page("name", result(*DROPPED_COUNTS_MOST), [b"<svg></svg>"]).count(DROPPED_YET_ATTENDED) == 1


@pytest.mark.parametrize("attention", [KEPT_COUNTS_MOST, (0.25, 0.25, 0.25, 0.25)])
def test_without_such_a_frame_nothing_is_explained(attention: tuple[float, ...]) -> None:
    assert DROPPED_YET_ATTENDED not in page("name", result(*attention), [b"<svg></svg>"])


def test_an_answer_without_attention_needs_no_remark() -> None:
    record = factories.record(request=JobRequest(attention="none"))
    assert remark(aggregate(record, [factories.scores()], record.created_at).windows) == ""


def test_the_note_of_a_picture_is_written_on_it_as_a_whole() -> None:
    drawn = figure(result(*DROPPED_COUNTS_MOST), DROPPED_YET_ATTENDED)
    lines = re.findall(r"<(?:text|tspan)[^>]*>([^<]+)</", drawn)
    assert DROPPED_YET_ATTENDED in " ".join(map(html.unescape, lines))


def test_one_window_is_not_called_windows() -> None:
    assert "<dd>1 window, 100% of the duration</dd>" in page("name", result(*KEPT_COUNTS_MOST), [b"<svg></svg>"])


def test_the_times_of_a_window_are_written_where_no_page_says_them() -> None:
    pictures = np.zeros((1, 4, 8, 8, 3), dtype=np.uint8)
    windows = result(*KEPT_COUNTS_MOST).windows
    assert "0.00 s to 1.00 s" in draw("title", windows, pictures, "svg").decode()
    assert "0.00 s to 1.00 s" not in draw("", windows, pictures, "svg").decode()
