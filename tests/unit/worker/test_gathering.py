from service.queue.entries import ClipEntry
from service.worker.gathering import Gathering


def entry(*, followed: bool) -> ClipEntry:
    return ClipEntry("1-0", "m", "1", "job", 0, (4, 8, 8, 3), 0.0, 0.0, followed=followed)


class Clock:
    now = 5.0

    def __call__(self) -> float:
        return self.now


def test_the_first_batch_begins_at_once() -> None:
    assert Gathering(0.025).left_s == 0


def test_after_a_batch_that_others_follow_the_next_one_waits_for_them() -> None:
    clock = Clock()
    gathering = Gathering(0.025, clock)
    gathering.took([entry(followed=False), entry(followed=True)], 8)
    clock.now += 0.010
    assert round(gathering.left_s, 6) == 0.015
    clock.now += 0.020
    assert gathering.left_s == 0


def test_nobody_waits_where_no_upload_queues() -> None:
    gathering = Gathering(0.025, Clock())
    gathering.took([entry(followed=True)], 8)
    gathering.took([entry(followed=False)], 8)
    assert gathering.left_s == 0


def test_nobody_waits_after_a_full_batch() -> None:
    gathering = Gathering(0.025, Clock())
    gathering.took([entry(followed=True)] * 2, 2)
    assert gathering.left_s == 0
