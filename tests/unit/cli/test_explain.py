"""What a report says beside what it draws."""

import html
import re
from collections.abc import Sequence

import numpy as np
import pytest

from service.aggregate import aggregate
from service.cli.attention_figure import DROPPED_YET_ATTENDED, draw, remark
from service.cli.explain_page import page
from service.cli.map_overlay import WHERE
from service.contracts import FrameEvidence, JobRequest, JobResult, Region, SpatialView, WindowEvidence
from testing import factories


def result(*attention: float) -> JobResult:
    """One window of four frames, of which the first and the third are dropped in the second layer."""
    record = factories.record(request=JobRequest(attention="layers"))
    return aggregate(record, factories.spec(), [factories.scores(temporal_attention=attention)], record.created_at)


def figure(answer: JobResult, note: str = "") -> str:
    pictures = np.zeros((1, 4, 8, 8, 3), dtype=np.uint8)
    return draw("title", answer.windows, pictures, "svg", note=note).decode()


DROPPED_COUNTS_MOST = (0.125, 0.125, 0.5, 0.25)
KEPT_COUNTS_MOST = (0.2, 0.3, 0.0, 0.5)


def looked(*shapes: tuple[int, int] | None) -> JobResult:
    """The same with a map of each size, or without one."""
    answer = result(*KEPT_COUNTS_MOST)
    grids = tuple(None if shape is None else tuple(map(tuple, np.full(shape, 0.01).tolist())) for shape in shapes)
    view = SpatialView(region=Region(left=0.25, top=0, width=0.5, height=1), frames=grids)
    window = answer.windows[0].model_copy(update={"spatial_attention": (view,)})
    return answer.model_copy(update={"windows": (window,)})


def test_a_map_is_drawn_over_each_frame_that_has_one() -> None:
    without, two = (
        re.findall(r'"data:image/png;base64,([^"]+)"', figure(answer))
        for answer in (result(*KEPT_COUNTS_MOST), looked(None, (2, 3), None, (4, 4)))
    )
    changed = [ours != theirs for ours, theirs in zip(two, without, strict=True)]
    assert changed == [False, True, False, True, False]  # four frames, and the layers


def test_a_page_says_how_maps_are_read_where_it_has_some() -> None:
    assert html.escape(WHERE) in page("name", looked(None, (2, 3), None, None), [b"<svg></svg>"], where=WHERE)
    assert "class token" not in page("name", result(*KEPT_COUNTS_MOST), [b"<svg></svg>"])


def test_a_dropped_frame_with_more_than_an_even_share_is_explained_once() -> None:
    assert page("name", result(*DROPPED_COUNTS_MOST), [b"<svg></svg>"]).count(DROPPED_YET_ATTENDED) == 1


@pytest.mark.parametrize("attention", [KEPT_COUNTS_MOST, (0.25, 0.25, 0.25, 0.25)])
def test_without_such_a_frame_nothing_is_explained(attention: tuple[float, ...]) -> None:
    assert DROPPED_YET_ATTENDED not in page("name", result(*attention), [b"<svg></svg>"])


def test_a_report_says_how_far_attention_can_be_believed_where_that_was_measured() -> None:
    said = factories.faithfulness().in_words
    assert said == (
        "Attention of this model: 41% (± 9%) of what is attainable in telling which frames a label rests on, measured "
        "on 120 clips of real videos."
    )
    assert html.escape(said) in page("name", result(*KEPT_COUNTS_MOST), [b"<svg></svg>"], said)
    assert "attainable" not in page("name", result(*KEPT_COUNTS_MOST), [b"<svg></svg>"])


def test_an_answer_without_attention_needs_no_remark() -> None:
    record = factories.record(request=JobRequest(attention="none"))
    assert remark(aggregate(record, factories.spec(), [factories.scores()], record.created_at).windows) == ""


def test_the_note_of_a_picture_is_written_on_it_as_a_whole() -> None:
    drawn = figure(result(*DROPPED_COUNTS_MOST), DROPPED_YET_ATTENDED)
    lines = re.findall(r"<(?:text|tspan)[^>]*>([^<]+)</", drawn)
    assert DROPPED_YET_ATTENDED in " ".join(map(html.unescape, lines))


def judged(*logits: float) -> JobResult:
    """One window of a model whose labels hold from 0.6 on, with flat attention."""
    model = factories.spec(activation="sigmoid", thresholds=(0.6,) * 4)
    record = factories.record(request=JobRequest(attention="layers"))
    even = factories.scores(logits, temporal_attention=(0.25,) * 4)
    return aggregate(record, model, [even], record.created_at)


def test_a_report_shows_thresholds_and_says_where_nothing_is_clear() -> None:
    sure, unsure = judged(0.0, 9.0, 0.0, 0.0), judged(0.0, 0.1, 0.0, 0.0)
    for answer, clear in ((sure, True), (unsure, False)):
        report, drawn = page("name", answer, [figure(answer).encode()]), figure(answer)
        assert "<th>threshold</th><th>passes</th>" in report
        assert ("<strong>no clear motion</strong>" in report) is not clear
        assert (">no clear motion<" in drawn) is not clear
        assert "(from 0.600 on)" in drawn
    assert "<th>threshold</th>" not in page("name", result(*KEPT_COUNTS_MOST), [b"<svg></svg>"])


def test_a_report_names_a_frame_only_where_one_stands_out() -> None:
    assert "4 frames; no frame stands out;" in page("name", judged(0.0, 0.0, 0.0, 0.0), [b"<svg></svg>"])
    assert "the one at 0.75 seconds counted most" in page("name", result(*KEPT_COUNTS_MOST), [b"<svg></svg>"])


def explained(answer: JobResult, contributions: Sequence[float], enough: set[int], error: float = 0.0) -> JobResult:
    """The answer with evidence for its one window."""
    frames = tuple(
        FrameEvidence(time_s=t / 4, frame=t, contribution=value, enough=t in enough)
        for t, value in enumerate(contributions)
    )
    cause = WindowEvidence(
        label="b", score=0.9, still_score=0.2, error=error, frames=frames, forwards=16, engine_ms=1.0
    )
    [window] = answer.windows
    return answer.model_copy(update={"windows": (window.model_copy(update={"evidence": cause}),)})


def test_a_report_shows_contributions_beside_attention_and_how_far_they_agree() -> None:
    answer = result(*KEPT_COUNTS_MOST)
    report = page("name", explained(answer, (0.1, 0.2, -0.05, 0.45), {1, 3}), [b"<svg></svg>"])
    assert "What each frame contributes to b" in report
    assert "0.900 with all frames and 0.200 where one frame stands still" in report
    assert "exactly, from 16 clips" in report
    assert re.findall(r">([+-]\d\.\d{3})<", report) == ["+0.100", "+0.200", "-0.050", "+0.450"]
    assert report.count("<td>yes</td>") >= 2
    assert "a correlation of +1.00 to this" in report


def test_a_report_of_sampled_contributions_states_their_error_and_needs_no_attention() -> None:
    record = factories.record(request=JobRequest(attention="none"))
    answer = aggregate(record, factories.spec(), [factories.scores()], record.created_at)
    report = page("name", explained(answer, (0.1, 0.2, 0.1, 0.2), {1}, error=0.034), [b"<svg></svg>"])
    assert "to within 0.034 with 95 % confidence" in report
    assert "0.75 s" in report
    assert "correlation" not in report


def test_one_window_is_not_called_windows() -> None:
    assert "<dd>1 window, 100% of the duration</dd>" in page("name", result(*KEPT_COUNTS_MOST), [b"<svg></svg>"])


def test_the_times_of_a_window_are_written_where_no_page_says_them() -> None:
    pictures = np.zeros((1, 4, 8, 8, 3), dtype=np.uint8)
    windows = result(*KEPT_COUNTS_MOST).windows
    assert "0.00 s to 1.00 s" in draw("title", windows, pictures, "svg").decode()
    assert "0.00 s to 1.00 s" not in draw("", windows, pictures, "svg").decode()
