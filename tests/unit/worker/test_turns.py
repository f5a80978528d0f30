from service.contracts import JobClass
from service.worker.turns import Turns

INTERACTIVE, BULK = JobClass.INTERACTIVE, JobClass.BULK


def served(turns: Turns, batches: int) -> list[JobClass]:
    """The classes that get the next batches while both wait."""
    order = []
    for _ in range(batches):
        job_class, model = turns.order(["m"])[0]
        turns.took(job_class, model)
        order.append(job_class)
    return order


def test_while_both_wait_bulk_gets_one_batch_after_the_weight_of_interactive_ones() -> None:
    assert served(Turns(3), 8) == [INTERACTIVE, INTERACTIVE, INTERACTIVE, BULK] * 2


def test_a_class_that_does_not_wait_costs_the_other_nothing() -> None:
    turns = Turns(2)
    for _ in range(5):
        turns.took(INTERACTIVE, "m")
    assert [job_class for job_class, _ in turns.order(["m"])] == [BULK, INTERACTIVE]


def test_models_take_turns() -> None:
    turns = Turns(9)
    firsts = []
    for _ in range(4):
        job_class, model = turns.order(["a", "b", "c"])[0]
        turns.took(job_class, model)
        firsts.append(model)
    assert firsts == ["a", "b", "c", "a"]


def test_a_model_that_is_no_longer_served_does_not_upset_the_turns() -> None:
    turns = Turns(9)
    turns.took(INTERACTIVE, "gone")
    assert [model for _, model in turns.order(["a", "b"])][:2] == ["a", "b"]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_batch_of_bulk_is_short_while_interactive_clips_come() -> None:
    turns = Turns(4, 0.025, Clock())
    assert turns.most(BULK, 8, 80.0) == 8
    turns.took(INTERACTIVE, "m")
    assert [turns.most(BULK, 8, per_s) for per_s in (10.0, 80.0, 4000.0)] == [1, 2, 8]
    assert turns.most(INTERACTIVE, 8, 80.0) == 8


def test_batches_of_bulk_are_full_again_some_seconds_after_the_last_interactive_one() -> None:
    clock = Clock()
    turns = Turns(4, 0.025, clock)
    turns.took(INTERACTIVE, "m")
    clock.now += 6
    assert turns.most(BULK, 8, 80.0) == 8


def test_batches_of_bulk_are_full_where_nothing_was_measured_or_no_time_is_set() -> None:
    for turns, per_s in ((Turns(4, 0.025), None), (Turns(4, 0.0), 80.0)):
        turns.took(INTERACTIVE, "m")
        assert turns.most(BULK, 8, per_s) == 8
