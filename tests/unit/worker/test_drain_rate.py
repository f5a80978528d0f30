import pytest

from service.worker.drain_rate import DrainRate


def test_it_is_clips_per_busy_second() -> None:
    rate = DrainRate()
    for _ in range(3):
        rate.observe("m", 2, 0.5, full=False)
    assert rate.by_model() == {"m": pytest.approx(4.0)}


def test_full_batches_count_alone_once_there_are_any() -> None:
    rate = DrainRate()
    rate.observe("m", 1, 1.0, full=False)
    rate.observe("m", 8, 1.0, full=True)
    rate.observe("m", 1, 1.0, full=False)
    assert rate.by_model() == {"m": pytest.approx(8.0)}


def test_a_worker_that_becomes_faster_is_soon_seen_as_faster() -> None:
    rate = DrainRate()
    for _ in range(50):
        rate.observe("m", 1, 1.0, full=True)
    for _ in range(50):
        rate.observe("m", 10, 1.0, full=True)
    assert rate.by_model()["m"] == pytest.approx(10.0, rel=0.05)


def test_nothing_measured_is_no_rate() -> None:
    assert DrainRate().by_model() == {}
