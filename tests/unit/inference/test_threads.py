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
    times = {1: iter((0.1, 0.1, 0.1)), 2: iter((0.9, 0.104, 0.9))}
    assert pick_thread_count(lambda threads: next(times[threads]), 2) == 2


@pytest.mark.parametrize(
    ("seconds", "wanted", "runs"),
    [({1: 4.0, 2: 4.4}, 2, 1), ({1: 0.4, 2: 0.44}, 2, 3), ({1: 4.0, 2: 6.0}, 1, 3)],
    ids=["long and worth it", "short", "long and not worth it"],
)
def test_a_long_run_is_repeated_only_where_it_speaks_against_threads(
    seconds: dict[int, float], wanted: int, runs: int
) -> None:
    asked: list[int] = []

    def timed(threads: int) -> float:
        asked.append(threads)
        return seconds[threads]

    assert pick_thread_count(timed, 2) == wanted
    assert asked == [1, 2] * runs


@pytest.mark.parametrize("variable", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_what_the_environment_says_of_spinning_stands(variable: str) -> None:
    environment = {variable: "as it was"}
    limit_omp_spin(environment)
    assert environment == {variable: "as it was"}


def test_without_a_word_threads_spin_briefly() -> None:
    environment: dict[str, str] = {}
    limit_omp_spin(environment)
    assert environment == SPIN
