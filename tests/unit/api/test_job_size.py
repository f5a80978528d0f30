"""How many clips a job with evidence may have, and how many numbers an answer."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from service.api.job_size import JobSizeConfig, check_cells, job_size
from service.contracts import JobRequest
from service.errors import EvidenceTooLarge, SpatialAttentionTooLarge
from service.queue.capacity import CapacityConfig
from service.settings import Settings
from testing.factories import spec

CONFIG = JobSizeConfig(max_auto_windows=10, max_clips_per_job=200, max_evidence_forwards=1024, max_spatial_cells=1000)
ONE = JobRequest(windows=1, evidence="causal")


def test_a_queue_without_room_for_the_largest_evidence_lowers_its_limit_and_says_so() -> None:
    with capture_logs() as logged:
        small = CONFIG.within(200)
    [line] = logged
    assert (line["event"], line["max_evidence_forwards"], line["limit"]) == ("evidence_limit_lowered", 1024, 200)
    assert (small.max_evidence_forwards, small.max_clips_per_job) == (200, 200)
    with pytest.raises(EvidenceTooLarge) as refused:
        job_size(small, spec(frames=8), ONE)
    assert (refused.value.limit, refused.value.actual) == (200, 256)


def test_a_queue_with_room_keeps_the_limit_and_says_nothing() -> None:
    with capture_logs() as logged:
        assert CONFIG.within(1024) is CONFIG
    assert logged == []


def test_the_share_of_one_of_two_partitions_is_below_the_default_limit() -> None:
    settings = Settings(_env_file=None, queue_partitions=2)
    share = settings.subset(CapacityConfig).share(settings.queue_partitions)
    assert settings.subset(JobSizeConfig).within(share.max_queue_clips).max_evidence_forwards == 1000


def test_one_window_of_many_is_counted_as_one() -> None:
    many = JobRequest(windows=100, evidence="causal")
    one = many.model_copy(update={"evidence_window": 7})
    assert job_size(CONFIG, spec(frames=8), many).clips == 1024
    assert job_size(CONFIG, spec(frames=8), one).clips == 100 + 255


def test_attention_in_space_is_refused_beyond_its_numbers_with_limit_and_actual() -> None:
    looking = JobRequest(attention="spatial")
    model = spec(frames=8, spatial_grid=(5, 5))
    check_cells(1000, model, looking, 5)
    with pytest.raises(SpatialAttentionTooLarge, match="6 clips of 8 frames of 5 x 5 places has 1200") as refused:
        check_cells(1000, model, looking, 6)
    assert (refused.value.limit, refused.value.actual) == (1000, 1200)
    check_cells(1000, model, JobRequest(attention="layers"), 6)


def test_a_single_window_with_too_many_numbers_is_refused_before_its_video_is_sent() -> None:
    model = spec(frames=8, spatial_grid=(8, 8))
    job_size(CONFIG, model, JobRequest(attention="spatial", windows="all"))
    with pytest.raises(SpatialAttentionTooLarge):
        job_size(CONFIG, model, JobRequest(attention="spatial", windows="all", crops=3))
