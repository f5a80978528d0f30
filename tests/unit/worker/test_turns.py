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
