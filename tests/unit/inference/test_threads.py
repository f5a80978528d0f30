"""How many threads a forward takes, with given CPU seconds instead of a clock."""

import pytest

from service.inference.threads import SPIN, limit_omp_spin, pick_thread_count


@pytest.mark.parametrize(
    ("seconds", "most", "wanted"),
    [
        ({1: 1.0, 2: 1.04}, 2, 2),
        ({1: 1.0, 2: 1.40}, 2, 1),
        ({1: 1.0, 2: 1.10, 4: 1.16, 6: 1.50}, 6, 4),
        ({1: 1.0, 2: 1.40, 4: 1.04}, 4, 4),
        ({1: 1.0}, 1, 1),
    ],
    ids=["both", "not worth it", "fewer than all", "all though not half of them", "one core"],
)
def test_as_many_threads_are_taken_as_waste_little(seconds: dict[int, float], most: int, wanted: int) -> None:
    assert pick_thread_count(seconds.__getitem__, most) == wanted


def test_one_slow_run_does_not_decide() -> None:
    times = {1: iter((1.0, 1.0, 1.0)), 2: iter((9.0, 1.04, 9.0))}
    assert pick_thread_count(lambda threads: next(times[threads]), 2) == 2


@pytest.mark.parametrize("variable", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_what_the_environment_says_of_spinning_stands(variable: str) -> None:
    environment = {variable: "as it was"}
    limit_omp_spin(environment)
    assert environment == {variable: "as it was"}


def test_without_a_word_threads_spin_briefly() -> None:
    environment: dict[str, str] = {}
    limit_omp_spin(environment)
    assert environment == SPIN
