"""Events from the scores of windows, and the shares and shots that sum them up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from service.contracts import Event, EventRules, Prediction, ShotBoundary
from service.label_events import Array, Interval, Scored, curves, label_events, union
from service.overview import shots_of, summary_of
from service.transitions import with_transitions

SPAN = 16 / 15
LABELS = ("still", "pan", "cut", "dissolve")
THRESHOLDS = (0.4, 0.4, 0.2, 0.4)
RULES = EventRules(transitions={"cut": "cut", "dissolve": "dissolve"})


def back_to_back(until_s: float, stride_s: float = SPAN / 2) -> list[Interval]:
    starts = np.arange(0, until_s - SPAN + 1e-9, stride_s).tolist()
    return [(start, start + SPAN) for start in starts]


def share_of(window: Interval, *intervals: Interval) -> float:
    return sum(max(0.0, min(window[1], end) - max(window[0], start)) for start, end in intervals) / SPAN


def scored(
    windows: Sequence[Interval], *score: Callable[[Interval], float], boundaries: Sequence[ShotBoundary] | None = None
) -> Scored:
    """Windows scored label by label; labels without a rule score 0."""
    scores = np.zeros((len(windows), len(LABELS)))
    for k, rule in enumerate(score):
        scores[:, k] = [rule(window) for window in windows]
    return Scored(windows, scores, (0.0, windows[-1][1]), boundaries)


def events(of: Scored, rules: EventRules = RULES, places_s: Sequence[float | None] | None = None) -> list[Event]:
    found = label_events(curves(of), LABELS, THRESHOLDS, rules)
    return with_transitions(found, of, LABELS, THRESHOLDS, rules, places_s or [None] * len(of.windows))


def cut(at: float, change: float = 1.0) -> ShotBoundary:
    return ShotBoundary(start_s=at, end_s=at, transition="cut", change=change)


def nothing(window: Interval) -> float:
    return 0.0


@pytest.mark.parametrize("start_s", [2.0, 2.17, 2.4, 2.61])
def test_an_event_has_the_bounds_of_what_its_windows_show_at_any_phase(start_s: float) -> None:
    of = scored(back_to_back(12), nothing, lambda window: 0.9 * share_of(window, (start_s, 6.3)))
    (found,) = events(of)
    assert found.label == "pan"
    assert (found.start_s, found.end_s) == pytest.approx((start_s, 6.3), abs=0.05)
    assert start_s < found.peak_s < 6.3
    assert found.score == pytest.approx(0.9)


def test_a_score_that_dips_under_its_threshold_for_a_moment_goes_on() -> None:
    of = scored(back_to_back(12), nothing, lambda window: 0.9 - 0.6 * (5 < window[0] < 5.5))
    assert len(events(of, RULES.model_copy(update={"release": 0.7}))) == 1
    assert len(events(of, RULES.model_copy(update={"release": 1.0}))) == 2


def test_what_never_reaches_its_threshold_is_no_event() -> None:
    assert events(scored(back_to_back(6), nothing, lambda window: 0.39)) == []


def test_an_event_threshold_of_its_own_goes_before_that_of_the_label() -> None:
    of = scored(back_to_back(6), nothing, lambda window: 0.5)
    assert len(events(of)) == 1
    assert events(of, RULES.model_copy(update={"thresholds": {"pan": 0.6}})) == []


def test_an_event_shorter_than_it_may_be_is_none() -> None:
    of = scored(back_to_back(12), nothing, lambda window: 0.9 * share_of(window, (3.0, 3.7)))
    assert len(events(of)) == 1
    assert events(of, RULES.model_copy(update={"shortest": {"pan": 2.0}})) == []


def test_smoothing_bridges_a_window_that_says_nothing() -> None:
    of = scored(back_to_back(20), nothing, lambda window: 0.9 * (not 9 < window[0] < 9.5))
    assert len(events(of)) == 2
    assert len(events(of, RULES.model_copy(update={"smoothing_s": 3.0}))) == 1


def test_between_windows_that_lie_apart_nothing_holds() -> None:
    found = events(scored([(0.0, SPAN), (60.0, 60.0 + SPAN)], nothing, lambda window: 0.9))
    assert [event.start_s for event in found] == [0, 60]
    assert [event.end_s for event in found] == pytest.approx([SPAN, 60 + SPAN])


def test_an_event_begins_at_the_cut_that_it_begins_with() -> None:
    of = scored(back_to_back(12), nothing, lambda w: 0.9 * (w[0] >= 4.29), boundaries=[cut(4.3)])
    pan = next(event for event in events(of) if event.label == "pan")
    assert pan.start_s == pytest.approx(4.3, abs=0.04)


def test_what_goes_on_across_a_cut_is_one_event_unless_the_video_was_split() -> None:
    windows = back_to_back(6)
    for split, count in ((False, 1), (True, 2)):
        scores = np.tile([0.0, 0.9, 0.0, 0.0], (len(windows), 1))
        of = Scored(windows, scores, (0.0, windows[-1][1]), [cut(3.0)], split)
        assert len([event for event in events(of) if event.label == "pan"]) == count


def test_a_cut_of_the_pictures_is_an_event_also_where_no_window_sees_it() -> None:
    (found,) = events(scored(back_to_back(6), boundaries=[cut(2.1333, 0.8)]))
    assert (found.label, found.start_s, found.end_s, found.peak_s, found.score) == ("cut", 2.1333, 2.1333, 2.1333, 0.8)


def test_a_cut_that_model_and_pictures_see_has_the_time_of_the_pictures_and_the_higher_score() -> None:
    of = scored(back_to_back(6), nothing, nothing, lambda w: 0.95 * (w[0] < 2.2 < w[1]), boundaries=[cut(2.2, 0.6)])
    assert [(event.start_s, event.score) for event in events(of)] == [(2.2, 0.95)]


def test_a_cut_that_only_the_model_says_is_none_where_the_pictures_were_searched() -> None:
    said = (nothing, nothing, lambda window: 0.9)
    assert events(scored(back_to_back(3), *said, boundaries=[])) == []
    assert len(events(scored([(0.0, SPAN)], *said), places_s=[0.4])) == 1


def test_overlapping_windows_that_see_one_cut_say_it_once() -> None:
    of = scored(back_to_back(3), nothing, nothing, lambda window: 0.5 + 0.1 * window[0])
    found = events(of, places_s=[0.6, 0.7, 1.5, None])
    assert [event.start_s for event in found] == [0.7, 1.5]
    assert [event.score for event in found] == pytest.approx([0.5 + 0.1 * SPAN / 2, 0.5 + 0.1 * SPAN])


def test_a_dissolve_has_the_bounds_of_the_pictures_and_none_that_only_the_model_says_is_believed() -> None:
    shown = ShotBoundary(start_s=2.0, end_s=3.0, transition="dissolve", change=0.7)

    def says(window: Interval) -> float:
        return 0.9 * share_of(window, (1.8, 3.3), (6.0, 7.0))

    (seen,) = events(scored(back_to_back(9), nothing, nothing, nothing, says, boundaries=[shown]))
    assert (seen.start_s, seen.end_s, seen.peak_s) == (2.0, 3.0, 2.5)


def test_a_dissolve_is_an_event_like_any_other_where_no_boundaries_were_looked_for() -> None:
    (said,) = events(
        scored(back_to_back(9), nothing, nothing, nothing, lambda window: 0.9 * share_of(window, (6.0, 7.0)))
    )
    assert (said.start_s, said.end_s) == pytest.approx((6.0, 7.0), abs=0.1)


def test_events_come_by_their_start() -> None:
    of = scored(back_to_back(9), lambda w: 0.8 * (w[0] > 3), lambda w: 0.8 * (w[0] < 2), boundaries=[cut(1.0)])
    starts = [event.start_s for event in events(of)]
    assert starts == sorted(starts)
    assert len(starts) == 3


def test_shares_of_a_long_video_add_up() -> None:
    of = scored(back_to_back(20), lambda w: 0.9 * share_of(w, (0, 10)), lambda w: 0.9 * share_of(w, (12, 15)))
    found = summary_of(of, events(of), SPAN, ())
    seconds = of.part[1]
    assert found.basis == "events"
    assert [(share.label, share.events) for share in found.shares] == [("still", 1), ("pan", 1)]
    assert [share.duration_s for share in found.shares] == pytest.approx([10, 3], abs=0.1)
    assert found.unlabeled_share == pytest.approx(1 - 13 / seconds, abs=0.01)


def test_qualifiers_come_after_what_they_qualify() -> None:
    of = scored(back_to_back(20), lambda w: 0.9, lambda w: 0.9 * share_of(w, (12, 15)))
    found = summary_of(of, events(of), SPAN, ("still",))
    assert [(share.label, share.qualifier) for share in found.shares] == [("pan", False), ("still", True)]


def test_qualifiers_alone_leave_a_video_unlabeled() -> None:
    of = scored(back_to_back(20), lambda window: 0.9)
    assert summary_of(of, events(of), SPAN, ("still",)).unlabeled_share == 1


def test_the_mean_speaks_for_trimmed_clips_and_for_a_few_windows_of_a_long_video() -> None:
    trimmed = scored(back_to_back(4), lambda window: 0.9)
    sparse = scored([(0.0, SPAN), (60.0, 60.0 + SPAN)], lambda window: 0.9)
    assert summary_of(trimmed, events(trimmed), SPAN, ()).basis == "mean"
    assert summary_of(sparse, events(sparse), SPAN, ()).basis == "mean"


def test_a_shot_has_the_labels_of_the_windows_in_it() -> None:
    shown = [cut(3.0), ShotBoundary(start_s=6.0, end_s=7.0, transition="dissolve")]
    of = scored(back_to_back(10), lambda w: float(w[0] >= 3.0), boundaries=shown)

    def predict(scores: Array) -> tuple[Prediction, ...]:
        return (Prediction(label="still", index=0, score=float(scores[0])),)

    shots = shots_of(of, predict)
    assert [(shot.start_s, shot.transition) for shot in shots] == [(0, "start"), (3.0, "cut"), (6.5, "dissolve")]
    assert [shot.predictions[0].score for shot in shots] == [0, 1, 1]
    assert all(shot.start_s < shot.key_s < shot.end_s for shot in shots)


def test_a_union_joins_what_overlaps_or_touches() -> None:
    assert union([(3, 4), (0, 1), (1, 2), (3.5, 5)]) == [(0, 2), (3, 5)]
