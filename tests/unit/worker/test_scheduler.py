from service.contracts import JobClass
from service.worker.scheduler import ClassScheduler

INTERACTIVE, BULK = JobClass.INTERACTIVE, JobClass.BULK


def served(scheduler: ClassScheduler, batches: int) -> list[JobClass]:
    """The classes that get the next batches while both wait."""
    order = []
    for _ in range(batches):
        job_class, model = scheduler.order(["m"])[0]
        scheduler.record(job_class, model)
        order.append(job_class)
    return order


def test_while_both_wait_bulk_gets_one_batch_after_the_weight_of_interactive_ones() -> None:
    assert served(ClassScheduler(3), 8) == [INTERACTIVE, INTERACTIVE, INTERACTIVE, BULK] * 2


def test_a_class_that_does_not_wait_costs_the_other_nothing() -> None:
    scheduler = ClassScheduler(2)
    for _ in range(5):
        scheduler.record(INTERACTIVE, "m")
    assert [job_class for job_class, _ in scheduler.order(["m"])] == [BULK, INTERACTIVE]


def test_models_take_turns() -> None:
    scheduler = ClassScheduler(9)
    firsts = []
    for _ in range(4):
        job_class, model = scheduler.order(["a", "b", "c"])[0]
        scheduler.record(job_class, model)
        firsts.append(model)
    assert firsts == ["a", "b", "c", "a"]


def test_a_model_that_is_no_longer_served_does_not_upset_the_turns() -> None:
    scheduler = ClassScheduler(9)
    scheduler.record(INTERACTIVE, "gone")
    assert [model for _, model in scheduler.order(["a", "b"])][:2] == ["a", "b"]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_batch_of_bulk_is_short_while_interactive_clips_come() -> None:
    scheduler = ClassScheduler(4, 0.025, Clock())
    assert scheduler.most(BULK, 8, 80.0) == 8
    scheduler.record(INTERACTIVE, "m")
    assert [scheduler.most(BULK, 8, per_s) for per_s in (10.0, 80.0, 4000.0)] == [1, 2, 8]
    assert scheduler.most(INTERACTIVE, 8, 80.0) == 8


def test_batches_of_bulk_are_full_again_some_seconds_after_the_last_interactive_one() -> None:
    clock = Clock()
    scheduler = ClassScheduler(4, 0.025, clock)
    scheduler.record(INTERACTIVE, "m")
    clock.now += 6
    assert scheduler.most(BULK, 8, 80.0) == 8


def test_batches_of_bulk_are_full_where_nothing_was_measured_or_no_time_is_set() -> None:
    for scheduler, per_s in ((ClassScheduler(4, 0.025), None), (ClassScheduler(4, 0.0), 80.0)):
        scheduler.record(INTERACTIVE, "m")
        assert scheduler.most(BULK, 8, per_s) == 8
