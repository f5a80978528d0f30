from service.queue.clip_entries import ClipEntry
from service.worker.batch_delay import BatchDelay


def entry(*, more_coming: bool) -> ClipEntry:
    return ClipEntry("1-0", "m", "1", "job", 0, (4, 8, 8, 3), 0.0, 0.0, more_coming=more_coming)


class Clock:
    now = 5.0

    def __call__(self) -> float:
        return self.now


def test_the_first_batch_begins_at_once() -> None:
    assert BatchDelay(0.025).left_s == 0


def test_after_a_batch_that_others_follow_the_next_one_waits_for_them() -> None:
    clock = Clock()
    batch_delay = BatchDelay(0.025, clock)
    batch_delay.record([entry(more_coming=False), entry(more_coming=True)], 8)
    clock.now += 0.010
    assert round(batch_delay.left_s, 6) == 0.015
    clock.now += 0.020
    assert batch_delay.left_s == 0


def test_nobody_waits_where_no_upload_queues() -> None:
    batch_delay = BatchDelay(0.025, Clock())
    batch_delay.record([entry(more_coming=True)], 8)
    batch_delay.record([entry(more_coming=False)], 8)
    assert batch_delay.left_s == 0


def test_nobody_waits_after_a_full_batch() -> None:
    batch_delay = BatchDelay(0.025, Clock())
    batch_delay.record([entry(more_coming=True)] * 2, 2)
    assert batch_delay.left_s == 0
