import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import service
from service.aggregate import (
    NOTHING_CLEAR,
    STANDS_OUT,
    abstains,
    aggregate,
    check_embedding,
    most_attended,
    probabilities,
    ranked,
)
from service.contracts import JobRequest
from service.errors import InvalidOption
from testing.factories import LABELS, decoded, record, scores, spec


def softmax(logits: tuple[float, ...]) -> NDArray[np.float64]:
    exps = np.exp(np.array(logits))
    shares: NDArray[np.float64] = exps / exps.sum()
    return shares


def test_predictions_are_the_mean_of_softmax_and_not_the_softmax_of_the_mean() -> None:
    one, two = (4.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0)
    job = record(decoded=decoded(windows=2))
    result = aggregate(job, spec(), [scores(one), scores(two)], job.created_at)
    want = (softmax(one) + softmax(two)) / 2
    assert {p.label: p.score for p in result.predictions} == {
        label: pytest.approx(value, abs=1e-6) for label, value in zip(LABELS, want, strict=True)
    }


def test_multi_label_models_are_scored_by_sigmoid() -> None:
    job = record()
    result = aggregate(job, spec(activation="sigmoid"), [scores((0.0, 5.0, 5.0, -5.0))], job.created_at)
    assert [p.score for p in result.predictions] == pytest.approx([0.993307, 0.993307, 0.5, 0.006693])


def test_large_logits_do_not_overflow() -> None:
    assert probabilities(np.array([1000.0, 0.0]), "softmax").tolist() == [1.0, 0.0]


def test_each_window_has_its_own_predictions() -> None:
    job = record(decoded=decoded(windows=2))
    result = aggregate(job, spec(), [scores((9.0, 0.0, 0.0, 0.0)), scores((0.0, 9.0, 0.0, 0.0))], job.created_at)
    assert [w.predictions[0].label for w in result.windows] == ["static", "pan_left"]


def test_the_crops_of_a_window_are_averaged() -> None:
    job = record(decoded=decoded(crops=3))
    logits = [(3.0, 0.0, 0.0, 0.0), (0.0, 3.0, 0.0, 0.0), (0.0, 0.0, 3.0, 0.0)]
    result = aggregate(job, spec(), [scores(row) for row in logits], job.created_at)
    want = np.mean([softmax(row) for row in logits], axis=0)
    assert result.windows[0].predictions[0].score == pytest.approx(want.max(), abs=1e-6)


def test_attention_is_averaged_over_crops_and_carries_the_frames_times() -> None:
    job = record(decoded=decoded(crops=3))
    other = scores(temporal_attention=(0.5, 0.25, 0.125, 0.125))
    result = aggregate(job, spec(), [scores(), scores(), other], job.created_at)
    attention = result.windows[0].attention
    assert attention is not None
    assert [f.score for f in attention] == pytest.approx([0.25, 1 / 6, 0.208333, 0.375], abs=1e-6)
    assert [f.time_s for f in attention] == [0.0, 0.25, 0.5, 0.75]


def test_retention_is_that_of_the_last_layer() -> None:
    job = record()
    attention = aggregate(job, spec(), [scores()], job.created_at).windows[0].attention
    assert attention is not None
    assert [f.retention for f in attention] == [0.0, 1.0, 0.0, 1.0]


def test_layers_are_left_out_unless_asked_for() -> None:
    job = record()
    attention = aggregate(job, spec(), [scores()], job.created_at).windows[0].attention
    assert attention is not None
    assert attention[0].layer_scores is None


def test_layers_give_each_frame_a_score_per_layer() -> None:
    job = record(request=JobRequest(attention="layers"))
    attention = aggregate(job, spec(), [scores()], job.created_at).windows[0].attention
    assert attention is not None
    assert attention[3].layer_scores == (0.25, 0.5)
    assert attention[0].layer_retention == (1.0, 0.0)


def test_attention_none_leaves_attention_out() -> None:
    job = record(request=JobRequest(attention="none"))
    assert aggregate(job, spec(), [scores()], job.created_at).windows[0].attention is None


def test_top_k_and_min_score_cut_the_list() -> None:
    values = np.array([0.1, 0.4, 0.3, 0.2])
    assert [p.label for p in ranked(values, LABELS, 2, 0.0)] == ["pan_left", "pan_right"]
    assert [p.label for p in ranked(values, LABELS, 4, 0.25)] == ["pan_left", "pan_right"]


def test_equal_scores_keep_the_order_of_the_labels() -> None:
    assert [p.index for p in ranked(np.full(4, 0.25), LABELS, 4, 0.0)] == [0, 1, 2, 3]


def test_labels_that_pass_their_threshold_come_first_even_in_a_list_of_one() -> None:
    values, thresholds = np.array([0.5, 0.4, 0.3, 0.1]), (0.6, 0.3, 0.2, 0.2)
    found = ranked(values, LABELS, 4, 0.0, thresholds)
    assert [(p.label, p.threshold, p.passes) for p in found] == [
        ("pan_left", 0.3, True),
        ("pan_right", 0.2, True),
        ("static", 0.6, False),
        ("zoom_in", 0.2, False),
    ]
    assert [p.label for p in ranked(values, LABELS, 1, 0.0, thresholds)] == ["pan_left"]


def test_a_qualifier_that_passes_stands_after_the_answers_and_is_none() -> None:
    thresholds, held = (0.5, 0.5, 0.5, 0.5), ("zoom_in",)
    moving, resting = np.array([0.1, 0.6, 0.3, 0.9]), np.array([0.1, 0.4, 0.3, 0.9])
    found = ranked(moving, LABELS, 3, 0.0, thresholds, held)
    assert [(p.label, p.passes) for p in found] == [("pan_left", True), ("zoom_in", True), ("pan_right", False)]
    assert abstains(moving, LABELS, thresholds, held) is False
    assert abstains(resting, LABELS, thresholds, held) is True
    assert abstains(resting, LABELS, thresholds) is False


def test_a_score_equal_to_its_threshold_passes() -> None:
    job, model = record(), spec(activation="sigmoid", thresholds=(0.5, 0.5, 0.5, 0.5))
    result = aggregate(job, model, [scores((0.0, -1.0, -1.0, -1.0))], job.created_at)
    assert [p.label for p in result.predictions if p.passes] == ["static"]


def test_a_model_abstains_where_no_label_passes_whatever_the_caller_leaves_out() -> None:
    thresholds = (0.9, 0.9, 0.9, 0.9)
    unsure, sure = scores((2.0, 0.0, 0.0, 0.0)), scores((5.0, 0.0, 0.0, 0.0))
    model = spec(activation="sigmoid", thresholds=thresholds)
    job = record(decoded=decoded(windows=2), request=JobRequest(min_score=0.999))
    result = aggregate(job, model, [unsure, sure], job.created_at)
    assert [window.abstained for window in result.windows] == [True, False]
    assert not result.abstained, "0.937 on average"
    assert aggregate(job, model, [unsure, unsure], job.created_at).abstained


def test_a_model_without_thresholds_says_nothing_of_passing() -> None:
    job, model = record(), spec(activation="sigmoid")
    said = aggregate(job, model, [scores((-9.0, -9.0, -9.0, -9.0))], job.created_at).model_dump(exclude_none=True)
    assert "abstained" not in said
    assert "abstained" not in said["windows"][0]
    assert set(said["predictions"][0]) == {"label", "index", "score"}


def test_a_frame_is_named_only_where_it_stands_out_from_an_even_share() -> None:
    job = record()
    flat, peaked = (scores(temporal_attention=shares) for shares in ((0.2, 0.39, 0.2, 0.21), (0.2, 0.4, 0.2, 0.2)))
    for given, named in ((flat, None), (peaked, 1)):
        attention = aggregate(job, spec(), [given], job.created_at).windows[0].attention
        assert attention is not None
        most = most_attended(attention)
        assert (most and most.frame) == named
    assert most_attended(()) is None


def test_the_page_names_frames_and_abstains_by_the_same_words_and_numbers() -> None:
    script = (Path(service.__file__).parent / "web" / "verdict.js").read_text(encoding="utf-8")
    assert re.findall(r"const STANDS_OUT = ([\d.]+);", script) == [str(STANDS_OUT)]
    assert re.findall(r'const NOTHING_CLEAR = "([^"]+)";', script) == [NOTHING_CLEAR]


def test_an_untrained_model_warns() -> None:
    job, model = record(), spec(trained=False)
    assert [w.code for w in aggregate(job, model, [scores()], job.created_at).warnings] == ["untrained_model"]


def test_a_trained_model_does_not_warn() -> None:
    job = record()
    assert aggregate(job, spec(), [scores()], job.created_at).warnings == ()


def test_timings_are_those_of_the_slowest_clip_and_of_the_whole_job() -> None:
    job = record(decoded=decoded(windows=2))
    result = aggregate(
        job, spec(), [scores(queue_ms=1.0), scores(queue_ms=7.0, inference_ms=11.0)], job.created_at + 0.5
    )
    assert result.timings_ms.queue == 7.0
    assert result.timings_ms.inference == 11.0
    assert result.timings_ms.total == pytest.approx(500.0, abs=0.01)


def test_missing_scores_are_refused() -> None:
    job = record(decoded=decoded(windows=2))
    with pytest.raises(ValueError, match=r"has 2 clips, scores of 1 were given"):
        aggregate(job, spec(), [scores()], job.created_at)


def test_an_embedding_is_the_mean_of_crops_and_of_windows_of_length_one() -> None:
    job = record(request=JobRequest(embedding=True), decoded=decoded(windows=2))
    clips = [scores(embedding=(3.0, 0.0)), scores(embedding=(0.0, 5.0))]
    result = aggregate(job, spec(embedding=2), clips, job.created_at)
    assert [window.embedding for window in result.windows] == [(1.0, 0.0), (0.0, 1.0)]
    assert result.embedding == pytest.approx((0.707107, 0.707107))


def test_an_embedding_is_left_out_unless_it_is_asked_for() -> None:
    job = record()
    result = aggregate(job, spec(embedding=2), [scores(embedding=(3.0, 4.0))], job.created_at)
    assert (result.embedding, result.windows[0].embedding) == (None, None)


def test_an_embedding_of_a_model_without_one_is_refused() -> None:
    with pytest.raises(InvalidOption, match="`embedding` must be false for model 'tiny' in version 1"):
        check_embedding(spec(), JobRequest(embedding=True))
    check_embedding(spec(embedding=2), JobRequest(embedding=True))


def test_a_model_without_attention_is_answered_without_it() -> None:
    job = record(request=JobRequest(attention="layers"))
    bare = scores(temporal_attention=(), layer_attention=(), layer_retention=())
    result = aggregate(job, spec(layers=0), [bare], job.created_at)
    assert result.windows[0].attention is None
    assert result.predictions[0].label == LABELS[3]


@pytest.mark.parametrize("windows", [1, 2])
def test_a_video_of_one_clip_has_the_predictions_of_its_window(windows: int) -> None:
    views = [scores((0.5, -1.0, 2.0, 0.25)), scores((3.0, 2.0, 1.0, 0.0))][:windows]
    result = aggregate(record(decoded=decoded(windows)), spec(), views, 2.0)
    assert (result.predictions == result.windows[0].predictions) is (windows == 1)
