"""From scores of clips with frames left out to the evidence of an answer."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from service.aggregate import aggregate
from service.api.submission import _ADDED_OPTIONS, evidence_seconds, fingerprint
from service.causal_evidence import check_evidence_window, evidence_clips, evidence_plan
from service.contracts import ClipScores, JobRequest, JobResult, SampledWindow
from service.errors import InvalidOption
from service.evidence import plan, shapley, subsets
from testing import factories

FRAMES = 10
WEIGHTS = np.random.default_rng(4).normal(0, 0.6, FRAMES)


def score(kept: np.ndarray) -> float:
    """A label's score, of which no frame's part is the same whatever else is kept."""
    return float(1 / (1 + np.exp(-(kept @ WEIGHTS + 0.5 * kept[0] * kept[-1]))))


def logits(kept: np.ndarray) -> tuple[float, ...]:
    p = score(kept)
    return (float(np.log(3 * p / (1 - p))), 0.0, 0.0, 0.0)


def answered(request: JobRequest) -> JobResult:
    """The answer to a window of ten frames, of a model that scores by `score`."""
    planned = evidence_plan(request, FRAMES)
    assert planned is not None
    window = SampledWindow(start_s=0.0, end_s=1.0, times_s=tuple(t / FRAMES for t in range(FRAMES)))
    video = factories.decoded(windows=1, clip_shape=(FRAMES, 8, 8, 3)).model_copy(update={"windows": (window,)})
    job = factories.record(request=request, decoded=video, evidence=planned)
    nothing = {"temporal_attention": (), "layer_attention": (), "layer_retention": ()}
    sets = [np.ones(FRAMES, bool), *plan(FRAMES, request.evidence_orders).masks]
    scores = [ClipScores(logits=logits(kept), engine_ms=0.5, **nothing) for kept in sets]
    return aggregate(job, factories.spec(frames=FRAMES), scores, job.created_at)


def test_the_evidence_of_a_long_clip_lies_within_its_stated_error_of_the_exact_one() -> None:
    request = JobRequest(evidence="causal", attention="none", evidence_label="static")
    answer = answered(request)
    [window] = answer.windows
    cause = window.evidence
    assert cause is not None
    got = np.array([frame.contribution for frame in cause.frames])
    exact = shapley(np.array([score(kept) for kept in subsets(FRAMES)]))
    assert 0 < cause.error < 0.1
    assert np.abs(got - exact).max() <= cause.error
    assert got.sum() == pytest.approx(cause.score - cause.still_score, abs=1e-4)
    assert cause.forwards < 1 << FRAMES
    assert cause.engine_ms == pytest.approx(0.5 * cause.forwards)
    assert answered(request).windows == answer.windows, "the same request has the same evidence"


def test_more_orders_make_a_smaller_error() -> None:
    few, many = (
        answered(JobRequest(evidence="causal", attention="none", evidence_orders=orders)) for orders in (4, 64)
    )
    first, second = few.windows[0].evidence, many.windows[0].evidence
    assert first is not None
    assert second is not None
    assert second.error < first.error
    assert second.forwards > first.forwards


def test_each_clip_with_frames_left_out_counts_as_the_span_of_a_window() -> None:
    spec, video = factories.spec(), factories.decoded(windows=3)
    planned = evidence_plan(JobRequest(evidence="causal"), spec.frames)
    assert evidence_seconds(video, spec, planned) == 3 * 15 * spec.span_s
    assert evidence_seconds(video, spec, None) == 0


def test_a_fingerprint_tells_evidence_apart_and_is_that_of_earlier_releases_without_it() -> None:
    class Spooled:
        sha256 = "0" * 64

    plain, causal = JobRequest(), JobRequest(evidence="causal")
    without, with_it = (fingerprint(Spooled(), options) for options in (plain, causal))  # type: ignore[arg-type]
    assert without != with_it
    known_before = plain.model_dump_json(exclude=set(_ADDED_OPTIONS))
    assert without == hashlib.sha256(f"{'0' * 64} {known_before}".encode()).hexdigest()


def test_evidence_of_one_window_counts_its_crops_alone() -> None:
    spec, video = factories.spec(), factories.decoded(windows=5, crops=3)
    planned = evidence_plan(JobRequest(evidence="causal", evidence_window=4), spec.frames)
    assert planned is not None
    assert evidence_clips(planned, 15, 3) == 15 + 15 * 3
    assert evidence_seconds(video, spec, planned) == 3 * 15 * spec.span_s
    job = factories.record(decoded=video, evidence=planned)
    assert (job.units, list(job.masked_views)) == (60, [12, 13, 14])
    assert [job.view_of(clip) for clip in (14, 15, 17, 18, 59)] == [(14, 0), (12, 1), (14, 1), (12, 2), (14, 15)]


@pytest.mark.parametrize("window", [2, 7])
def test_a_window_that_the_video_does_not_have_is_refused_with_limit_and_actual(window: int) -> None:
    planned = evidence_plan(JobRequest(evidence="causal", evidence_window=window), 4)
    with pytest.raises(
        InvalidOption, match=f"must be below 2, the number of windows of this video, not {window}"
    ) as no:
        check_evidence_window(planned, 2)
    assert (no.value.limit, no.value.actual) == (1, window)


def test_windows_that_nobody_asked_about_have_no_evidence() -> None:
    request = JobRequest(evidence="causal", evidence_window=1, evidence_label="static")
    planned = evidence_plan(request, 4)
    assert planned is not None
    job = factories.record(request=request, decoded=factories.decoded(windows=3), evidence=planned)
    seen = [ClipScores(logits=(float(number % 7), 0.0, 1.0, 0.0), engine_ms=1.0) for number in range(job.units)]
    answer = aggregate(job, factories.spec(), seen, job.created_at)
    causes = [window.evidence for window in answer.windows]
    assert [cause is not None for cause in causes] == [False, True, False]
    assert causes[1] is not None
    values = np.exp([float(number % 7) for number in range(3, job.units)])
    values /= values + np.e + 2
    whole = np.e / (2 * np.e + 2)
    sets = plan(4)
    assert [frame.contribution for frame in causes[1].frames] == pytest.approx(
        shapley(sets.values(whole, values)).tolist(), abs=1e-5
    )
    assert answer.evidence_cost is not None
    assert answer.evidence_cost.forwards == causes[1].forwards == 16
