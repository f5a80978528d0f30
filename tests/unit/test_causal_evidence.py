"""From scores of clips with frames left out to the evidence of an answer."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from service.aggregate import aggregate
from service.api.submission import evidence_seconds, fingerprint
from service.causal_evidence import evidence_plan
from service.contracts import ClipScores, JobRequest, JobResult, SampledWindow
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
    known_before = plain.model_dump_json(exclude={"stride", "split", "evidence", "evidence_label", "evidence_orders"})
    assert without == hashlib.sha256(f"{'0' * 64} {known_before}".encode()).hexdigest()
